// What attention's kernels are told: where the rows of a head stand in memory, and which keys a query sees.
#pragma once
#include "device.cuh"

// Where the rows of a head are: channel d of token t of head h stands at at[h · head + t · row + d].
template <typename F> struct Heads {
    F* at;
    long long head, row;
    __device__ F* operator()(int h, int t) const { return at + h * head + t * row; }
};
// One sequence of x (B, heads, time, D).
template <typename F> __device__ Heads<F> apart(F* x, int heads, int time, int D) {
    return {x + (long long)blockIdx.z * heads * time * D, (long long)time * D, D};
}
// One sequence of part `part` of x (B, time, parts, heads, D): query, key and value as one linear layer makes them.
template <typename F> __device__ Heads<F> side_by_side(F* x, int part, int parts, int heads, int time, int D) {
    long long row = (long long)parts * heads * D;
    return {x + blockIdx.z * time * row + part * heads * D, D, row};
}

struct Sizes {
    int T, S, D;                           // queries, keys, channels that there are: a tile has room for more
    int keys;                              // of this sequence, the rest being padding
    int causal;
    float scale;
    // Query t sees keys 0, 1, … up to this one, exclusive; the last query sees the last key.
    __device__ int seen(int t) const {
        int n = causal ? t + 1 + S - T : S;
        return n < keys ? n : keys;
    }
};
