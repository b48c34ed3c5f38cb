// Layer norm (CENTRED: the mean is subtracted; BIAS: b is added) and RMS norm (neither) of each row, forward and backward.
// x, y, dy, dx (rows, cols), w, b, dw, db (cols,), mean, rstd (rows,) in float32
//
// A short row (cols <= 1024) belongs to a warp, a long one to a block; a thread holds every TEAM-th pack of N neighbours.
// The variance is summed around the mean in a pass of its own, so that a large mean costs no digits; after the first pass
// the row lies in the cache. Backward makes x̂ again from x, mean and rstd.
//
// Bytes moved, s bytes each: forward 2 s rows cols (x, y), dx 3 s rows cols (dy, x, dx), dw and db 2 s rows cols (dy, x):
// in float32 at 8192 × 4096 268, 403 and 268 MB, at a copy bandwidth of 4 TB/s no less than 67, 101 and 67 µs.
// Ba et al. 2016 [LN], Zhang and Sennrich 2019 [RMS].
//
// instances: norm_forward<float, 32|256, 1|4, true, true|false>, norm_forward<half_t|bf16_t, 32|256, 1|8, true, true|false>
// instances: norm_forward<float, 32|256, 1|4, false, false>, norm_forward<half_t|bf16_t, 32|256, 1|8, false, false>
// instances: norm_backward_x<float, 32|256, 1|4, true|false>, norm_backward_x<half_t|bf16_t, 32|256, 1|8, true|false>
// instances: norm_backward_w<float|half_t|bf16_t, true, true|false>, norm_backward_w<float|half_t|bf16_t, false, false>
// instances: sum_partials<float|half_t|bf16_t>
#include "rows.cuh"

template <typename T, int TEAM, int N, bool CENTRED, bool BIAS>
__global__ void norm_forward(const T* x, const T* w, const T* b, T* y, float* means, float* rstds, float eps, int rows,
                             int cols) {
    long long row = team_row<TEAM>();
    if (row >= rows) return;                               // the whole team leaves
    x += row * cols, y += row * cols;
    float mean = 0, squares = 0;
    if (CENTRED) {
        for (int i = team_rank<TEAM>() * N; i < cols; i += TEAM * N) {
            float v[N];
            load_pack(x + i, v);
            for (int k = 0; k < N; k++) mean += v[k];
        }
        mean = team_sum<TEAM>(mean) / cols;
    }
    for (int i = team_rank<TEAM>() * N; i < cols; i += TEAM * N) {
        float v[N];
        load_pack(x + i, v);
        for (int k = 0; k < N; k++) squares += (v[k] - mean) * (v[k] - mean);
    }
    float rstd = 1 / sqrtf(team_sum<TEAM>(squares) / cols + eps);
    for (int i = team_rank<TEAM>() * N; i < cols; i += TEAM * N) {
        float v[N], g[N], c[N] = {};
        load_pack(x + i, v);
        load_pack(w + i, g);
        if (BIAS) load_pack(b + i, c);
        for (int k = 0; k < N; k++) v[k] = (v[k] - mean) * rstd * g[k] + c[k];
        store_pack(y + i, v);
    }
    if (team_rank<TEAM>() == 0) {
        rstds[row] = rstd;
        if (CENTRED) means[row] = mean;
    }
}

// dx = (dx̂ − mean(dx̂) − x̂ mean(dx̂ x̂)) rstd with dx̂ = dy w; RMS norm has no mean(dx̂).
template <typename T, int TEAM, int N, bool CENTRED>
__global__ void norm_backward_x(const T* dy, const T* x, const T* w, const float* means, const float* rstds, T* dx, int rows,
                                int cols) {
    long long row = team_row<TEAM>();
    if (row >= rows) return;
    dy += row * cols, x += row * cols, dx += row * cols;
    float mean = CENTRED ? means[row] : 0.0f, rstd = rstds[row], sum = 0, inner = 0;
    for (int i = team_rank<TEAM>() * N; i < cols; i += TEAM * N) {
        float d[N], v[N], g[N];
        load_pack(dy + i, d);
        load_pack(x + i, v);
        load_pack(w + i, g);
        for (int k = 0; k < N; k++) {
            sum += d[k] * g[k];
            inner += d[k] * g[k] * (v[k] - mean) * rstd;
        }
    }
    sum = CENTRED ? team_sum<TEAM>(sum) / cols : 0.0f;
    inner = team_sum<TEAM>(inner) / cols;
    for (int i = team_rank<TEAM>() * N; i < cols; i += TEAM * N) {
        float d[N], v[N], g[N];
        load_pack(dy + i, d);
        load_pack(x + i, v);
        load_pack(w + i, g);
        for (int k = 0; k < N; k++) d[k] = (d[k] * g[k] - sum - (v[k] - mean) * rstd * inner) * rstd;
        store_pack(dx + i, d);
    }
}

// dw = Σ dy x̂, db = Σ dy down the rows: stage one of two (rows.cuh). dw, db (gridDim.y, cols)
template <typename T, bool CENTRED, bool BIAS>
__global__ void norm_backward_w(const T* dy, const T* x, const float* means, const float* rstds, float* dw, float* db,
                                int rows, int cols) {
    column_partials([=](long long row, int col) {
        float mean = CENTRED ? means[row] : 0.0f;
        return load(dy + row * cols + col) * (load(x + row * cols + col) - mean) * rstds[row];
    }, dw, rows, cols);
    if (BIAS) column_partials([=](long long row, int col) { return load(dy + row * cols + col); }, db, rows, cols);
}
