// Attention's backward on tensor cores: half or bfloat16 in, float32 sums (sm_80 and later).
//
// As in attention.cu, p is made again from the scores and lse, and ds = p (dp − delta) from dp = dy vᵀ ([FLASH2], alg. 2);
// one kernel owns keys and walks over the queries for dk and dv, one owns queries and walks over the keys for dq. Nothing is
// added by two blocks: the sums are the same every time, without atomics. The price: q kᵀ and dy vᵀ are made twice, 7
// products where 5 would do.
// Each is the forward's loop with another choice of rows (attention_mma.cuh). The owner of keys makes p and ds transposed,
// keys down, so that they are at once the a-fragments of pᵀ dy and dsᵀ q. Of the N rows of a tile in shared memory, 16 are
// worked through at a time: their scores are two accumulators a stripe for p, two for ds, and one a-fragment each. These are
// rounded to two bytes for the products that follow. The scale of ds is left to the sums.
// Bytes: 2 (5 T + 6 S) D a head, q, k, v and dy being read by both. At B8 H16 T2048 D64, causal, 369 MB are 0.08 ms at
// 4.8 TB/s, and 240 GFLOP are 0.40 ms at 600 TFLOP/s.
#include "attention_mma.cuh"

constexpr int STEP = 16;

// lse as a power of two. Of a query that sees nothing it is −∞; as +∞, no score gets a share: 2^(−∞ − ∞) = 0.
__device__ inline float in_powers_of_2(float lse) { return lse == -INFINITY_F ? INFINITY_F : lse * LOG2_E; }

// From s = q · k and dp = dy · v of one pair to p and ds / scale.
__device__ inline void pair(float& s, float& dp, float scale2, float lse2, float delta) {
    s = exp2f(s * scale2 - lse2);
    dp = s * (dp - delta);
}

// dk = dsᵀ q and dv = pᵀ dy for 64 R keys of head kh, summed over the queries of its `group` heads. lse and delta (H, T).
// The block holds in shared memory the values, and queries and dy of this tile and the next; a warp 16 R keys; a thread its
// part of their k (R D/4 registers) and of dk and dv (R D). That leaves no room for v, which is read again at every step.
template <typename F, int D, int R, int N>
__device__ void key_gradients(Heads<const F> q, Heads<const F> k, Heads<const F> v, Heads<const F> dy, const float* lse,
                              const float* delta, Heads<F> dk, Heads<F> dv, int kh, int group, Sizes z) {
    extern __shared__ float4 shared[];
    F* values = (F*)shared;                                                    // (64 R, D + PAD)
    F *q_tiles = values + WARPS * R * STRIPE * (D + PAD), *dy_tiles = q_tiles + 2 * N * (D + PAD);         // (2, N, D + PAD)
    float *lse_tiles = (float*)(dy_tiles + 2 * N * (D + PAD)), *delta_tiles = lse_tiles + 2 * N;           // (2, N)
    int s0 = blockIdx.x * WARPS * R * STRIPE, s1 = s0 + threadIdx.x / 32 * R * STRIPE;        // of the block, of the warp

    unsigned keys[D / 16][R][4];
    load_rows<R, D>(keys, k, kh, s1, z.S);
    float sum_k[R][D / 8][4] = {}, sum_v[R][D / 8][4] = {};
    float scale2 = z.scale * LOG2_E;

    int first = z.causal && s0 > z.S - z.T ? s0 - (z.S - z.T) : 0;             // the first query that sees one of these keys
    int start = first / N * N, tiles = s0 < z.keys && start < z.T ? (z.T - start + N - 1) / N : 0;            // of each head
    auto fetch = [&](int i) {                                                  // tile i of all heads, into one half in turn
        int h = kh * group + i / tiles, t0 = start + i % tiles * N, half = i % 2 * N;
        fetch_tile<N, D>(q_tiles + half * (D + PAD), q, h, t0, z.T);
        fetch_tile<N, D>(dy_tiles + half * (D + PAD), dy, h, t0, z.T);
        int t = t0 + threadIdx.x;
        if (threadIdx.x < N) {
            start_copy<4>(lse_tiles + half + threadIdx.x, lse + (long long)h * z.T + t, t < z.T);
            start_copy<4>(delta_tiles + half + threadIdx.x, delta + (long long)h * z.T + t, t < z.T);
        }
    };
    if (tiles) {
        fetch_tile<WARPS * R * STRIPE, D>(values, v, kh, s0, z.S);
        fetch(0);
    }
    values += (s1 - s0) * (D + PAD);                                           // from here on the warp's own
    for (int i = 0; i < tiles * group; i++) {
        wait_for_copies();
        __syncthreads();                                                       // it has come, the one before is used up
        if (i + 1 < tiles * group) fetch(i + 1);
#pragma unroll 1
        for (int n = 0; n < N; n += STEP) {
            int t0 = start + i % tiles * N + n, at = i % 2 * N + n;            // the step's first query, its place in tiles
            if (t0 >= z.T || z.seen(t0 + STEP - 1) <= s1) continue;            // no query sees a key of the warp
            bool edge = z.seen(t0) < s1 + R * STRIPE;                          // some query sees not all of them
            float p[R][2][4] = {}, ds[R][2][4] = {};                           // keys down, queries across
            rows_by_rows<D>(p, keys, q_tiles + at * (D + PAD));
            rows_by_rows<D>(ds, (const F*)values, (const F*)dy_tiles + at * (D + PAD));
            if (edge)
                UNROLL for (int j = 0; j < 2; j++)
                    UNROLL for (int e = 0; e < 2; e++) {
                        int below = z.seen(t0 + j * 8 + lane_column() + e) - s1 - lane_row();
                        UNROLL for (int r = 0; r < R; r++)
                            UNROLL for (int half = 0; half < 2; half++)
                                if (r * STRIPE + half * 8 >= below) p[r][j][2 * half + e] = -INFINITY_F;
                    }
            UNROLL for (int j = 0; j < 2; j++)
                UNROLL for (int e = 0; e < 2; e++) {
                    int column = at + j * 8 + lane_column() + e;
                    float lse2 = in_powers_of_2(lse_tiles[column]), d = delta_tiles[column];
                    UNROLL for (int r = 0; r < R; r++)
                        UNROLL for (int half = 0; half < 2; half++)
                            pair(p[r][j][2 * half + e], ds[r][j][2 * half + e], scale2, lse2, d);
                }
            weigh_rows<D>(sum_v, p, dy_tiles + at * (D + PAD));
            weigh_rows<D>(sum_k, ds, q_tiles + at * (D + PAD));
        }
    }
    write_rows<R, D>(dk, kh, s1, z.S, sum_k, z.scale);
    write_rows<R, D>(dv, kh, s1, z.S, sum_v, 1);
}

