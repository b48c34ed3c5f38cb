// Attention's forward on tensor cores: half or bfloat16 in, float32 sums (sm_80 and later).
//
// The tiles are those of attention.cu, the products mma.sync of 16 × 8 outputs and 16 terms (attention_mma.cuh). A block
// owns 64 R queries, a warp 16 R of them, and walks over the keys, N at a time, while the next N are on their way. A row of
// scores belongs to four neighbouring lanes, which find its maximum and sum in two shuffles; p stays in registers between
// q kᵀ and p v.
// Bytes: 2 (2 T + 2 S) D a head. At B8 H16 T2048 D64, causal, 134 MB are 0.03 ms at 4.8 TB/s, and 69 GFLOP are 0.11 ms at
// the 600 TFLOP/s that mma.sync can reach on a card whose wider instructions reach 990.
#include "attention_mma.cuh"

// Over the four lanes that share a row.
__device__ inline float row_sum(float x) {
    x += __shfl_xor_sync(FULL, x, 1);
    return x + __shfl_xor_sync(FULL, x, 2);
}
__device__ inline float row_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(FULL, x, 1));
    return fmaxf(x, __shfl_xor_sync(FULL, x, 2));
}

// y = softmax(scale q kᵀ) v for 64 R queries of head h, whose keys are those of head kh; lse (T,) of this head.
template <typename F, int D, int R, int N>
__device__ void forward(Heads<const F> q, Heads<const F> k, Heads<const F> v, Heads<F> y, float* lse, int h, int kh,
                        Sizes z) {
    extern __shared__ float4 shared[];
    int t0 = blockIdx.x * WARPS * R * STRIPE, t1 = t0 + threadIdx.x / 32 * R * STRIPE;        // of the block, of the warp

    unsigned queries[D / 16][R][4];
    load_rows<R, D>(queries, q, h, t1, z.T);
    float out[R][D / 8][4] = {}, peak[R][2], total[R][2] = {};
    UNROLL for (int r = 0; r < R; r++) peak[r][0] = peak[r][1] = -INFINITY_F;
    float scale2 = z.scale * LOG2_E;

    int end = z.seen((t0 + WARPS * R * STRIPE < z.T ? t0 + WARPS * R * STRIPE : z.T) - 1);    // the last query sees most
    auto fetch = [&](int s0) {                             // a tile, into one half of shared memory in turn
        F* tile = (F*)shared + s0 / N % 2 * 2 * N * (D + PAD);
        fetch_tile<N, D>(tile, k, kh, s0, z.S);
        fetch_tile<N, D>(tile + N * (D + PAD), v, kh, s0, z.S);
    };
    if (end > 0) fetch(0);
    for (int s0 = 0; s0 < end; s0 += N) {
        wait_for_copies();
        __syncthreads();                                   // it has come, the one before is used up
        if (s0 + N < end) fetch(s0 + N);
        const F *k_tile = (F*)shared + s0 / N % 2 * 2 * N * (D + PAD), *v_tile = k_tile + N * (D + PAD);

        float p[R][N / 8][4] = {};
        rows_by_rows<D>(p, queries, k_tile);
        bool edge = s0 + N > z.seen(t1);                   // some query of the warp sees not all
        UNROLL for (int r = 0; r < R; r++)
            UNROLL for (int half = 0; half < 2; half++) {  // row l/4, and row l/4 + 8
                int seen = z.seen(t1 + r * STRIPE + lane_row() + half * 8);
                float most = peak[r][half];
                UNROLL for (int j = 0; j < N / 8; j++)
                    UNROLL for (int e = 2 * half; e < 2 * half + 2; e++) {
                        if (edge && s0 + j * 8 + lane_column() + e % 2 >= seen) p[r][j][e] = -INFINITY_F;
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
        weigh_rows<D>(out, p, v_tile);
    }
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int half = 0; half < 2; half++) {
            float sum = row_sum(total[r][half]), share = sum > 0 ? 1 / sum : 0.0f;
            int t = t1 + r * STRIPE + lane_row() + half * 8;
            if (threadIdx.x % 4 == 0 && t < z.T) lse[t] = peak[r][half] * z.scale + logf(sum);     // −∞: nothing was seen
            UNROLL for (int j = 0; j < D / 8; j++) out[r][j][2 * half] *= share, out[r][j][2 * half + 1] *= share;
        }
    write_rows<R, D>(y, h, t1, z.T, out, 1);
}

// ---- kernels: as in attention.cu, D being the head size itself ----------------------------------------------------------

template <typename F, int D, int R, int N>
__global__ void __launch_bounds__(THREADS, 2) attention_forward_mma(
        const F* q, const F* k, const F* v, const int* lengths, F* y, float* lse,
        int H, int K, int T, int S, int causal, float scale) {
    int b = blockIdx.z, h = blockIdx.y;
    Sizes z{T, S, D, lengths[b], causal, scale};
    forward<F, D, R, N>(apart(q, H, T, D), apart(k, K, S, D), apart(v, K, S, D), apart(y, H, T, D),
                        lse + ((long long)b * H + h) * T, h, h / (H / K), z);
}

template <typename F, int D, int R, int N>
__global__ void __launch_bounds__(THREADS, 2) qkv_attention_forward_mma(
        const F* qkv, F* y, float* lse, int H, int T, float scale) {
    int b = blockIdx.z, h = blockIdx.y;
    Sizes z{T, T, D, T, 1, scale};
    forward<F, D, R, N>(side_by_side(qkv, 0, 3, H, T, D), side_by_side(qkv, 1, 3, H, T, D), side_by_side(qkv, 2, 3, H, T, D),
                        side_by_side(y, 0, 1, H, T, D), lse + ((long long)b * H + h) * T, h, h, z);
}

// instances: attention_forward_mma<half_t|bf16_t, 16|32, 2, 64>, attention_forward_mma<half_t|bf16_t, 48|64, 2, 32>
// instances: attention_forward_mma<half_t|bf16_t, 80|96|112|128, 1, 32>
// instances: qkv_attention_forward_mma<half_t|bf16_t, 16|32, 2, 64>, qkv_attention_forward_mma<half_t|bf16_t, 48|64, 2, 32>
// instances: qkv_attention_forward_mma<half_t|bf16_t, 80|96|112|128, 1, 32>
