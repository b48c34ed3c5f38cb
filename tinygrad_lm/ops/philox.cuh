// Random bits from a counter: Philox-4x32-10 (Salmon, Moraes, Dror, Shaw 2011 [PHILOX]).
//
// A function of (key, counter) and of nothing else: no state to keep, to pass on or to store, so that any thread can make
// the bits of any place, once or again. Ten rounds of two multiplications, whose upper halves are mixed crosswise.
#pragma once

struct words_t { unsigned x, y, z, w; };

__device__ inline unsigned upper_half(unsigned a, unsigned b) { return unsigned((unsigned long long)a * b >> 32); }

__device__ inline words_t philox(words_t c, unsigned key0, unsigned key1) {
    for (int round = 0; round < 10; round++) {
        const unsigned a = 0xD2511F53u, b = 0xCD9E8D57u;
        c = {upper_half(b, c.z) ^ c.y ^ key0, b * c.z, upper_half(a, c.x) ^ c.w ^ key1, a * c.x};
        key0 += 0x9E3779B9u;                               // the golden ratio's digits, and those of √3 − 1
        key1 += 0xBB67AE85u;
    }
    return c;
}
