// What AddressSanitizer and ThreadSanitizer cannot know of an emulated launch: which fiber runs, which accesses are the
// emulator's own, and what orders CUDA's threads. Compiled without them, all of this is nothing.
//
// ThreadSanitizer keeps for each thread what came before it, and reports two accesses to one place, one of them a write, of
// which neither came before the other, even where this run's turns hid it. What orders threads: the launch comes before
// all, and a __syncthreads or __syncwarp orders those who meet there. Nothing else does: blocks are not ordered, shuffles
// move numbers and order no memory, atomics are relaxed. (__threadfence orders all who come to one, in the order of coming:
// more than it promises, so that the pattern "the last block adds up" is not blamed.)
#pragma once
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <unistd.h>
#if defined(__has_feature)                     // clang's way to say it
#if __has_feature(address_sanitizer) && !defined(__SANITIZE_ADDRESS__)
#define __SANITIZE_ADDRESS__ 1
#elif __has_feature(thread_sanitizer) && !defined(__SANITIZE_THREAD__) && !defined(EMULATOR_TRACE)
#define __SANITIZE_THREAD__ 1
#endif
#endif

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#define SHARED_MEMORY static                   // red zones are put round it, which thread-local data does not get
#else
#define SHARED_MEMORY static thread_local
#endif

#ifdef __SANITIZE_THREAD__
#include <pthread.h>
#include <sanitizer/tsan_interface.h>
#include <vector>

extern "C" {
void AnnotateIgnoreReadsBegin(const char*, int);
void AnnotateIgnoreReadsEnd(const char*, int);
void AnnotateIgnoreWritesBegin(const char*, int);
void AnnotateIgnoreWritesEnd(const char*, int);
}

namespace sanitizer {

constexpr bool ON = true;

// While one lives, its thread's accesses are the emulator's own and of no interest.
struct Ours {
    Ours() { AnnotateIgnoreReadsBegin(__FILE__, __LINE__), AnnotateIgnoreWritesBegin(__FILE__, __LINE__); }
    ~Ours() { AnnotateIgnoreReadsEnd(__FILE__, __LINE__), AnnotateIgnoreWritesEnd(__FILE__, __LINE__); }
};

static void* scheduler;                        // who switches
static void** fibers;                          // thread t of the block
static char* met;                              // [t]: what all have done who met where t was the first
constexpr long long MOST = 8000;                     // threads of all blocks that ThreadSanitizer can tell apart

// No fiber is ever destroyed: the next one would be taken for the same thread.
inline void begin_block(int threads, unsigned x, unsigned y, unsigned z) {
    scheduler = __tsan_get_current_fiber();
    met = new char[threads], fibers = new void*[threads];      // never deleted: no other block may have these addresses
    for (int t = 0; t < threads; t++) {
        char name[64];
        snprintf(name, sizeof name, "block (%u, %u, %u), thread %d", x, y, z, t);
        __tsan_set_fiber_name(fibers[t] = __tsan_create_fiber(0), name);
    }
}

// Just before stacks are switched. That one runs after the other orders nothing.
inline void to_thread(int t) { __tsan_switch_to_fiber(fibers[t], __tsan_switch_to_fiber_no_sync); }
inline void to_scheduler() { __tsan_switch_to_fiber(scheduler, __tsan_switch_to_fiber_no_sync); }

// What these threads of the block have done comes before what they will do.
inline void meet(const std::vector<int>& threads) {
    void* place = &met[threads[0]];
    for (int t : threads) to_thread(t), __tsan_release(place);
    for (int t : threads) to_thread(t), __tsan_acquire(place);
    to_scheduler();
}
static char fence;
inline void meet_at_fence() { __tsan_acquire(&fence), __tsan_release(&fence); }

// *p = next(*p), so that ThreadSanitizer knows it for an atomic operation, which orders nothing else.
template <typename T, typename F> T atomically(T* p, F next) {
    T old, x;
    __atomic_load(p, &old, __ATOMIC_RELAXED);
    do x = next(old); while (!__atomic_compare_exchange(p, &old, &x, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return old;
}

inline void at_the_end(void (*)(int)) {}       // the report has the fibers' names
inline void fresh(void*, size_t) {}            // new memory is

// A block runs in a thread of its own, and so has shared memory of its own. The fibers' ends order nothing: no block comes
// before another.
template <typename F> void apart(F run_block) {
    pthread_t block;
    pthread_create(&block, nullptr, [](void* f) -> void* { (*static_cast<F*>(f))(); return nullptr; }, &run_block);
    pthread_join(block, nullptr);
}

}  // namespace sanitizer

#else

namespace sanitizer {

#ifdef __SANITIZE_ADDRESS__
constexpr bool ON = true;
#else
constexpr bool ON = false;
#endif
struct Ours {};
constexpr long long MOST = INT64_MAX;
inline void begin_block(int, unsigned, unsigned, unsigned) {}
inline void to_thread(int) {}
inline void to_scheduler() {}
template <typename Threads> void meet(const Threads&) {}
inline void meet_at_fence() {}
template <typename T, typename F> T atomically(T* p, F next) {
    T old = *p;
    *p = next(old);
    return old;
}
template <typename F> void apart(F run_block) { run_block(); }
#ifdef __SANITIZE_ADDRESS__
inline void at_the_end(void (*tell)(int)) { signal(SIGABRT, tell); }           // a report ends with abort(): see sanitize.py
inline void fresh(void* stacks, size_t bytes) { __asan_unpoison_memory_region(stacks, bytes); }  // some frames never returned
#else
inline void at_the_end(void (*)(int)) {}
inline void fresh(void*, size_t) {}
#endif

}  // namespace sanitizer

#endif
