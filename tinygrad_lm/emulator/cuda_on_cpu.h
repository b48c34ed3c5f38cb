// CUDA C++ for an ordinary C++ compiler: a block's threads run as fibers of one thread of this machine, one after another,
// and change places where CUDA's threads may wait for each other: at barriers and at exchanges between the lanes of a warp.
//
// The kernel's text is not changed. What it takes for granted is defined here: threadIdx and its like, __syncthreads,
// shuffles, atomics, the mathematics. What a GPU would do silently wrong is told: a thread that never comes to a barrier, a
// lane that is missing from an exchange, shared memory read before it is written (it starts as NaN), arguments of the wrong
// size. This is for proof and for learning, not for speed.
#pragma once
#ifdef EMULATOR_TRACE
#undef __SANITIZE_THREAD__                     // ThreadSanitizer is not there: traffic.h takes its calls
#endif
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>
#include <sys/mman.h>
#include <link.h>
#include <ucontext.h>
#include <unwind.h>
#include "sanitizers.h"

#define EMULATOR 1
#define __global__
#ifdef __clang__
#define __device__ __attribute__((nomerge))    // the calls in two branches stay two
#else
#define __device__
#endif
#define __host__
#define __constant__ static
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __shared__ SHARED_MEMORY               // the only thread-local data here: all lies in one place, to be poisoned

