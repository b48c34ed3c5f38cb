// Attention, forward and backward, in float32 and in tiles that fit shared memory: no T × S matrix is ever formed.
//
// Forward: a block owns M queries and walks over the keys, N at a time. Of each query it keeps the largest score so far
// (peak), Σ exp(score − peak) (total) and Σ exp(score − peak) v (out); a larger peak shrinks the other two ([ONLINE]; the
// order of the loops is that of [FLASH2], sec. 3.1). Saved for the backward is lse = peak + log total alone.
// Backward: p = exp(score − lse) is made again, tile by tile. One kernel owns M keys and walks over the queries for dk and
// dv, one owns M queries and walks over the keys for dq: nothing is added by two blocks, so the sums are the same every
// time and need no atomics.
//
// A block: 16 × 16 threads. Thread (ty, tx) holds, of a tile of scores, rows ty, ty + 16, … and columns tx, tx + 16, …; of
// a tile of sums, the same rows and D/16 channels. A row so belongs to 16 threads of one warp, which find its maximum and
// sum by shuffles. A register tile of 4 × 4 makes 16 multiply-adds from 8 numbers read out of shared memory.
// Bytes: q, k, v are read and y written once, while the second level of cache keeps a head's k and v, which each of T/M
// blocks reads again: (2 T + 2 S) D a head, 4 bytes each. The work is 4 T S D operations a head (half when causal), so
// that a few hundred tokens suffice for the arithmetic, not the memory, to be the floor: at B8 H16 T2048 D64, causal,
// 69 GFLOP are 1.0 ms at 67 TFLOP/s, and 268 MB are 0.06 ms at 4.8 TB/s.
// Shared memory: below 64 KiB for every D, what the smallest card (sm_75) grants a block.
#include "attention.cuh"

constexpr int SIDE = 16, THREADS = SIDE * SIDE;
constexpr int PAD = 4;                     // four floats more a row: 8 rows, read 16 bytes each, fall into different banks

template <int W> struct alignas(4 * W) Vec { float x[W]; };                    // W floats, read at once

// ---- tiles in shared memory -------------------------------------------------------------------------------------------

// tile (ROWS, D + PAD) = rows first, first + 1, … of head h; zeros past row `end` and past channel `size`.
template <int ROWS, int D, typename F>
__device__ void load_tile(float* tile, Heads<const F> x, int h, int first, int end, int size) {
    for (int i = threadIdx.x; i < ROWS * D; i += THREADS) {
        int r = i / D, c = i % D;
        tile[r * (D + PAD) + c] = first + r < end && c < size ? load(x(h, first + r) + c) : 0.0f;
    }
}

// c = a bᵀ, of this thread's rows of a (·, D) and rows of b (·, D).
template <int I, int J, int D>
__device__ void rows_by_rows(float (&c)[I][J], const float* a, const float* b) {
    int ty = threadIdx.x / SIDE, tx = threadIdx.x % SIDE;
    for (int i = 0; i < I; i++)
        for (int j = 0; j < J; j++) c[i][j] = 0;
    for (int d = 0; d < D; d += 4) {
        Vec<4> u[I], w[J];
        for (int i = 0; i < I; i++) u[i] = *(const Vec<4>*)(a + (ty + SIDE * i) * (D + PAD) + d);
        for (int j = 0; j < J; j++) w[j] = *(const Vec<4>*)(b + (tx + SIDE * j) * (D + PAD) + d);
        for (int i = 0; i < I; i++)
            for (int j = 0; j < J; j++)
                for (int e = 0; e < 4; e++) c[i][j] += u[i].x[e] * w[j].x[e];
    }
}

// The channel of a thread's e-th sum: up to four neighbours, then 16 threads further on.
template <int D> struct Channels {
    static constexpr int EACH = D / SIDE, W = EACH < 4 ? EACH : 4;
    __device__ static int at(int e) { return (e / W * SIDE + threadIdx.x % SIDE) * W + e % W; }
};

