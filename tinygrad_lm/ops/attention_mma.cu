// Attention's forward on tensor cores: half or bfloat16 in, float32 sums (sm_80 and later).
//
// The tiles are those of attention.cu, the products mma.sync of 16 × 8 outputs and 16 terms. A block of 4 warps owns
// 64 R queries; a warp owns R stripes of 16 of them, whole rows: its queries stay in registers as a-fragments, and so do
// scores and sums. That the accumulators of q kᵀ are, lane by lane, the a-fragment of the next product, p v, is what makes
// it fast: p never leaves the registers ([FLASH2], sec. 3.3: no exchange between warps).
// Of a 16 × 8 accumulator, lane l holds row l/4, columns 2 (l%4) and the next, and the same two of row l/4 + 8. Rows so
// belong to four neighbouring lanes, which find maximum and sum in two shuffles.
// Keys and values pass through shared memory, N at a time, and reach the lanes by ldmatrix; a fragment of them serves R
// products. Rows are 16 bytes longer than D numbers, so that ldmatrix's 8 rows of 16 bytes fall into different banks.
// Bytes: 2 (2 T + 2 S) D a head. At B8 H16 T2048 D64, causal, 134 MB are 0.03 ms at 4.8 TB/s, and 69 GFLOP are 0.11 ms at
// the 600 TFLOP/s that mma.sync can reach on a card whose wider instructions reach 990.
#include "device.cuh"

constexpr int WARPS = 4, THREADS = 32 * WARPS, STRIPE = 16;
#define UNROLL _Pragma("unroll")           // arrays stay in registers only where every index is known to the compiler
constexpr int PAD = 8;                     // numbers, 16 bytes


// ---- what registers hold ----------------------------------------------------------------------------------------------

// Two numbers in one register, the first in its lower half.
template <typename F> __device__ inline unsigned pack(float low, float high) {
    F a, b;
    store(&a, low);
    store(&b, high);
    return a.bits | unsigned(b.bits) << 16;
}
#if !defined(EMULATOR) && __CUDA_ARCH__ >= 800             // one instruction
template <> __device__ inline unsigned pack<half_t>(float low, float high) {
    unsigned two;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(two) : "f"(high), "f"(low));
    return two;
}
template <> __device__ inline unsigned pack<bf16_t>(float low, float high) {
    unsigned two;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(two) : "f"(high), "f"(low));
    return two;
}
#endif

// Four 8 × 8 matrices from shared memory. Lane l gives the address of row l%8 of matrix l/8, 16 bytes, and receives of
// each matrix numbers 2 (l%4) and the next of row l/4; of its transpose, with `across`: what mma takes as b.
template <bool across, typename F> __device__ inline void load_matrices(unsigned (&r)[4], const F* row) {
#ifdef EMULATOR
    int lane = threadIdx.x % 32, down = lane / 4, along = 2 * (lane % 4);
    const F* rows[32];                                     // what each lane gave
    emulator::exchange(FULL, &row, rows, sizeof row, __LINE__);
    for (int m = 0; m < 4; m++) {
        F low = across ? rows[8 * m + along][down] : rows[8 * m + down][along];
        F high = across ? rows[8 * m + along + 1][down] : rows[8 * m + down][along + 1];
        r[m] = low.bits | unsigned(high.bits) << 16;
    }
#else
    unsigned address;                                      // within shared memory
    asm("{ .reg .u64 a; cvta.to.shared.u64 a, %1; cvt.u32.u64 %0, a; }" : "=r"(address) : "l"(row));
    if (across)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
#endif
}

// Over the four lanes that share a row.
__device__ inline float row_sum(float x) {
    x += __shfl_xor_sync(FULL, x, 1);
    return x + __shfl_xor_sync(FULL, x, 2);
}
__device__ inline float row_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(FULL, x, 1));
    return fmaxf(x, __shfl_xor_sync(FULL, x, 2));
}

// ---- shared memory ----------------------------------------------------------------------------------------------------