struct dim3 { unsigned x = 1, y = 1, z = 1; };
struct float2 { float x, y; };
struct int2 { int x, y; };
struct uint2 { unsigned x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

static dim3 threadIdx, blockIdx, blockDim, gridDim;
constexpr int warpSize = 32;

namespace emulator {

// ---- fibers ---------------------------------------------------------------------------------------------------------

constexpr size_t STACK = 256 << 10;            // address space; only what is touched becomes memory

#if !defined(__x86_64__) && !defined(__aarch64__)
#define EMULATOR_PORTABLE 1
#endif

#if EMULATOR_PORTABLE                          // any processor, by system calls: many times as slow
inline void emulator_switch(void** save, void* resume) {
    ucontext_t here;                           // lies on the stack that is left, and lives until it is taken up again
    *save = &here;
    swapcontext(&here, static_cast<ucontext_t*>(resume));
}
inline void* first_frame(char* top, void (*entry)()) {
    char* bottom = top - STACK;
    top -= (sizeof(ucontext_t) + 63) / 64 * 64;
    ucontext_t* start = reinterpret_cast<ucontext_t*>(top);
    getcontext(start);
    start->uc_stack.ss_sp = bottom;
    start->uc_stack.ss_size = top - bottom;
    start->uc_link = nullptr;
    makecontext(start, entry, 0);
    return start;
}
#elif defined(__x86_64__)
extern "C" __attribute__((visibility("hidden"))) void emulator_switch(void** save, void* resume);
asm(".text\n.hidden emulator_switch\n.globl emulator_switch\nemulator_switch:\n"
    "push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15\n"
    "mov %rsp, (%rdi); mov %rsi, %rsp\n"
    "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp; ret\n");
inline void* first_frame(char* top, void (*entry)()) {
    void** sp = reinterpret_cast<void**>(top);
    sp[-1] = nullptr;                          // where a call would have left the return address
    sp[-2] = reinterpret_cast<void*>(entry);
    for (int i = 3; i <= 8; i++) sp[-i] = nullptr;
    return sp - 8;
}
#else                                          // aarch64
extern "C" __attribute__((visibility("hidden"))) void emulator_switch(void** save, void* resume);
asm(".text\n.hidden emulator_switch\n.globl emulator_switch\nemulator_switch:\n"
    "sub sp, sp, #160\n"
    "stp x19, x20, [sp, #0]; stp x21, x22, [sp, #16]; stp x23, x24, [sp, #32]; stp x25, x26, [sp, #48]\n"
    "stp x27, x28, [sp, #64]; stp x29, x30, [sp, #80]; stp d8, d9, [sp, #96]; stp d10, d11, [sp, #112]\n"
    "stp d12, d13, [sp, #128]; stp d14, d15, [sp, #144]\n"
    "mov x9, sp; str x9, [x0]; mov sp, x1\n"
    "ldp x19, x20, [sp, #0]; ldp x21, x22, [sp, #16]; ldp x23, x24, [sp, #32]; ldp x25, x26, [sp, #48]\n"
    "ldp x27, x28, [sp, #64]; ldp x29, x30, [sp, #80]; ldp d8, d9, [sp, #96]; ldp d10, d11, [sp, #112]\n"
    "ldp d12, d13, [sp, #128]; ldp d14, d15, [sp, #144]\n"
    "add sp, sp, #160; ret\n");
inline void* first_frame(char* top, void (*entry)()) {
    void** sp = reinterpret_cast<void**>(top - 160);
    memset(sp, 0, 160);
    sp[11] = reinterpret_cast<void*>(entry);   // x30, where ret goes
    return sp;
}
#endif

enum State { READY, AT_BARRIER, IN_WARP, RETURNED };

// Where a thread waits: the line, and the calls that led to it, innermost first. The line alone would not do: a helper that
// both sides of a branch call has one line, and its callers have not met.
constexpr int DEEPEST = 16;
struct Site {
    int line = 0, depth = 0;
    uintptr_t calls[DEEPEST] = {};
    bool operator==(const Site&) const = default;
};

struct Fiber {
    void* sp;
    State state;
    Site site;                                 // where it waits
    int barriers;                              // how many it has come to
    unsigned mask;                             // for whom, in a warp
    const void* given;                         // what it brings to an exchange
    void* received;                            // where the gifts of all 32 lanes go
    size_t size;
};

static std::vector<Fiber> fibers;
static char* stacks = nullptr;
static size_t n_stacks = 0;
static void* scheduler;
static int current, error_set, shared_bytes;
static char* message;
constexpr int MESSAGE = 2048;                  // its bytes
static void (*body)(void*);
static void* body_argument;
static char* dynamic_shared = nullptr;
static long long counts[3];                    // barriers, exchanges in a warp, atomics: how often a thread came to one

inline void place(int t) {
    threadIdx = {unsigned(t) % blockDim.x, unsigned(t) / blockDim.x % blockDim.y, unsigned(t) / (blockDim.x * blockDim.y)};
}

template <typename... A> void fail(const char* format, A... a) {
    if (!error_set) snprintf(message, MESSAGE, format, a...);
    error_set = 1;
}

template <typename... A> void blame(const char* format, A... a) {                // a block
    char longer[200];
    snprintf(longer, sizeof longer, "block (%u, %u, %u): %s", blockIdx.x, blockIdx.y, blockIdx.z, format);
    fail(longer, a...);
}

// Frames are read as they lie: no sanitizer's business.
#define FRAMES_OF_THE_CALLERS __attribute__((no_sanitize("address", "thread", "undefined")))
#if EMULATOR_PORTABLE
inline _Unwind_Reason_Code note_call(_Unwind_Context* context, void* data) {
    Site& s = *static_cast<Site*>(data);
    if (s.depth == DEEPEST) return _URC_END_OF_STACK;
    s.calls[s.depth++] = _Unwind_GetIP(context);
    return _URC_NO_REASON;
}
FRAMES_OF_THE_CALLERS inline Site site(int line) {
    Site s{line};
    _Unwind_Backtrace(note_call, &s);
    return s;
}
#else
FRAMES_OF_THE_CALLERS inline Site site(int line) {                   // a frame begins with where its caller's lies, and where it returns to
    Site s{line};
    char* stack = stacks + current * STACK;
    void** frame = static_cast<void**>(__builtin_frame_address(0));
    for (; s.depth < DEEPEST && (char*)frame > stack && (char*)frame < stack + STACK; frame = static_cast<void**>(*frame))
        s.calls[s.depth++] = reinterpret_cast<uintptr_t>(frame[1]);
    return s;
}
#endif

inline void count(int what) {
    sanitizer::Ours ours;
    counts[what]++;
}

inline Fiber& wait_where(State state, int line) {
    sanitizer::Ours ours;
    Fiber& f = fibers[current];
    f.state = state;
    f.site = site(line);
    return f;
}

inline void wait(State state, int line) {
    Fiber& f = wait_where(state, line);
    sanitizer::to_scheduler();
    emulator_switch(&f.sp, scheduler);
}

// These two are never inlined: the innermost call is theirs, in the kernel's own text.
__device__ __noinline__ inline void barrier(int line) {
    {
        sanitizer::Ours ours;
        counts[0]++;
        fibers[current].barriers++;
    }
    wait(AT_BARRIER, line);
}

inline void entry() {
    body(body_argument);
    wait(RETURNED, 0);
}

// What messages are made of. A site reads "line 7{12ab 34cd }", the calls as places in this library, which Python looks up.
struct Text { char at[500]; };

uintptr_t load_address();                      // of this library

inline Text name(const Site& s) {
    Text text;
    int n = snprintf(text.at, sizeof text.at, "line %d{", s.line);
    for (int i = 0; i < s.depth; i++)
        n += snprintf(text.at + n, sizeof text.at - n, "%llx ", (unsigned long long)(s.calls[i] - 1 - load_address()));
    snprintf(text.at + n, sizeof text.at - n, "}");
    return text;
}

inline Text name(int thread) {
    Text text;
    unsigned t = thread, x = blockDim.x, y = blockDim.y;
    snprintf(text.at, sizeof text.at, "thread (%u, %u, %u)", t % x, t / x % y, t / (x * y));
    return text;
}

inline Text doing(int thread) {
    const Fiber& f = fibers[thread];
    Text text, who = name(thread), where = name(f.site);
    if (f.state == RETURNED) snprintf(text.at, sizeof text.at, "%s has returned", who.at);
    else if (f.state == AT_BARRIER) snprintf(text.at, sizeof text.at, "%s waits at the barrier of %s", who.at, where.at);
    else snprintf(text.at, sizeof text.at, "%s waits in %s, for lanes %08x of its warp", who.at, where.at, f.mask);
    return text;
}

// Lanes of a warp lay what they have on the table; when all of `mask` have, each takes the whole table home.
inline bool lay(unsigned mask, const void* given, void* received, size_t size, int line) {
    sanitizer::Ours ours;
    Fiber& f = fibers[current];
    counts[1]++;
    f.mask = mask, f.given = given, f.received = received, f.size = size;
    bool mine = mask >> (current % 32) & 1;
    if (!mine) blame("%s is not in the mask %08x of its own exchange in %s", name(current).at, mask, name(site(line)).at);
    return mine;
}
__device__ __noinline__ inline void exchange(unsigned mask, const void* given, void* received, size_t size, int line) {
    wait(lay(mask, given, received, size, line) ? IN_WARP : RETURNED, line);
}

// Copies in the background: a card makes them at any time between start and wait. Here they are made at once, as early as
// can be, or, where threads run backward, at the wait, as late as can be.
struct Copy { void* to; const void* from; int bytes; };
static std::vector<Copy> under_way[1024];                  // of each thread
static bool late_copies;

inline void make(const Copy& c) {
    if (c.from) memcpy(c.to, c.from, c.bytes);
    else memset(c.to, 0, c.bytes);
}
inline void start_copy(void* to, const void* from, int bytes) {
    if (!late_copies) return make({to, from, bytes});
    sanitizer::Ours ours;                 // the list; not what is copied
    under_way[current].push_back({to, from, bytes});
}
inline void wait_for_copies() {
    std::vector<Copy> mine;
    {
        sanitizer::Ours ours;
        mine.swap(under_way[current]);
    }
    for (const Copy& c : mine) make(c);
}

// All lanes of some mask have come: hand out. Returns whether anybody was served.
inline bool serve_warps(int threads) {
    bool served = false;
    for (int t = 0; t < threads; t++) {
        if (fibers[t].state != IN_WARP) continue;
        int warp = t / 32 * 32;
        bool complete = true;
        for (int lane = 0; lane < 32 && complete; lane++) {
            if (!(fibers[t].mask >> lane & 1)) continue;
            int u = warp + lane;
            if (u >= threads) { complete = false; break; }                     // a mask may not name lanes that do not exist
            complete = fibers[u].state == IN_WARP && fibers[u].mask == fibers[t].mask && fibers[u].site == fibers[t].site;
        }
        if (!complete) continue;
        unsigned mask = fibers[t].mask;
        size_t size = fibers[t].size;
        for (int to = 0; to < 32; to++) {
            if (!(mask >> to & 1) || !size) continue;
            char* table = static_cast<char*>(fibers[warp + to].received);
            for (int from = 0; from < 32; from++) {
                if (mask >> from & 1) memcpy(table + from * size, fibers[warp + from].given, size);
                else memset(table + from * size, 0xff, size);                  // nobody's: NaN
            }
        }
        std::vector<int> lanes;
        for (int lane = 0; lane < 32; lane++) if (mask >> lane & 1) lanes.push_back(warp + lane);
        for (int u : lanes) fibers[u].state = READY;
        if (!size) sanitizer::meet(lanes);                                     // __syncwarp; a shuffle orders no memory
        served = true;
    }
    return served;
}

// All threads have come to the same barrier: let them go on.
inline bool open_barrier(int threads) {
    int waiting = 0, first = 0;
    for (int t = 0; t < threads; t++) {
        if (fibers[t].state != AT_BARRIER) continue;
        if (waiting++ == 0) first = t;
        else if (fibers[t].site != fibers[first].site) {
            blame("divergent barrier: %s, %s", doing(first).at, doing(t).at);
            return false;
        }
    }
    if (waiting != threads) return false;
    std::vector<int> all(threads);
    for (int t = 0; t < threads; t++) fibers[all[t] = t].state = READY;
    sanitizer::meet(all);
    return true;
}

// Nobody can go on: name one who waits, and the first who does not come.
inline void tell_who_waits(int threads) {
    for (int t = 0; t < threads; t++) {
        const Fiber& f = fibers[t];
        if (f.state == RETURNED) continue;
        bool warp = f.state == IN_WARP;
        for (int i = 0; i < (warp ? 32 : threads); i++) {
            int u = warp ? t / 32 * 32 + i : i;
            if (warp && !(f.mask >> i & 1)) continue;
            if (u >= threads) return blame("%s, and not all of them come: the block has %d threads", doing(t).at, threads);
            const Fiber& g = fibers[u];
            if (g.state != f.state || g.mask != f.mask || g.site != f.site)
                return blame("%s, and not all of them come: %s", doing(t).at, doing(u).at);
        }
    }
}

inline unsigned draw(unsigned& seed) { return seed = seed * 1664525u + 1013904223u; }

inline void run_block(int threads, int order, unsigned& seed) {
    late_copies = order == 1;
    std::vector<int> turn(threads);
    for (int t = 0; t < threads; t++) turn[t] = order == 1 ? threads - 1 - t : t;
    for (int t = 0; t < threads; t++) {
        fibers[t] = Fiber{};
        under_way[t].clear();
        fibers[t].sp = first_frame(stacks + (t + 1) * STACK, entry);
    }
    for (bool progress = true; progress && !error_set;) {
        progress = false;
        if (order == 2) for (int t = threads - 1; t > 0; t--) std::swap(turn[t], turn[draw(seed) / 65536 % (t + 1)]);
        for (int t : turn) {
            if (fibers[t].state != READY) continue;
            current = t;
            place(t);
            void* sp = fibers[t].sp;
            sanitizer::to_thread(t);
            emulator_switch(&scheduler, sp);
            progress = true;
            if (error_set) return;
        }
        progress |= serve_warps(threads);
        progress |= open_barrier(threads);
    }
    if (!error_set) tell_who_waits(threads);
}

// ---- shared memory --------------------------------------------------------------------------------------------------

constexpr int CANARY = sanitizer::ON ? 0 : 64;    // a sanitizer watches the end itself

struct Range { const void* inside; char* start; size_t size; uintptr_t base; };

inline int find_static_shared(dl_phdr_info* info, size_t, void* data) {        // this library's thread-local data
    Range* r = static_cast<Range*>(data);
    bool ours = false;
    size_t size = 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr)& p = info->dlpi_phdr[i];
        char* start = reinterpret_cast<char*>(info->dlpi_addr + p.p_vaddr);
        if (p.p_type == PT_LOAD && r->inside >= start && r->inside < start + p.p_memsz) ours = true;
        if (p.p_type == PT_TLS) size = p.p_memsz;
    }
    if (ours) r->start = size ? static_cast<char*>(info->dlpi_tls_data) : nullptr, r->size = size, r->base = info->dlpi_addr;
    return ours;
}