// dq = ds k for 64 R queries of head h. lse and delta (T,) of this head.
// The block holds in shared memory keys and values of this tile and the next; a warp 16 R queries; a thread its part of
// their q and dy (R D/2 registers) and of dq (R D/2), and lse and delta of two queries a stripe.
template <typename F, int D, int R, int N>
__device__ void query_gradients(Heads<const F> q, Heads<const F> k, Heads<const F> v, Heads<const F> dy, const float* lse,
                                const float* delta, Heads<F> dq, int h, int kh, Sizes z) {
    extern __shared__ float4 shared[];
    F *k_tiles = (F*)shared, *v_tiles = k_tiles + 2 * N * (D + PAD);           // (2, N, D + PAD)
    int t0 = blockIdx.x * WARPS * R * STRIPE, t1 = t0 + threadIdx.x / 32 * R * STRIPE;        // of the block, of the warp

    unsigned queries[D / 16][R][4], dys[D / 16][R][4];
    load_rows<R, D>(queries, q, h, t1, z.T);
    load_rows<R, D>(dys, dy, h, t1, z.T);
    float sum[R][D / 8][4] = {}, lse2[R][2], d[R][2], scale2 = z.scale * LOG2_E;
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int half = 0; half < 2; half++) {                          // row l/4, and row l/4 + 8
            int t = t1 + r * STRIPE + lane_row() + half * 8;
            lse2[r][half] = t < z.T ? in_powers_of_2(lse[t]) : 0.0f;
            d[r][half] = t < z.T ? delta[t] : 0.0f;
        }

    int end = z.seen((t0 + WARPS * R * STRIPE < z.T ? t0 + WARPS * R * STRIPE : z.T) - 1);    // the last query sees most
    int warp_end = z.seen((t1 + R * STRIPE < z.T ? t1 + R * STRIPE : z.T) - 1);
    auto fetch = [&](int s0) {                                                 // a tile, into one half in turn
        int half = s0 / N % 2 * N;
        fetch_tile<N, D>(k_tiles + half * (D + PAD), k, kh, s0, z.S);
        fetch_tile<N, D>(v_tiles + half * (D + PAD), v, kh, s0, z.S);
    };
    if (end > 0) fetch(0);
    for (int first = 0; first < end; first += N) {
        wait_for_copies();
        __syncthreads();                                                       // it has come, the one before is used up
        if (first + N < end) fetch(first + N);
#pragma unroll 1
        for (int n = 0; n < N && first + n < warp_end; n += STEP) {
            int s0 = first + n, at = first / N % 2 * N + n;                    // the step's first key, its place in tiles
            bool edge = s0 + STEP > z.seen(t1);                                // some query of the warp sees not all
            float p[R][2][4] = {}, ds[R][2][4] = {};                           // queries down, keys across
            rows_by_rows<D>(p, queries, k_tiles + at * (D + PAD));
            rows_by_rows<D>(ds, dys, v_tiles + at * (D + PAD));
            UNROLL for (int r = 0; r < R; r++)
                UNROLL for (int e = 0; e < 4; e++) {
                    int seen = z.seen(t1 + r * STRIPE + lane_row() + e / 2 * 8);
                    UNROLL for (int j = 0; j < 2; j++) {
                        if (edge && s0 + j * 8 + lane_column() + e % 2 >= seen) p[r][j][e] = -INFINITY_F;
                        pair(p[r][j][e], ds[r][j][e], scale2, lse2[r][e / 2], d[r][e / 2]);
                    }
                }
            weigh_rows<D>(sum, ds, k_tiles + at * (D + PAD));
        }
    }
    write_rows<R, D>(dq, h, t1, z.T, sum, z.scale);
}

