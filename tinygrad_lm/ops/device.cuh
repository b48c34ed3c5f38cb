// What every kernel shares: storage types with float32 arithmetic, infinity, sums and maxima over a warp.
//
// NVRTC knows no headers, so this needs none. The same text is compiled for the GPU by NVRTC and for the CPU by the
// emulator (emulator/cuda_on_cpu.h), which defines EMULATOR.
#pragma once

#define INFINITY_F __int_as_float(0x7f800000)
#define FULL 0xffffffffu                                   // all 32 lanes of a warp

// half and bfloat16 are storage: two bytes in memory, float in registers.
struct half_t { unsigned short bits; };
struct bf16_t { unsigned short bits; };

__device__ inline float load(const float* p) { return *p; }
__device__ inline void store(float* p, float x) { *p = x; }

__device__ inline float load(const bf16_t* p) { return __int_as_float(int(unsigned(p->bits) << 16)); }
__device__ inline void store(bf16_t* p, float x) {         // round to nearest, ties to even; NaN stays NaN
    unsigned u = unsigned(__float_as_int(x));
    p->bits = x != x ? 0x7fff : (unsigned short)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

#ifdef EMULATOR
__device__ inline float load(const half_t* p) { return half_to_float(p->bits); }
__device__ inline void store(half_t* p, float x) { p->bits = float_to_half(x); }
#else
__device__ inline float load(const half_t* p) {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(p->bits));
    return x;
}
__device__ inline void store(half_t* p, float x) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(p->bits) : "f"(x)); }
#endif

// Every lane receives the result over all 32: five exchanges with a partner 16, 8, 4, 2, 1 lanes away.
__device__ inline float warp_sum(float x) {
    for (int d = 16; d; d /= 2) x += __shfl_xor_sync(FULL, x, d);
    return x;
}
__device__ inline float warp_max(float x) {
    for (int d = 16; d; d /= 2) x = fmaxf(x, __shfl_xor_sync(FULL, x, d));
    return x;
}

// Every thread of the block receives the result; `scratch` is 33 floats of shared memory, free to use again afterwards.
__device__ inline float block_sum(float x, float* scratch) {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = (blockDim.x + 31) / 32;
    x = warp_sum(x);
    if (lane == 0) scratch[warp] = x;
    __syncthreads();
    if (warp == 0) {
        float y = warp_sum(lane < warps ? scratch[lane] : 0.0f);
        if (lane == 0) scratch[32] = y;
    }
    __syncthreads();
    float total = scratch[32];
    __syncthreads();
    return total;
}
__device__ inline float block_max(float x, float* scratch) {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = (blockDim.x + 31) / 32;
    x = warp_max(x);
    if (lane == 0) scratch[warp] = x;
    __syncthreads();
    if (warp == 0) {
        float y = warp_max(lane < warps ? scratch[lane] : -INFINITY_F);
        if (lane == 0) scratch[32] = y;
    }
    __syncthreads();
    float most = scratch[32];
    __syncthreads();
    return most;
}

// BYTES (4, 8 or 16) on their way from global to shared memory, zeros where nothing is there: no register waits for them.
// They have come for this thread after its wait_for_copies, for others after a barrier that follows. sm_75 copies at once.
#ifdef EMULATOR
template <int BYTES> __device__ inline void start_copy(void* to, const void* from, bool there) {
    emulator::start_copy(to, there ? from : nullptr, BYTES);
}
__device__ inline void wait_for_copies() { emulator::wait_for_copies(); }
#else
__device__ inline unsigned shared_address(const void* p) { return unsigned(__cvta_generic_to_shared(p)); }
template <int BYTES> struct alignas(BYTES) Chunk { unsigned x[BYTES / 4]; };
template <int BYTES> __device__ inline void start_copy(void* to, const void* from, bool there) {
#if __CUDA_ARCH__ >= 800
    asm volatile("{ .reg .u64 a; cvta.to.global.u64 a, %1; cp.async.ca.shared.global [%0], [a], %2, %3; }"
                 :: "r"(shared_address(to)), "l"(from), "n"(BYTES), "r"(there ? BYTES : 0) : "memory");
#else
    *(Chunk<BYTES>*)to = there ? *(const Chunk<BYTES>*)from : Chunk<BYTES>{};
#endif
}
__device__ inline void wait_for_copies() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}
#endif

// Tensor cores: d (16 × 8, float32) += a (16 × 16) b (16 × 8), of T = half_t or bf16_t, by the 32 lanes of a warp together.
// Lane l holds, with r = l/4 and c = 2 (l%4), two numbers a register, the first in its lower half:
//   a: row r columns c, c+1 · row r+8, the same columns · row r columns c+8, c+9 · row r+8, these columns
//   b: rows c, c+1 of column r · rows c+8, c+9 of it        d: row r columns c, c+1 · row r+8, the same columns
#ifdef EMULATOR
template <typename T> __device__ inline void mma_16x8x16(float d[4], const unsigned a[4], const unsigned b[2]) {
    struct Fragments { unsigned a[4], b[2]; } mine = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}}, all[32];
    emulator::exchange(FULL, &mine, all, sizeof mine, __LINE__);
    auto number = [](unsigned two, int which) {
        T x{(unsigned short)(two >> 16 * which)};
        return load(&x);
    };
    int lane = threadIdx.x % 32;
    for (int i = 0; i < 4; i++) {
        int row = lane / 4, low = i / 2, column = 2 * (lane % 4) + i % 2;
        for (int k = 0; k < 16; k++)
            d[i] += number(all[row * 4 + k % 8 / 2].a[k / 8 * 2 + low], k % 2) * number(all[column * 4 + k % 8 / 2].b[k / 8], k % 2);
    }
}
#else
#define MMA(shape, type, A, B) asm volatile( \
    "mma.sync.aligned." shape ".row.col.f32." type "." type ".f32 {%0, %1, %2, %3}, " A ", " B ", {%0, %1, %2, %3};" \
    : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))
template <typename T> __device__ void mma_16x8x16(float d[4], const unsigned a[4], const unsigned b[2]);
template <> __device__ inline void mma_16x8x16<half_t>(float d[4], const unsigned a[4], const unsigned b[2]) {
#if __CUDA_ARCH__ >= 800
    MMA("m16n8k16", "f16", "{%4, %5, %6, %7}", "{%8, %9}");
#else                                                      // sm_75 takes 8 of the 16 terms at a time
    MMA("m16n8k8", "f16", "{%4, %5}", "{%8}");
    MMA("m16n8k8", "f16", "{%6, %7}", "{%9}");
#endif
}
template <> __device__ inline void mma_16x8x16<bf16_t>(float d[4], const unsigned a[4], const unsigned b[2]) {
#if __CUDA_ARCH__ >= 800
    MMA("m16n8k16", "bf16", "{%4, %5, %6, %7}", "{%8, %9}");
#else
    __trap();                                              // sm_75 has no bfloat16: nobody launches this there
#endif
}
#undef MMA
#endif