// c += p x, of this thread's rows of p (·, N) and channels of x (N, D).
template <int I, int N, int D>
__device__ void weigh_rows(float (&c)[I][D / SIDE], const float* p, const float* x) {
    constexpr int W = Channels<D>::W;
    int ty = threadIdx.x / SIDE;
    for (int n = 0; n < N; n += 4) {
        Vec<4> weight[I];
        for (int i = 0; i < I; i++) weight[i] = *(const Vec<4>*)(p + (ty + SIDE * i) * (N + PAD) + n);
#pragma unroll
        for (int m = 0; m < 4; m++)
#pragma unroll
            for (int e = 0; e < D / SIDE; e += W) {
                Vec<W> u = *(const Vec<W>*)(x + (n + m) * (D + PAD) + Channels<D>::at(e));
                for (int i = 0; i < I; i++)
                    for (int w = 0; w < W; w++) c[i][e + w] += weight[i].x[m] * u.x[w];
            }
    }
}

// tile (·, N + PAD) = this thread's scores. Its rows are read by the 16 threads that wrote them and by nobody else.
template <int I, int J>
__device__ void put(float* tile, const float (&c)[I][J]) {
    int ty = threadIdx.x / SIDE, tx = threadIdx.x % SIDE;
    for (int i = 0; i < I; i++)
        for (int j = 0; j < J; j++) tile[(ty + SIDE * i) * (J * SIDE + PAD) + tx + SIDE * j] = c[i][j];
}

// Rows first, first + 1, … of head h = this thread's sums.
template <int I, int D, typename F>
__device__ void write_rows(Heads<F> x, int h, int first, int end, int size, const float (&c)[I][D / SIDE]) {
    int ty = threadIdx.x / SIDE;
    for (int i = 0; i < I; i++)
        for (int e = 0; e < D / SIDE; e++) {
            int r = first + ty + SIDE * i, channel = Channels<D>::at(e);
            if (r < end && channel < size) store(x(h, r) + channel, c[i][e]);
        }
}

// Over the 16 threads that share a row.
__device__ inline float row_sum(float x) {
    for (int d = SIDE / 2; d; d /= 2) x += __shfl_xor_sync(FULL, x, d);
    return x;
}
__device__ inline float row_max(float x) {
    for (int d = SIDE / 2; d; d /= 2) x = fmaxf(x, __shfl_xor_sync(FULL, x, d));
    return x;
}

// ---- forward ----------------------------------------------------------------------------------------------------------

// y = softmax(scale q kᵀ) v for M queries of head h, whose keys are those of head kh; lse (T,) of this head.
template <typename F, int D, int M, int N>
__device__ void forward(Heads<const F> q, Heads<const F> k, Heads<const F> v, Heads<F> y, float* lse, int h, int kh, Sizes z) {
    constexpr int I = M / SIDE, J = N / SIDE;
    extern __shared__ float shared[];
    float *q_tile = shared, *kv_tile = q_tile + M * (D + PAD), *p_tile = kv_tile + N * (D + PAD);
    int t0 = blockIdx.x * M, ty = threadIdx.x / SIDE, tx = threadIdx.x % SIDE;
    float peak[I], total[I] = {}, out[I][D / SIDE] = {}, p[I][J];
    for (int i = 0; i < I; i++) peak[i] = -INFINITY_F;

    load_tile<M, D>(q_tile, q, h, t0, z.T, z.D);
    int end = z.seen((t0 + M < z.T ? t0 + M : z.T) - 1);                       // the last query of the block sees most
    for (int s0 = 0; s0 < end; s0 += N) {
        __syncthreads();                                                       // the values of the tile before are used up
        load_tile<N, D>(kv_tile, k, kh, s0, z.S, z.D);
        __syncthreads();
        rows_by_rows<I, J, D>(p, q_tile, kv_tile);
        __syncthreads();                                                       // the keys are used up: values take their place
        load_tile<N, D>(kv_tile, v, kh, s0, z.S, z.D);
        for (int i = 0; i < I; i++) {
            int seen = z.seen(t0 + ty + SIDE * i);
            float most = peak[i];
            for (int j = 0; j < J; j++) {
                p[i][j] = s0 + tx + SIDE * j < seen ? p[i][j] * z.scale : -INFINITY_F;
                most = fmaxf(most, p[i][j]);
            }
            most = row_max(most);
            float shift = most == -INFINITY_F ? 0.0f : most;                   // nothing seen so far: exp(−∞ − 0) = 0
            float shrink = expf(peak[i] - shift);
            total[i] *= shrink;
            for (int e = 0; e < D / SIDE; e++) out[i][e] *= shrink;
            for (int j = 0; j < J; j++) total[i] += p[i][j] = expf(p[i][j] - shift);
            peak[i] = most;
        }
        put(p_tile, p);
        __syncthreads();
        weigh_rows<I, N, D>(out, p_tile, kv_tile);
    }
    for (int i = 0; i < I; i++) {
        float sum = row_sum(total[i]);
        int t = t0 + ty + SIDE * i;
        if (tx == 0 && t < z.T) lse[t] = peak[i] + logf(sum);                  // −∞ where nothing was seen
        for (int e = 0; e < D / SIDE; e++) out[i][e] *= sum > 0 ? 1 / sum : 0.0f;
    }
    write_rows<I, D>(y, h, t0, z.T, z.D, out);
}

