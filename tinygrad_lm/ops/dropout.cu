// Dropout (Srivastava et al. 2014 [DROP]) whose mask is never stored: element i is kept where word i of a Philox stream
// [PHILOX] is at least p 2³². Backward is the same launch on dy: from the same key the same mask.
//
// A thread holds four neighbouring elements, for which one counter gives four words. Blocks of 256 threads.
//
// Bytes, n elements of b: 2 n b each way, where a stored mask adds n b written and n b read, and stays in memory until
// backward. Floor at 8192 × 4096 in float32: 268 MB, 0.08 ms at 3.4 TB/s; some 60 integer instructions for four elements
// hide behind it.
#include "device.cuh"
#include "philox.cuh"

// key (2): the seed. y = x · scale or 0; threshold = p 2³², scale = 1 / (1 − p).
template <typename T>
__global__ void dropout(const T* x, T* y, const unsigned* key, unsigned threshold, float scale, int n) {
    unsigned group = blockIdx.x * blockDim.x + threadIdx.x;
    words_t random = philox({group, 0u, 0u, 0u}, key[0], key[1]);
    unsigned word[4] = {random.x, random.y, random.z, random.w};
    for (int j = 0; j < 4; j++) {
        long long i = 4LL * group + j;
        if (i < n) store(y + i, word[j] >= threshold ? scale * load(x + i) : 0.0f);
    }
}

// The stream itself, n words, for whoever wants to look at it.
__global__ void philox_words(unsigned* out, const unsigned* key, int n) {
    unsigned group = blockIdx.x * blockDim.x + threadIdx.x;
    words_t random = philox({group, 0u, 0u, 0u}, key[0], key[1]);
    unsigned word[4] = {random.x, random.y, random.z, random.w};
    for (int j = 0; j < 4; j++)
        if (4LL * group + j < n) out[4LL * group + j] = word[j];
}

// instances: dropout<float|half_t|bf16_t>, philox_words
