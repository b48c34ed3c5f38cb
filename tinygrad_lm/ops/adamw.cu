// One update of all parameters, which lie in one flat buffer: AdamW (Kingma and Ba 2015 [ADAM], Loshchilov and Hutter 2019
// [ADAMW]), and the clipping of the gradient before it. Always float32: the weights here are the master weights.
//
// adamw: a thread holds one element at a time, and walks on by the number of threads of the whole grid.
// Bytes, n parameters: reads w, g, m, v, writes w, m, v: 28 n. 124 million parameters: 3.5 GB, 1.0 ms at 3.4 TB/s.
// unscale, where the model is in half precision: 2 n read, 4 n written.
// sum_of_squares, norm_of_parts, clip: 4 n read for the norm, and 8 n more where the gradient is too long: 1.5 GB, 0.44 ms.
//
// stop (1): 1 where this step must move nothing, because the loss or the gradient is not finite. The host cannot call a
// recorded launch off; so each kernel that moves something looks at it first.
#include "device.cuh"

__device__ inline bool is_finite(float x) { return fabsf(x) < INFINITY_F; }          // NaN is less than nothing

// rates (3): what changes from step to step, 1 − lr λ, ε √(1 − β₂ᵗ) and lr √(1 − β₂ᵗ) / (1 − β₁ᵗ), read from memory so
// that a captured launch sees the next step's. rest1, rest2: 1 − β₁ and 1 − β₂, as exact as a float can hold them.
__global__ void adamw(float* w, const float* g, float* m, float* v, const float* rates, const int* stop, float beta1,
                      float rest1, float beta2, float rest2, int decays, int n) {
    if (stop[0]) return;
    float keep = decays ? rates[0] : 1.0f, epsilon = rates[1], rate = rates[2];
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < n; i += (long long)gridDim.x * blockDim.x) {
        float gi = g[i];
        float mi = m[i] = m[i] * beta1 + gi * rest1;
        float vi = v[i] = v[i] * beta2 + gi * gi * rest2;
        w[i] = w[i] * keep - mi / (sqrtf(vi) + epsilon) * rate;
    }
}

// g = scaled · factor (1), the gradient of a scaled loss brought back to size [MIXED]; stop (1) becomes 1 where a number
// overflowed in half precision, else it stays. Several threads may write that, and all write the same.
__global__ void unscale(const half_t* scaled, float* g, const float* factor, int* stop, int n) {
    bool overflow = false;
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < n; i += (long long)gridDim.x * blockDim.x) {
        float x = load(scaled + i);
        overflow = overflow || !is_finite(x);
        g[i] = x * factor[0];
    }
    if (overflow) stop[0] = 1;
}

// parts (gridDim.x): each block's sum of g². A thread, a warp, a block sum in an order that n alone decides.
__global__ void sum_of_squares(const float* g, float* parts, int n) {
    __shared__ float scratch[33];
    float sum = 0.0f;
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < n; i += (long long)gridDim.x * blockDim.x)
        sum += g[i] * g[i];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

// norm (1) = √ of the sum of all n parts; stop (1) becomes 1 where that or the loss (1) is not finite, else it stays. One
// block.
__global__ void norm_of_parts(const float* parts, const float* loss, float* norm, int* stop, int n) {
    __shared__ float scratch[33];
    float sum = 0.0f;
    for (int i = threadIdx.x; i < n; i += blockDim.x) sum += parts[i];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) {
        norm[0] = sqrtf(sum);
        if (!is_finite(sum) || !is_finite(loss[0])) stop[0] = 1;
    }
}

// g is scaled down to max_norm where its norm is more; the norm is read here, so that the host need not wait for it.
__global__ void clip(float* g, const float* norm, const int* stop, float max_norm, int n) {
    if (stop[0] || norm[0] <= max_norm) return;
    float scale = max_norm / norm[0];
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < n; i += (long long)gridDim.x * blockDim.x)
        g[i] *= scale;
}

// instances: adamw, clip, norm_of_parts, sum_of_squares, unscale