// ---- backward ---------------------------------------------------------------------------------------------------------

// delta = Σ dy y of each row: what softmax's backward takes from every dp ([FLASH], sec. 3.2). A warp a row; rows stand as
// (B, T, H), results as (B, H, T). Reads 2 D numbers a row: bound by memory.
template <typename F>
__global__ void attention_delta(const F* dy, const F* y, float* delta, int rows, int H, int T, int D) {
    int r = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (r >= rows) return;
    float sum = 0;
    for (int d = lane; d < D; d += 32) sum += load(dy + (long long)r * D + d) * load(y + (long long)r * D + d);
    sum = warp_sum(sum);
    int h = r % H, t = r / H % T, b = r / H / T;
    if (lane == 0) delta[((long long)b * H + h) * T + t] = sum;
}

// From scores s and dp = dy · v to p = exp(scale s − lse) and ds = scale p (dp − delta), of one pair.
__device__ inline void pair(float& s, float& dp, bool seen, float lse, float delta, float scale) {
    s = seen ? expf(s * scale - lse) : 0.0f;
    dp = s * (dp - delta) * scale;
}

// dk = dsᵀ q and dv = pᵀ dy for M keys of head kh, summed over the queries of its `group` heads. lse and delta (H, T).
template <typename F, int D, int M, int N>
__device__ void key_gradients(Heads<const F> q, Heads<const F> k, Heads<const F> v, Heads<const F> dy, const float* lse,
                              const float* delta, Heads<F> dk, Heads<F> dv, int kh, int group, Sizes z) {
    constexpr int I = M / SIDE, J = N / SIDE;
    extern __shared__ float shared[];
    float *k_tile = shared, *v_tile = k_tile + M * (D + PAD), *q_tile = v_tile + M * (D + PAD);
    float *dy_tile = q_tile + N * (D + PAD), *p_tile = dy_tile + N * (D + PAD);
    int s0 = blockIdx.x * M, ty = threadIdx.x / SIDE, tx = threadIdx.x % SIDE;
    float sum_k[I][D / SIDE] = {}, sum_v[I][D / SIDE] = {}, p[I][J], ds[I][J];

    load_tile<M, D>(k_tile, k, kh, s0, z.S, z.D);
    load_tile<M, D>(v_tile, v, kh, s0, z.S, z.D);
    int first = z.causal && s0 > z.S - z.T ? s0 - (z.S - z.T) : 0;             // the first query that sees one of these keys
    if (s0 >= z.keys) first = z.T;                                             // padding: nobody does
    for (int h = kh * group; h < (kh + 1) * group; h++)
        for (int t0 = first / N * N; t0 < z.T; t0 += N) {
            __syncthreads();                                                   // the tile before is used up
            load_tile<N, D>(q_tile, q, h, t0, z.T, z.D);
            load_tile<N, D>(dy_tile, dy, h, t0, z.T, z.D);
            __syncthreads();
            rows_by_rows<I, J, D>(p, k_tile, q_tile);                          // keys down, queries across
            rows_by_rows<I, J, D>(ds, v_tile, dy_tile);
            for (int j = 0; j < J; j++) {
                int t = t0 + tx + SIDE * j;
                bool there = t < z.T;
                float l = there ? lse[(long long)h * z.T + t] : 0.0f, d = there ? delta[(long long)h * z.T + t] : 0.0f;
                for (int i = 0; i < I; i++) pair(p[i][j], ds[i][j], there && s0 + ty + SIDE * i < z.seen(t), l, d, z.scale);
            }
            put(p_tile, p);
            __syncwarp();                                                      // a row stays within a warp
            weigh_rows<I, N, D>(sum_v, p_tile, dy_tile);
            __syncwarp();
            put(p_tile, ds);
            __syncwarp();
            weigh_rows<I, N, D>(sum_k, p_tile, q_tile);
        }
    write_rows<I, D>(dk, kh, s0, z.S, z.D, sum_k);
    write_rows<I, D>(dv, kh, s0, z.S, z.D, sum_v);
}