// The loader tells where thread-local data lies once some of it was used. This is not zero at first, as shared memory is: so
// it lies before that, and the rest is the kernel's.
alignas(64) static thread_local volatile char touched[64] = {1};

inline Range static_shared() {
    touched[0] = 1;
    Range r{reinterpret_cast<const void*>(&find_static_shared), nullptr, 0, 0};
    dl_iterate_phdr(find_static_shared, &r);
    return r;
}

inline uintptr_t load_address() { return static_shared().base; }

inline void poison_shared() {
    Range r = static_shared();
    if (r.start) memset(r.start, 0xff, r.size);
    memset(dynamic_shared, 0xff, shared_bytes);
    memset(dynamic_shared + shared_bytes, 0x5a, CANARY);
}

inline void* dynamic() { return dynamic_shared; }

// Stacks for so many fibers: last block's where they will do, but a sanitizer remembers who wrote there.
inline void make_stacks(int threads) {
    if (n_stacks >= size_t(threads) && !sanitizer::ON) return;
    if (stacks) munmap(stacks, n_stacks * STACK);
    stacks = static_cast<char*>(mmap(nullptr, threads * STACK, PROT_READ | PROT_WRITE,
                                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    n_stacks = threads;
    sanitizer::fresh(stacks, n_stacks * STACK);
}

inline void one_block(int threads, int order, unsigned& seed) {
    sanitizer::Ours ours;
    make_stacks(threads);
    void* room = nullptr;
    if (posix_memalign(&room, 64, shared_bytes + CANARY)) return fail("no memory for %d shared bytes", shared_bytes);
    dynamic_shared = static_cast<char*>(room);
    poison_shared();
    sanitizer::begin_block(threads, blockIdx.x, blockIdx.y, blockIdx.z);
    run_block(threads, order, seed);
    for (int k = 0; k < CANARY && !error_set; k++)
        if (dynamic_shared[shared_bytes + k] != 0x5a)
            blame("a thread wrote past its %d bytes of dynamic shared memory", shared_bytes);
    free(room);
}

// ---- the launch -----------------------------------------------------------------------------------------------------

template <typename T> int width() { return sizeof(std::remove_pointer_t<T>); }
template <typename T> bool floating() { return std::is_floating_point<std::remove_pointer_t<T>>::value; }

// codes: for each argument four numbers: is it an array? bytes of an element, is it floating? its place in memory
template <typename... A, size_t... I>
bool check(const long long* codes, int n, std::index_sequence<I...>) {
    if (n != int(sizeof...(A))) { fail("the kernel takes %d arguments and was given %d", int(sizeof...(A)), n); return false; }
    bool ok = true;
    auto one = [&](int i, bool array, int bytes, bool real) {
        const long long* c = codes + 4 * i;
        if (c[0] != array || c[1] != bytes || (bytes > 2 && c[2] != real)) {
            fail("argument %d: the kernel reads %s%s of %d bytes and was given %s%s of %lld", i, array ? "an array, " : "",
                 real ? "floating" : "integer", bytes, c[0] ? "an array, " : "", c[2] ? "floating" : "integer", c[1]);
            ok = false;
        }
    };
    (one(int(I), std::is_pointer<A>::value, width<A>(), floating<A>()), ...);
    return ok;
}

template <typename... A, size_t... I>
void run(void (*f)(A...), const int* size, int shared, const long long* codes, int n, int order, unsigned seed,
         std::index_sequence<I...> all) {
    if (!check<A...>(codes, n, all)) return;
    auto call = [&] { f(*reinterpret_cast<std::remove_reference_t<A>*>(codes[4 * I + 3])...); };
    body = [](void* c) { (*static_cast<decltype(call)*>(c))(); };
    body_argument = &call;
    gridDim = {unsigned(size[0]), unsigned(size[1]), unsigned(size[2])};
    blockDim = {unsigned(size[3]), unsigned(size[4]), unsigned(size[5])};
    int threads = size[3] * size[4] * size[5];
    long long blocks = (long long)size[0] * size[1] * size[2];
    if (threads * blocks > sanitizer::MOST)
        return fail("ThreadSanitizer tells %lld threads apart, and %lld blocks of %d are more: launch fewer", sanitizer::MOST,
                    blocks, threads);
    if (fibers.size() < size_t(threads)) fibers.resize(threads);
    shared_bytes = shared;
    for (long long i = 0; i < blocks && !error_set; i++) {
        long long b = order == 1 ? blocks - 1 - i : i;
        blockIdx = {unsigned(b % gridDim.x), unsigned(b / gridDim.x % gridDim.y), unsigned(b / gridDim.x / gridDim.y)};
        sanitizer::apart([&] { one_block(threads, order, seed); });
    }
}

template <typename... A>
int launch(void (*f)(A...), const int* size, int shared, const long long* codes, int n, int order, unsigned seed, char* text,
           long long* counted) {
    sanitizer::Ours ours;
    message = text;
    error_set = 0;
    sanitizer::at_the_end([](int) {
        fprintf(stderr, "emulator: block (%u, %u, %u), thread %d\n", blockIdx.x, blockIdx.y, blockIdx.z, current);
        _exit(1);
    });
    memset(counts, 0, sizeof counts);
    run(f, size, shared, codes, n, order, seed, std::index_sequence_for<A...>{});
    memcpy(counted, counts, sizeof counts);
    return error_set;
}

template <typename T> T shuffle(unsigned mask, T x, int source, int line) {
    T table[32];
    exchange(mask, &x, table, sizeof(T), line);
    if (!(mask >> source & 1)) blame("%s reads lane %d in %s, which is not in the mask %08x", name(current).at, source,
                                     name(fibers[current].site).at, mask);
    return table[source];
}

inline unsigned ballot(unsigned mask, bool vote, int line) {
    unsigned char mine = vote, table[32];
    exchange(mask, &mine, table, 1, line);
    unsigned result = 0;
    for (int lane = 0; lane < 32; lane++) if (mask >> lane & 1 && table[lane]) result |= 1u << lane;
    return result;
}

}  // namespace emulator

// ---- what CUDA calls them -------------------------------------------------------------------------------------------

#define __syncthreads() emulator::barrier(__LINE__)
#define EMULATOR_MASK(first, ...) first
#define __syncwarp(...) emulator::exchange(EMULATOR_MASK(__VA_ARGS__ __VA_OPT__(,) 0xffffffffu), nullptr, nullptr, 0, __LINE__)
#define EMULATOR_LANE (emulator::current % 32)
#define __shfl_sync(mask, x, lane) emulator::shuffle(mask, x, (lane) & 31, __LINE__)
#define __shfl_xor_sync(mask, x, d) emulator::shuffle(mask, x, EMULATOR_LANE ^ (d), __LINE__)
#define __shfl_down_sync(mask, x, d) emulator::shuffle(mask, x, EMULATOR_LANE + int(d) < 32 ? EMULATOR_LANE + int(d) : EMULATOR_LANE, __LINE__)
#define __shfl_up_sync(mask, x, d) emulator::shuffle(mask, x, EMULATOR_LANE - int(d) >= 0 ? EMULATOR_LANE - int(d) : EMULATOR_LANE, __LINE__)
#define __ballot_sync(mask, vote) emulator::ballot(mask, vote, __LINE__)
#define __any_sync(mask, vote) (emulator::ballot(mask, vote, __LINE__) != 0)
#define __all_sync(mask, vote) (emulator::ballot(mask, vote, __LINE__) == unsigned(mask))

#define watch(name, value) ((void)0)           // see traffic.h
#ifdef EMULATOR_TRACE
#include "traffic.h"
#endif

template <typename T, typename F> T emulator_atomic(T* p, F next) {           // *p = next(*p), at once
    emulator::count(2);
    return sanitizer::atomically(p, next);
}
template <typename T> T atomicAdd(T* p, std::common_type_t<T> x) { return emulator_atomic(p, [=](T old) { return T(old + x); }); }
template <typename T> T atomicMax(T* p, std::common_type_t<T> x) { return emulator_atomic(p, [=](T old) { return x > old ? x : old; }); }
template <typename T> T atomicMin(T* p, std::common_type_t<T> x) { return emulator_atomic(p, [=](T old) { return x < old ? x : old; }); }
template <typename T> T atomicExch(T* p, std::common_type_t<T> x) { return emulator_atomic(p, [=](T) { return x; }); }
template <typename T> T atomicCAS(T* p, std::common_type_t<T> compare, std::common_type_t<T> x) {
    return emulator_atomic(p, [=](T old) { return old == compare ? x : old; });
}

inline float __int_as_float(int x) { float y; memcpy(&y, &x, 4); return y; }
inline float __uint_as_float(unsigned x) { float y; memcpy(&y, &x, 4); return y; }
inline int __float_as_int(float x) { int y; memcpy(&y, &x, 4); return y; }
inline unsigned __float_as_uint(float x) { unsigned y; memcpy(&y, &x, 4); return y; }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((unsigned long long)a * b >> 32); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline void __threadfence() { sanitizer::meet_at_fence(); }
template <typename T> T __ldg(const T* p) { return *p; }
template <typename T> T min(T a, std::common_type_t<T> b) { return b < a ? b : a; }
template <typename T> T max(T a, std::common_type_t<T> b) { return a < b ? b : a; }

// IEEE half precision: a sign, 5 bits of exponent, 10 of mantissa.
inline float half_to_float(unsigned short h) {
    int e = h >> 10 & 31, m = h & 1023;
    float x = e == 31 ? (m ? NAN : INFINITY) : e ? ldexpf(float(m + 1024), e - 25) : ldexpf(float(m), -24);
    return h >> 15 ? -x : x;
}
inline unsigned short float_to_half(float x) {               // to nearest, ties to even
    unsigned short sign = (unsigned short)(__float_as_uint(x) >> 16 & 0x8000);
    x = fabsf(x);
    if (x != x) return 0x7fff;
    if (x >= 65520.0f) return sign | 0x7c00;                 // rounds to infinity
    int e;
    frexpf(x, &e);                                           // x = m · 2ᵉ, ½ ≤ m < 1
    int shift = e - 11 < -24 ? -24 : e - 11;                 // the last place
    unsigned n = unsigned(nearbyintf(ldexpf(x, -shift)));    // 1024 … 2048, fewer where subnormal
    return sign | (unsigned short)(n + (n >= 1024 ? (unsigned(shift + 24) << 10) : 0));
}