// tile (N, D + PAD) = rows first, first + 1, … of x, whose rows are `row` numbers apart; zeros past row `end`. 16 bytes a
// thread at a time.
template <int N, int D, typename F>
__device__ void load_tile(F* tile, const F* x, long long row, int first, int end) {
    for (int i = threadIdx.x; i < N * D / 8; i += THREADS) {
        int r = i / (D / 8), c = i % (D / 8) * 8;
        float4 eight = {0, 0, 0, 0};
        if (first + r < end) eight = *(const float4*)(x + (first + r) * row + c);
        *(float4*)(tile + r * (D + PAD) + c) = eight;
    }
}

// ---- forward ----------------------------------------------------------------------------------------------------------

// y = softmax(scale q kᵀ) v for 64 R queries of one head; q, k, v, y point to its rows 0, which are *_row numbers apart.
// lse (T,) of this head. Of S keys the first `keys` count.
template <typename F, int D, int R, int N>
__device__ void forward(const F* q, const F* k, const F* v, F* y, float* lse, long long q_row, long long k_row,
                        long long y_row, int T, int S, int keys, int causal, float scale) {
    extern __shared__ float4 shared[];
    F *k_tile = (F*)shared, *v_tile = k_tile + N * (D + PAD);
    int lane = threadIdx.x % 32, row = lane / 4, column = 2 * (lane % 4);
    int t0 = blockIdx.x * WARPS * R * STRIPE, t1 = t0 + threadIdx.x / 32 * R * STRIPE;        // of the block, of the warp
    int past = causal ? S - T + 1 : S;                     // query t sees keys below past (+ t when causal), and `keys`

    unsigned a[R][D / 16][4];                              // the queries
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int d = 0; d < D / 16; d++)
            UNROLL for (int e = 0; e < 4; e++) {
                int t = t1 + r * STRIPE + row + e % 2 * 8;
                a[r][d][e] = t < T ? *(const unsigned*)(q + t * q_row + d * 16 + e / 2 * 8 + column) : 0;
            }
    float out[R][D / 8][4] = {}, peak[R][2], total[R][2] = {};
    UNROLL for (int r = 0; r < R; r++) peak[r][0] = peak[r][1] = -INFINITY_F;
    float scale2 = scale * 1.44269504f;                    // exp(x) = 2^(x log₂ e), the power that the card has

    int last = (t0 + WARPS * R * STRIPE < T ? t0 + WARPS * R * STRIPE : T) - 1;
    int end = past + (causal ? last : 0);
    if (end > keys) end = keys;
    for (int s0 = 0; s0 < end; s0 += N) {
        __syncthreads();                                   // the tile before is used up
        load_tile<N, D>(k_tile, k, k_row, s0, S);
        load_tile<N, D>(v_tile, v, k_row, s0, S);
        __syncthreads();

        float p[R][N / 8][4] = {};                         // q kᵀ
        UNROLL for (int d = 0; d < D / 16; d++)
            UNROLL for (int j = 0; j < N / 8; j += 2) {           // 16 keys: two fragments b
                unsigned b[4];
                load_matrices<false>(b, k_tile + (j * 8 + lane / 16 * 8 + lane % 8) * (D + PAD) + d * 16 + lane / 8 % 2 * 8);
                UNROLL for (int r = 0; r < R; r++) {
                    mma_16x8x16<F>(p[r][j], a[r][d], b);
                    mma_16x8x16<F>(p[r][j + 1], a[r][d], b + 2);
                }
            }
        bool edge = s0 + N > keys || (causal && s0 + N > past + t1);           // some query of the warp sees not all
        UNROLL for (int r = 0; r < R; r++)
            UNROLL for (int half = 0; half < 2; half++) {         // row l/4, and row l/4 + 8
                int t = t1 + r * STRIPE + row + half * 8, seen = past + (causal ? t : 0);
                if (seen > keys) seen = keys;
                float most = peak[r][half];
                UNROLL for (int j = 0; j < N / 8; j++)
                    UNROLL for (int e = 2 * half; e < 2 * half + 2; e++) {
                        if (edge && s0 + j * 8 + column + e % 2 >= seen) p[r][j][e] = -INFINITY_F;
                        most = fmaxf(most, p[r][j][e]);
                    }
                most = row_max(most);
                float shift = most == -INFINITY_F ? 0.0f : most * scale2;      // nothing seen so far: 2^(−∞ − 0) = 0
                float shrink = exp2f(peak[r][half] * scale2 - shift);
                total[r][half] *= shrink;
                UNROLL for (int j = 0; j < D / 8; j++) out[r][j][2 * half] *= shrink, out[r][j][2 * half + 1] *= shrink;
                UNROLL for (int j = 0; j < N / 8; j++)
                    UNROLL for (int e = 2 * half; e < 2 * half + 2; e++)
                        total[r][half] += p[r][j][e] = exp2f(p[r][j][e] * scale2 - shift);
                peak[r][half] = most;
            }
        UNROLL for (int s = 0; s < N / 16; s++) {                 // out += p v, 16 keys at a time
            unsigned w[R][4];
            UNROLL for (int r = 0; r < R; r++)
                UNROLL for (int e = 0; e < 4; e++)
                    w[r][e] = pack<F>(p[r][2 * s + e / 2][e % 2 * 2], p[r][2 * s + e / 2][e % 2 * 2 + 1]);
            UNROLL for (int j = 0; j < D / 8; j += 2) {           // 16 channels: two fragments b
                unsigned b[4];
                load_matrices<true>(b, v_tile + (s * 16 + lane % 16) * (D + PAD) + j * 8 + lane / 16 * 8);
                UNROLL for (int r = 0; r < R; r++) {
                    mma_16x8x16<F>(out[r][j], w[r], b);
                    mma_16x8x16<F>(out[r][j + 1], w[r], b + 2);
                }
            }
        }
    }
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int half = 0; half < 2; half++) {
            float sum = row_sum(total[r][half]), share = sum > 0 ? 1 / sum : 0.0f;
            int t = t1 + r * STRIPE + row + half * 8;
            if (t >= T) continue;
            if (lane % 4 == 0) lse[t] = peak[r][half] * scale + logf(sum);     // −∞ where nothing was seen
            UNROLL for (int j = 0; j < D / 8; j++)
                *(unsigned*)(y + t * y_row + j * 8 + column) =
                    pack<F>(out[r][j][2 * half] * share, out[r][j][2 * half + 1] * share);
        }
}