// ---- kernels: as in attention.cu, D being the head size itself ----------------------------------------------------------

template <typename F, int D, int R, int N>
__global__ void __launch_bounds__(THREADS, 2) attention_key_gradients_mma(
        const F* q, const F* k, const F* v, const int* lengths, const F* dy, const float* lse, const float* delta,
        F* dk, F* dv, int H, int K, int T, int S, int causal, float scale) {
    int b = blockIdx.z, kh = blockIdx.y;
    Sizes z{T, S, D, lengths[b], causal, scale};
    long long sequence = (long long)b * H * T;
    key_gradients<F, D, R, N>(apart(q, H, T, D), apart(k, K, S, D), apart(v, K, S, D), apart(dy, H, T, D), lse + sequence,
                           delta + sequence, apart(dk, K, S, D), apart(dv, K, S, D), kh, H / K, z);
}

template <typename F, int D, int R, int N>
__global__ void __launch_bounds__(THREADS, 2) attention_query_gradients_mma(
        const F* q, const F* k, const F* v, const int* lengths, const F* dy, const float* lse, const float* delta,
        F* dq, int H, int K, int T, int S, int causal, float scale) {
    int b = blockIdx.z, h = blockIdx.y;
    Sizes z{T, S, D, lengths[b], causal, scale};
    long long head = ((long long)b * H + h) * T;
    query_gradients<F, D, R, N>(apart(q, H, T, D), apart(k, K, S, D), apart(v, K, S, D), apart(dy, H, T, D), lse + head,
                             delta + head, apart(dq, H, T, D), h, h / (H / K), z);
}

template <typename F, int D, int R, int N>
__global__ void __launch_bounds__(THREADS, 2) qkv_attention_key_gradients_mma(
        const F* qkv, const F* dy, const float* lse, const float* delta, F* dqkv, int H, int T, float scale) {
    Sizes z{T, T, D, T, 1, scale};
    long long sequence = (long long)blockIdx.z * H * T;
    key_gradients<F, D, R, N>(side_by_side(qkv, 0, 3, H, T, D), side_by_side(qkv, 1, 3, H, T, D),
                           side_by_side(qkv, 2, 3, H, T, D), side_by_side(dy, 0, 1, H, T, D), lse + sequence,
                           delta + sequence, side_by_side(dqkv, 1, 3, H, T, D), side_by_side(dqkv, 2, 3, H, T, D),
                           blockIdx.y, 1, z);
}

template <typename F, int D, int R, int N>
__global__ void __launch_bounds__(THREADS, 2) qkv_attention_query_gradients_mma(
        const F* qkv, const F* dy, const float* lse, const float* delta, F* dqkv, int H, int T, float scale) {
    int h = blockIdx.y;
    Sizes z{T, T, D, T, 1, scale};
    long long head = ((long long)blockIdx.z * H + h) * T;
    query_gradients<F, D, R, N>(side_by_side(qkv, 0, 3, H, T, D), side_by_side(qkv, 1, 3, H, T, D),
                             side_by_side(qkv, 2, 3, H, T, D), side_by_side(dy, 0, 1, H, T, D), lse + head, delta + head,
                             side_by_side(dqkv, 0, 3, H, T, D), h, h, z);
}

// instances: attention_key_gradients_mma<half_t|bf16_t, 16|32, 2, 64>
// instances: attention_key_gradients_mma<half_t|bf16_t, 48|64, 2, 32>
// instances: attention_key_gradients_mma<half_t|bf16_t, 80|96|112|128, 1, 32>
// instances: attention_query_gradients_mma<half_t|bf16_t, 16|32, 2, 64>
// instances: attention_query_gradients_mma<half_t|bf16_t, 48|64, 2, 32>
// instances: attention_query_gradients_mma<half_t|bf16_t, 80|96|112|128, 1, 32>
// instances: qkv_attention_key_gradients_mma<half_t|bf16_t, 16|32, 2, 64>
// instances: qkv_attention_key_gradients_mma<half_t|bf16_t, 48|64, 2, 32>
// instances: qkv_attention_key_gradients_mma<half_t|bf16_t, 80|96|112|128, 1, 32>
// instances: qkv_attention_query_gradients_mma<half_t|bf16_t, 16|32, 2, 64>
// instances: qkv_attention_query_gradients_mma<half_t|bf16_t, 48|64, 2, 32>
// instances: qkv_attention_query_gradients_mma<half_t|bf16_t, 80|96|112|128, 1, 32>