// dq = ds k for M queries of head h. lse and delta (T,) of this head.
template <typename F, int D, int M, int N>
__device__ void query_gradients(Heads<const F> q, Heads<const F> k, Heads<const F> v, Heads<const F> dy, const float* lse,
                                const float* delta, Heads<F> dq, int h, int kh, Sizes z) {
    constexpr int I = M / SIDE, J = N / SIDE;
    extern __shared__ float shared[];
    float *q_tile = shared, *dy_tile = q_tile + M * (D + PAD), *k_tile = dy_tile + M * (D + PAD);
    float *v_tile = k_tile + N * (D + PAD), *ds_tile = v_tile + N * (D + PAD);
    int t0 = blockIdx.x * M, ty = threadIdx.x / SIDE, tx = threadIdx.x % SIDE;
    float sum[I][D / SIDE] = {}, p[I][J], ds[I][J];

    load_tile<M, D>(q_tile, q, h, t0, z.T, z.D);
    load_tile<M, D>(dy_tile, dy, h, t0, z.T, z.D);
    int end = z.seen((t0 + M < z.T ? t0 + M : z.T) - 1);
    for (int s0 = 0; s0 < end; s0 += N) {
        __syncthreads();                                                       // the tile before is used up
        load_tile<N, D>(k_tile, k, kh, s0, z.S, z.D);
        load_tile<N, D>(v_tile, v, kh, s0, z.S, z.D);
        __syncthreads();
        rows_by_rows<I, J, D>(p, q_tile, k_tile);                              // queries down, keys across
        rows_by_rows<I, J, D>(ds, dy_tile, v_tile);
        for (int i = 0; i < I; i++) {
            int t = t0 + ty + SIDE * i;
            bool there = t < z.T;
            float l = there ? lse[t] : 0.0f, d = there ? delta[t] : 0.0f;
            for (int j = 0; j < J; j++) pair(p[i][j], ds[i][j], there && s0 + tx + SIDE * j < z.seen(t), l, d, z.scale);
        }
        put(ds_tile, ds);
        __syncwarp();                                                          // a row stays within a warp
        weigh_rows<I, N, D>(sum, ds_tile, k_tile);
    }
    write_rows<I, D>(dq, h, t0, z.T, z.D, sum);
}

// ---- kernels: q (B, H, T, D), k and v (B, K, S, D) where K divides H, lengths (B,); a block (tile, head, sequence) ------

template <typename F, int D, int M, int N>
__global__ void __launch_bounds__(THREADS, 1) attention_forward(
        const F* q, const F* k, const F* v, const int* lengths, F* y, float* lse,
        int H, int K, int T, int S, int size, int causal, float scale) {
    int b = blockIdx.z, h = blockIdx.y;
    Sizes z{T, S, size, lengths[b], causal, scale};
    forward<F, D, M, N>(apart(q, H, T, size), apart(k, K, S, size), apart(v, K, S, size), apart(y, H, T, size),
                        lse + ((long long)b * H + h) * T, h, h / (H / K), z);
}

template <typename F, int D, int M, int N>
__global__ void __launch_bounds__(THREADS, 1) attention_key_gradients(
        const F* q, const F* k, const F* v, const int* lengths, const F* dy, const float* lse, const float* delta,
        F* dk, F* dv, int H, int K, int T, int S, int size, int causal, float scale) {
    int b = blockIdx.z, kh = blockIdx.y;
    Sizes z{T, S, size, lengths[b], causal, scale};
    long long sequence = (long long)b * H * T;
    key_gradients<F, D, M, N>(apart(q, H, T, size), apart(k, K, S, size), apart(v, K, S, size), apart(dy, H, T, size),
                              lse + sequence, delta + sequence, apart(dk, K, S, size), apart(dv, K, S, size), kh, H / K, z);
}

