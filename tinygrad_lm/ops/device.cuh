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
