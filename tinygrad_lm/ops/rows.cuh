// What kernels that work row by row share: the team of threads that holds a row, packs of neighbours, sums over rows.
#pragma once
#include "device.cuh"

// A row belongs to a team: one warp (TEAM 32, for short rows, several to a block) or the whole block (TEAM = blockDim.x).
template <int TEAM> __device__ inline long long team_row() {
    return TEAM == 32 ? (long long)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32 : blockIdx.x;
}
template <int TEAM> __device__ inline int team_rank() { return threadIdx.x % TEAM; }

template <int TEAM> __device__ inline float team_sum(float x) {
    if constexpr (TEAM == 32) return warp_sum(x);
    else {
        __shared__ float scratch[33];
        return block_sum(x, scratch);
    }
}
template <int TEAM> __device__ inline float team_max(float x) {
    if constexpr (TEAM == 32) return warp_max(x);
    else {
        __shared__ float scratch[33];
        return block_max(x, scratch);
    }
}

// N neighbours moved by one instruction: 16 bytes are 4 float or 8 half; N = 1 where a row's length allows no more.
template <typename T, int N> struct alignas(sizeof(T) * N) Pack { T at[N]; };

template <int N, typename T> __device__ inline void load_pack(const T* p, float (&x)[N]) {
    Pack<T, N> pack = *reinterpret_cast<const Pack<T, N>*>(p);
    for (int k = 0; k < N; k++) x[k] = load(&pack.at[k]);
}
template <int N, typename T> __device__ inline void store_pack(T* p, const float (&x)[N]) {
    Pack<T, N> pack;
    for (int k = 0; k < N; k++) store(&pack.at[k], x[k]);
    *reinterpret_cast<Pack<T, N>*>(p) = pack;
}

// Sums down the columns, in an order that never changes: no atomics. Stage one: a block of 32 × 8 threads holds a strip of
// 32 columns (a lane each) and every gridDim.y-th group of 8 rows (a warp each); its 8 warps meet in shared memory.
// `term(row, col)` is what is summed; the result is one row of partials (gridDim.y, cols).
template <typename Term> __device__ inline void column_partials(Term term, float* partials, int rows, int cols) {
    __shared__ float strip[8][33];
    int lane = threadIdx.x, warp = threadIdx.y, col = blockIdx.x * 32 + lane;
    float sum = 0;
    if (col < cols)
        for (long long row = blockIdx.y * 8 + warp; row < rows; row += gridDim.y * 8) sum += term(row, col);
    strip[warp][lane] = sum;
    __syncthreads();
    if (warp == 0 && col < cols) {
        for (int i = 1; i < 8; i++) sum += strip[i][lane];
        partials[(long long)blockIdx.y * cols + col] = sum;
    }
    __syncthreads();                                       // the strip is free for the next sum
}

// Stage two: a thread a column.
template <typename T> __global__ void sum_partials(const float* partials, T* y, int parts, int cols) {
    int col = blockIdx.x * blockDim.x + threadIdx.x;
    if (col >= cols) return;
    float sum = 0;
    for (int part = 0; part < parts; part++) sum += partials[(long long)part * cols + col];
    store(y + col, sum);
}
