// Softmax, log-softmax and masked softmax of each row, forward and backward. x, y, dy, dx (rows, cols)
//
// A short row (cols <= 1024) belongs to a warp, a long one to a block; a thread holds every TEAM-th pack of N neighbours.
// The first pass finds maximum and sum together (Milakov and Gimelshein 2018 [ONLINE]): when the maximum grows, the sum so
// far is rescaled. The second pass reads the row again, which by then lies in the cache.
//
// Bytes moved, s bytes each: forward 2 s rows cols (x, y), backward 3 s rows cols (dy, y, dx): in float32 at 8192 × 4096
// 268 and 403 MB, at a copy bandwidth of 4 TB/s no less than 67 and 101 µs.
//
// instances: softmax_forward<float, 32|256, 1|4>, softmax_forward<half_t|bf16_t, 32|256, 1|8>
// instances: log_softmax_forward<float, 32|256, 1|4>, log_softmax_forward<half_t|bf16_t, 32|256, 1|8>
// instances: masked_softmax_forward<float, 32|256, 1|4>, masked_softmax_forward<half_t|bf16_t, 32|256, 1|8>
// instances: softmax_backward<float, 32|256, 1|4>, softmax_backward<half_t|bf16_t, 32|256, 1|8>
// instances: log_softmax_backward<float, 32|256, 1|4>, log_softmax_backward<half_t|bf16_t, 32|256, 1|8>
#include "rows.cuh"

struct Online {                                            // of what a thread has seen:
    float most = -INFINITY_F;                              // max x
    float sum = 0;                                         // Σ exp(x − most)
};

// exp(−∞ − (−∞)) would be NaN: where all is −∞, shift by nothing, and every exponential is 0.
__device__ inline float shift_of(float most) { return most == -INFINITY_F ? 0.0f : most; }

template <int N> __device__ inline void see(Online& o, const float (&x)[N]) {
    float most = o.most;
    for (int k = 0; k < N; k++) most = fmaxf(most, x[k]);
    float shift = shift_of(most), sum = o.sum * expf(o.most - shift);
    for (int k = 0; k < N; k++) sum += expf(x[k] - shift);
    o.most = most;
    o.sum = sum;
}

// What each thread of the team has seen becomes what all have seen.
template <int TEAM> __device__ inline Online together(Online o) {
    Online all;
    all.most = team_max<TEAM>(o.most);
    all.sum = team_sum<TEAM>(o.sum * expf(o.most - shift_of(all.most)));
    return all;
}

template <typename T, int TEAM, int N>
__device__ inline Online look_over(const T* x, int cols) {
    Online o;
    for (int i = team_rank<TEAM>() * N; i < cols; i += TEAM * N) {
        float v[N];
        load_pack(x + i, v);
        see(o, v);
    }
    return together<TEAM>(o);
}

// yᵢ = exp(xᵢ − most) / sum
template <typename T, int TEAM, int N>
__global__ void softmax_forward(const T* x, T* y, int rows, int cols) {
    long long row = team_row<TEAM>();
    if (row >= rows) return;                               // the whole team leaves
    x += row * cols, y += row * cols;
    Online o = look_over<T, TEAM, N>(x, cols);
    float shift = shift_of(o.most), scale = 1 / o.sum;
    for (int i = team_rank<TEAM>() * N; i < cols; i += TEAM * N) {
        float v[N];
        load_pack(x + i, v);
        for (int k = 0; k < N; k++) v[k] = expf(v[k] - shift) * scale;
        store_pack(y + i, v);
    }
}

// yᵢ = xᵢ − most − log sum
template <typename T, int TEAM, int N>
__global__ void log_softmax_forward(const T* x, T* y, int rows, int cols) {
    long long row = team_row<TEAM>();
    if (row >= rows) return;
    x += row * cols, y += row * cols;
    Online o = look_over<T, TEAM, N>(x, cols);
    float shift = shift_of(o.most), log_sum = logf(o.sum);
    for (int i = team_rank<TEAM>() * N; i < cols; i += TEAM * N) {
        float v[N];
        load_pack(x + i, v);
        for (int k = 0; k < N; k++) v[k] = v[k] - shift - log_sum;
        store_pack(y + i, v);
    }
}

