// What attention's kernels on tensor cores share: rows in registers as fragments, tiles in shared memory, their products.
//
// A block has 4 warps. A warp owns R stripes of 16 rows (queries, or keys), whole rows: they stay in its registers as
// a-fragments, and so do its sums. Of a 16 × 8 accumulator, lane l holds row l/4, columns 2 (l%4) and the next, and the same
// two of row l/4 + 8. That the accumulators of a bᵀ are, lane by lane, the a-fragment of the next product is what makes
// attention fast: scores never leave the registers ([FLASH2], sec. 3.3: no exchange between warps).
// The rows that a block walks over pass through shared memory, and reach the lanes by ldmatrix; a fragment of them serves R
// products. Rows there are 16 bytes longer than D numbers, so that ldmatrix's 8 rows of 16 bytes fall into different banks.
#pragma once
#include "attention.cuh"

constexpr int WARPS = 4, THREADS = 32 * WARPS, STRIPE = 16;
constexpr int PAD = 8;                     // numbers, 16 bytes
constexpr float LOG2_E = 1.44269504f;      // exp(x) = 2^(x log₂ e), the power that the card has
#define UNROLL _Pragma("unroll")           // arrays stay in registers only where every index is known to the compiler

// Where a lane stands in an accumulator: its upper row, the first of its two columns.
__device__ inline int lane_row() { return threadIdx.x % 32 / 4; }
__device__ inline int lane_column() { return threadIdx.x % 4 * 2; }

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
    unsigned address = shared_address(row);
    if (across)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
#endif
}

// Rows first, first + 1, … of head h as a-fragments, 16 channels after 16; zeros past row `end`.
template <int R, int D, typename F>
__device__ void load_rows(unsigned (&a)[D / 16][R][4], Heads<const F> x, int h, int first, int end) {
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int e = 0; e < 4; e++) {
            int t = first + r * STRIPE + lane_row() + e % 2 * 8;
            UNROLL for (int d = 0; d < D / 16; d++)
                a[d][r][e] = t < end ? *(const unsigned*)(x(h, t) + d * 16 + e / 2 * 8 + lane_column()) : 0;
        }
}

// Rows first, first + 1, … of head h = scale × the warp's sums.
template <int R, int D, typename F>
__device__ void write_rows(Heads<F> x, int h, int first, int end, const float (&sum)[R][D / 8][4], float scale) {
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int half = 0; half < 2; half++) {      // row l/4, and row l/4 + 8
            int t = first + r * STRIPE + lane_row() + half * 8;
            if (t >= end) continue;
            UNROLL for (int j = 0; j < D / 8; j++)
                *(unsigned*)(x(h, t) + j * 8 + lane_column()) =
                    pack<F>(sum[r][j][2 * half] * scale, sum[r][j][2 * half + 1] * scale);
        }
}

// ---- shared memory ----------------------------------------------------------------------------------------------------

// tile (N, D + PAD) = rows first, first + 1, … of head h, zeros past row `end`: on their way, 16 bytes a thread at a time.
template <int N, int D, typename F>
__device__ void fetch_tile(F* tile, Heads<const F> x, int h, int first, int end) {
#pragma unroll 1                                           // nothing is waited for here
    for (int i = threadIdx.x; i < N * D / 8; i += THREADS) {
        int r = i / (D / 8), c = i % (D / 8) * 8;
        start_copy<16>(tile + r * (D + PAD) + c, x(h, first + r) + c, first + r < end);
    }
}

// ---- products ---------------------------------------------------------------------------------------------------------

// c (16 R, 8 J) += 16 terms of a bᵀ: of fragments a (16 R, 16) and 16 columns of a tile b (8 J, 16), its rows W apart.
template <int W, int R, int J, typename F>
__device__ void add_terms(float (&c)[R][J][4], const unsigned (&a)[R][4], const F* b) {
    int lane = threadIdx.x % 32;
    UNROLL for (int j = 0; j < J; j += 2) {                // 16 rows of b: two fragments
        unsigned two[4];
        load_matrices<false>(two, b + (j * 8 + lane / 16 * 8 + lane % 8) * W + lane / 8 % 2 * 8);
        UNROLL for (int r = 0; r < R; r++) {
            mma_16x8x16<F>(c[r][j], a[r], two);
            mma_16x8x16<F>(c[r][j + 1], a[r], two + 2);
        }
    }
}

// c (16 R, 8 J) += a bᵀ, of the warp's rows a (16 R, D), in registers, and the first rows of a tile b (8 J, D).
template <int D, int R, int J, typename F>
__device__ void rows_by_rows(float (&c)[R][J][4], const unsigned (&a)[D / 16][R][4], const F* b) {
    UNROLL for (int d = 0; d < D / 16; d++) add_terms<D + PAD>(c, a[d], b + d * 16);
}
// The same with a in shared memory: fewer registers, and more to read.
template <int D, int R, int J, typename F>
__device__ void rows_by_rows(float (&c)[R][J][4], const F* a, const F* b) {
    int lane = threadIdx.x % 32;
    UNROLL for (int d = 0; d < D / 16; d++) {
        unsigned sixteen[R][4];
        UNROLL for (int r = 0; r < R; r++)
            load_matrices<false>(sixteen[r], a + (r * STRIPE + lane % 16) * (D + PAD) + d * 16 + lane / 16 * 8);
        add_terms<D + PAD>(c, sixteen, b + d * 16);
    }
}

// sum (16 R, D) += w x, of accumulators w (16 R, 8 J), rounded to F, and the first rows of a tile x (8 J, D).
template <int D, int R, int J, typename F>
__device__ void weigh_rows(float (&sum)[R][D / 8][4], const float (&w)[R][J][4], const F* x) {
    int lane = threadIdx.x % 32;
    UNROLL for (int s = 0; s < J / 2; s++) {               // 16 rows at a time
        unsigned a[R][4];
        UNROLL for (int r = 0; r < R; r++)
            UNROLL for (int e = 0; e < 4; e++)
                a[r][e] = pack<F>(w[r][2 * s + e / 2][e % 2 * 2], w[r][2 * s + e / 2][e % 2 * 2 + 1]);
        UNROLL for (int j = 0; j < D / 8; j += 2) {        // 16 channels: two fragments
            unsigned two[4];
            load_matrices<true>(two, x + (s * 16 + lane % 16) * (D + PAD) + j * 8 + lane / 16 * 8);
            UNROLL for (int r = 0; r < R; r++) {
                mma_16x8x16<F>(sum[r][j], a[r], two);
                mma_16x8x16<F>(sum[r][j + 1], a[r], two + 2);
            }
        }
    }
}