template <typename F, int D, int M, int N>
__global__ void __launch_bounds__(THREADS, 1) attention_query_gradients(
        const F* q, const F* k, const F* v, const int* lengths, const F* dy, const float* lse, const float* delta,
        F* dq, int H, int K, int T, int S, int size, int causal, float scale) {
    int b = blockIdx.z, h = blockIdx.y;
    Sizes z{T, S, size, lengths[b], causal, scale};
    long long head = ((long long)b * H + h) * T;
    query_gradients<F, D, M, N>(apart(q, H, T, size), apart(k, K, S, size), apart(v, K, S, size), apart(dy, H, T, size),
                                lse + head, delta + head, apart(dq, H, T, size), h, h / (H / K), z);
}

// ---- kernels of a transformer block: causal, qkv (B, T, 3, H, D) where the linear layer left it, y (B, T, H, D) ----------

template <typename F, int D, int M, int N>
__global__ void __launch_bounds__(THREADS, 1) qkv_attention_forward(
        const F* qkv, F* y, float* lse, int H, int T, int size, float scale) {
    int b = blockIdx.z, h = blockIdx.y;
    Sizes z{T, T, size, T, 1, scale};
    forward<F, D, M, N>(side_by_side(qkv, 0, 3, H, T, size), side_by_side(qkv, 1, 3, H, T, size),
                        side_by_side(qkv, 2, 3, H, T, size), side_by_side(y, 0, 1, H, T, size),
                        lse + ((long long)b * H + h) * T, h, h, z);
}

template <typename F, int D, int M, int N>
__global__ void __launch_bounds__(THREADS, 1) qkv_attention_key_gradients(
        const F* qkv, const F* dy, const float* lse, const float* delta, F* dqkv, int H, int T, int size, float scale) {
    Sizes z{T, T, size, T, 1, scale};
    long long sequence = (long long)blockIdx.z * H * T;
    key_gradients<F, D, M, N>(side_by_side(qkv, 0, 3, H, T, size), side_by_side(qkv, 1, 3, H, T, size),
                              side_by_side(qkv, 2, 3, H, T, size), side_by_side(dy, 0, 1, H, T, size),
                              lse + sequence, delta + sequence, side_by_side(dqkv, 1, 3, H, T, size),
                              side_by_side(dqkv, 2, 3, H, T, size), blockIdx.y, 1, z);
}

template <typename F, int D, int M, int N>
__global__ void __launch_bounds__(THREADS, 1) qkv_attention_query_gradients(
        const F* qkv, const F* dy, const float* lse, const float* delta, F* dqkv, int H, int T, int size, float scale) {
    int h = blockIdx.y;
    Sizes z{T, T, size, T, 1, scale};
    long long head = ((long long)blockIdx.z * H + h) * T;
    query_gradients<F, D, M, N>(side_by_side(qkv, 0, 3, H, T, size), side_by_side(qkv, 1, 3, H, T, size),
                                side_by_side(qkv, 2, 3, H, T, size), side_by_side(dy, 0, 1, H, T, size),
                                lse + head, delta + head, side_by_side(dqkv, 0, 3, H, T, size), h, h, z);
}

// instances: attention_delta<float|half_t|bf16_t>
// instances: attention_forward<float|half_t|bf16_t, 16|32|64, 64, 64>, attention_forward<float|half_t|bf16_t, 128, 64, 32>
// instances: qkv_attention_forward<float|half_t|bf16_t, 16|32|64, 64, 64>, qkv_attention_forward<float|half_t|bf16_t, 128, 64, 32>
// instances: attention_query_gradients<float|half_t|bf16_t, 16|32|64, 64, 32>
// instances: attention_query_gradients<float|half_t|bf16_t, 128, 32, 16>
// instances: attention_key_gradients<float|half_t|bf16_t, 16|32|64, 64, 32>
// instances: attention_key_gradients<float|half_t|bf16_t, 128, 32, 16>
// instances: qkv_attention_query_gradients<float|half_t|bf16_t, 16|32|64, 64, 32>
// instances: qkv_attention_query_gradients<float|half_t|bf16_t, 128, 32, 16>
// instances: qkv_attention_key_gradients<float|half_t|bf16_t, 16|32|64, 64, 32>
// instances: qkv_attention_key_gradients<float|half_t|bf16_t, 128, 32, 16>