// What a row may see: its first `seen` columns, and of these the ones that its row of the mask allows.
struct Sight {
    int seen;
    const unsigned char* mask;                             // null: all
    __device__ bool operator()(int col) const { return col < seen && (!mask || mask[col]); }
};

// Rows are (B, H, T) laid flat. causal: query t sees keys up to t + (S − T), S = cols. rows_a_length = H·T, or 0: no lengths.
// mask_rows: the mask repeats after so many rows, or 0: no mask.
__device__ inline Sight sight_of(long long row, int cols, const unsigned char* mask, int mask_rows, const int* lengths,
                                 int rows_a_length, int causal, int T) {
    int seen = cols;
    if (causal) seen = min(seen, int(row % T) + cols - T + 1);
    if (rows_a_length) seen = min(seen, lengths[row / rows_a_length]);
    return {seen, mask_rows ? mask + row % mask_rows * cols : nullptr};
}

// As softmax_forward, over what the row may see; the rest is 0, and so is all of a row that may see nothing. Packs that
// begin beyond `seen` are not read: causal rows move half the bytes of x.
template <typename T, int TEAM, int N>
__global__ void masked_softmax_forward(const T* x, T* y, const unsigned char* mask, const int* lengths, int mask_rows,
                                       int rows_a_length, int causal, int queries, int rows, int cols) {
    long long row = team_row<TEAM>();
    if (row >= rows) return;
    x += row * cols, y += row * cols;
    Sight sees = sight_of(row, cols, mask, mask_rows, lengths, rows_a_length, causal, queries);
    Online o;
    for (int i = team_rank<TEAM>() * N; i < sees.seen; i += TEAM * N) {
        float v[N];
        load_pack(x + i, v);
        for (int k = 0; k < N; k++) if (!sees(i + k)) v[k] = -INFINITY_F;
        see(o, v);
    }
    o = together<TEAM>(o);
    float shift = shift_of(o.most), scale = o.sum == 0 ? 0.0f : 1 / o.sum;
    for (int i = team_rank<TEAM>() * N; i < cols; i += TEAM * N) {
        float v[N] = {};
        if (i < sees.seen) {
            load_pack(x + i, v);
            for (int k = 0; k < N; k++) v[k] = sees(i + k) ? expf(v[k] - shift) * scale : 0.0f;
        }
        store_pack(y + i, v);
    }
}

// dxᵢ = yᵢ (dyᵢ − Σⱼ dyⱼ yⱼ): masked or not, for where y is 0, dx is 0.
template <typename T, int TEAM, int N>
__global__ void softmax_backward(const T* dy, const T* y, T* dx, int rows, int cols) {
    long long row = team_row<TEAM>();
    if (row >= rows) return;
    dy += row * cols, y += row * cols, dx += row * cols;
    float dot = 0;
    for (int i = team_rank<TEAM>() * N; i < cols; i += TEAM * N) {
        float d[N], p[N];
        load_pack(dy + i, d);
        load_pack(y + i, p);
        for (int k = 0; k < N; k++) dot += d[k] * p[k];
    }
    dot = team_sum<TEAM>(dot);
    for (int i = team_rank<TEAM>() * N; i < cols; i += TEAM * N) {
        float d[N], p[N];
        load_pack(dy + i, d);
        load_pack(y + i, p);
        for (int k = 0; k < N; k++) d[k] = p[k] * (d[k] - dot);
        store_pack(dx + i, d);
    }
}

// dxᵢ = dyᵢ − exp(yᵢ) Σⱼ dyⱼ
template <typename T, int TEAM, int N>
__global__ void log_softmax_backward(const T* dy, const T* y, T* dx, int rows, int cols) {
    long long row = team_row<TEAM>();
    if (row >= rows) return;
    dy += row * cols, y += row * cols, dx += row * cols;
    float sum = 0;
    for (int i = team_rank<TEAM>() * N; i < cols; i += TEAM * N) {
        float d[N];
        load_pack(dy + i, d);
        for (int k = 0; k < N; k++) sum += d[k];
    }
    sum = team_sum<TEAM>(sum);
    for (int i = team_rank<TEAM>() * N; i < cols; i += TEAM * N) {
        float d[N], l[N];
        load_pack(dy + i, d);
        load_pack(y + i, l);
        for (int k = 0; k < N; k++) d[k] -= expf(l[k]) * sum;
        store_pack(dx + i, d);
    }
}
