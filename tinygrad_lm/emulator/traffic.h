// Counts what a kernel reads and writes, access by access. -fsanitize=thread makes the compiler call __tsan_read4(place)
// before a read of 4 bytes, and so on; here, in place of ThreadSanitizer, functions look up whose memory the place is.
// At -O0 every access that stands in the text is made, once. Registers, that is a thread's own variables, count for nothing.
#pragma once

namespace emulator {

struct Counts { long long reads, read_bytes, writes, written_bytes; };
struct Span { char* start; long long bytes; };
struct Watched { const char* name; long long block; int thread, barriers; double value; };

static const Span* arrays;                     // the arguments' places
static int n_arrays;
static Counts* traffic;                        // for each argument, and at the end for shared memory
static Span static_span;
static bool quiet;
static std::vector<Watched> watches;

#define UNCOUNTED __attribute__((no_sanitize("thread")))

UNCOUNTED inline void saw(const volatile void* place, long long bytes, bool write) {
    const char* p = (const char*)place;
    const char* stack = (const char*)__builtin_frame_address(0);
    if (quiet || stack < stacks || stack >= stacks + n_stacks * STACK) return;       // the emulator's, not a thread's
    auto inside = [p](const char* start, long long n) UNCOUNTED { return p >= start && p < start + n; };
    int i = 0;
    while (i < n_arrays && !inside(arrays[i].start, arrays[i].bytes)) i++;
    if (i == n_arrays && !inside(static_span.start, static_span.bytes) && !inside(dynamic_shared, shared_bytes)) return;
    Counts& c = traffic[i];
    (write ? c.writes : c.reads)++;
    (write ? c.written_bytes : c.read_bytes) += bytes;
}

inline void watched(const char* name, double value) {
    long long block = blockIdx.x + (long long)gridDim.x * (blockIdx.y + (long long)gridDim.y * blockIdx.z);
    watches.push_back({name, block, current, fibers[current].barriers, value});
    quiet = false;
}

}  // namespace emulator

// watch("name", value): what this thread holds here, for the trace; nothing where none is made. Reading it is not counted.
#undef watch
#define watch(name, value) emulator::watched(name, (emulator::quiet = true, double(value)))

extern "C" {
#define SAW(bytes) \
    UNCOUNTED void __tsan_read##bytes(void* p) { emulator::saw(p, bytes, false); } \
    UNCOUNTED void __tsan_write##bytes(void* p) { emulator::saw(p, bytes, true); } \
    UNCOUNTED void __tsan_unaligned_read##bytes(void* p) { emulator::saw(p, bytes, false); } \
    UNCOUNTED void __tsan_unaligned_write##bytes(void* p) { emulator::saw(p, bytes, true); }
SAW(1) SAW(2) SAW(4) SAW(8) SAW(16)
UNCOUNTED void __tsan_read_range(void* p, size_t bytes) { emulator::saw(p, bytes, false); }
UNCOUNTED void __tsan_write_range(void* p, size_t bytes) { emulator::saw(p, bytes, true); }
UNCOUNTED void* __tsan_memcpy(void* to, const void* from, size_t bytes) {                    // clang's, for a float4
    emulator::saw(from, bytes, false), emulator::saw(to, bytes, true);
    return memcpy(to, from, bytes);
}
UNCOUNTED void* __tsan_memset(void* to, int value, size_t bytes) {
    emulator::saw(to, bytes, true);
    return memset(to, value, bytes);
}
UNCOUNTED void __tsan_func_entry(void*) {}
UNCOUNTED void __tsan_func_exit() {}
UNCOUNTED void __tsan_init() {}

__attribute__((visibility("default"))) void emulator_trace(const emulator::Span* arrays, int n, emulator::Counts* traffic) {
    emulator::Range r = emulator::static_shared();
    emulator::arrays = arrays, emulator::n_arrays = n, emulator::traffic = traffic;
    emulator::static_span = {r.start, (long long)r.size};
    emulator::watches.clear();
}
__attribute__((visibility("default"))) const emulator::Watched* emulator_watched(long long* n) {
    *n = emulator::watches.size();
    return emulator::watches.data();
}
}