// ---- kernels: as in attention.cu, D being the head size itself ----------------------------------------------------------

template <typename F, int D, int R, int N>
__global__ void __launch_bounds__(THREADS, 2) attention_forward_mma(
        const F* q, const F* k, const F* v, const int* lengths, F* y, float* lse,
        int H, int K, int T, int S, int causal, float scale) {
    long long head = (long long)blockIdx.z * H + blockIdx.y, key_head = (long long)blockIdx.z * K + blockIdx.y / (H / K);
    forward<F, D, R, N>(q + head * T * D, k + key_head * S * D, v + key_head * S * D, y + head * T * D, lse + head * T,
                        D, D, D, T, S, lengths[blockIdx.z], causal, scale);
}

template <typename F, int D, int R, int N>
__global__ void __launch_bounds__(THREADS, 2) qkv_attention_forward_mma(
        const F* qkv, F* y, float* lse, int H, int T, float scale) {
    int C = H * D, h = blockIdx.y;
    long long tokens = (long long)blockIdx.z * T;
    const F* q = qkv + tokens * 3 * C + h * D;
    forward<F, D, R, N>(q, q + C, q + 2 * C, y + tokens * C + h * D, lse + tokens * H + (long long)h * T,
                        3 * C, 3 * C, C, T, T, T, 1, scale);
}

// instances: attention_forward_mma<half_t|bf16_t, 32, 2, 64>, attention_forward_mma<half_t|bf16_t, 64, 2, 32>
// instances: attention_forward_mma<half_t|bf16_t, 128, 1, 32>, qkv_attention_forward_mma<half_t|bf16_t, 32, 2, 64>
// instances: qkv_attention_forward_mma<half_t|bf16_t, 64, 2, 32>
// instances: qkv_attention_forward_mma<half_t|bf16_t, 128, 1, 32>
