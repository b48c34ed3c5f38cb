// Softmax cross-entropy: the loss of each row, and in the same launch its gradient p − q. One block a row of V logits;
// each thread walks every blockDim.x-th column.
//
// First pass, online (Milakov and Gimelshein 2018 [ONLINE]): a thread keeps the largest logit it has met and the sum of
// exp(z − largest), so that one reading gives log Σ exp. The block then agrees on both. Second pass: exp(z − log Σ exp)
// minus the target's share, written where the logits' gradient will be; a row of less than a few hundred kilobytes comes
// from the cache this time. What backward has left to do is to multiply by dy.
//
// Bytes, with N rows of V elements of b bytes: forward reads N V b and writes as much, backward likewise: 2 N V b each,
// 268 MB and 0.08 ms at 8192 × 4096 in float32 where a copy runs at 3.4 TB/s.
//
// The gradient is kept before the division by the number of targets: p − q fits half precision, whose least number is
// 6e-8; (p − q) / 8192 would often be rounded to 0, and no loss scale could bring it back.
#include "device.cuh"

// gradient (N, V) receives p − q, loss (N) the loss; both 0 where the target is `ignored`. q = (1 − ε) onehot + ε / V.
template <typename T>
__global__ void cross_entropy_forward(const T* logits, const int* targets, T* gradient, float* loss, int V, int ignored,
                                      float epsilon) {
    __shared__ float scratch[33];
    int target = targets[blockIdx.x];
    const T* z = logits + (long long)blockIdx.x * V;
    T* d = gradient + (long long)blockIdx.x * V;
    if (target == ignored) {                               // the whole block agrees: no barrier is missed
        for (int v = threadIdx.x; v < V; v += blockDim.x) store(d + v, 0.0f);
        if (threadIdx.x == 0) loss[blockIdx.x] = 0.0f;
        return;
    }
    float peak = -INFINITY_F, sum = 0.0f, all = 0.0f;
    for (int v = threadIdx.x; v < V; v += blockDim.x) {
        float x = load(z + v);
        all += x;
        if (x > peak) {
            sum = sum * expf(peak - x) + 1.0f;             // what was summed so far, seen from the new peak
            peak = x;
        } else if (x != -INFINITY_F) {                     // exp(−inf) adds nothing, and −inf − (−inf) is NaN
            sum += expf(x - peak);
        }
    }
    float highest = block_max(peak, scratch);
    sum = block_sum(peak == -INFINITY_F ? sum : sum * expf(peak - highest), scratch);
    float lse = highest + logf(sum);
    if (epsilon > 0.0f) all = block_sum(all, scratch);     // the same for all threads, as is a barrier
    if (threadIdx.x == 0) {
        float own = (1.0f - epsilon) * (lse - load(z + target));
        loss[blockIdx.x] = epsilon > 0.0f ? own + epsilon * (lse - all / V) : own;
    }
    for (int v = threadIdx.x; v < V; v += blockDim.x) {
        float q = epsilon / V + (v == target ? 1.0f - epsilon : 0.0f);
        store(d + v, expf(load(z + v) - lse) - q);
    }
}

// total (1) = the sum of the N losses, or their mean over the targets that count; weight (1) = what each of them counts.
// One block: every thread sums its own, then the block sums its threads, always in this order, so always to the same bits.
__global__ void cross_entropy_total(const float* loss, const int* targets, float* total, float* weight, int N, int ignored,
                                    int mean) {
    __shared__ float scratch[33];
    float sum = 0.0f, count = 0.0f;
    for (int n = threadIdx.x; n < N; n += blockDim.x) {
        sum += loss[n];
        count += targets[n] != ignored;                    // exact: a float counts to 16 million one by one
    }
    sum = block_sum(sum, scratch);
    count = block_sum(count, scratch);
    if (threadIdx.x == 0) {
        weight[0] = mean ? 1.0f / count : 1.0f;
        total[0] = mean ? sum / count : sum;
    }
}

// dlogits (N, V) = gradient (N, V) × weight × dy, of which there is one (stride 0) or one a row (stride 1).
template <typename T>
__global__ void cross_entropy_backward(const T* gradient, const float* dy, const float* weight, T* dlogits, int V,
                                       int stride) {
    float scale = dy[(long long)blockIdx.x * stride] * weight[0];
    long long start = (long long)blockIdx.x * V;
    for (int v = threadIdx.x; v < V; v += blockDim.x) store(dlogits + start + v, scale * load(gradient + start + v));
}

// instances: cross_entropy_forward<float|half_t|bf16_t>, cross_entropy_backward<float|half_t|bf16_t>, cross_entropy_total
