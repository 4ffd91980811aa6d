// What CUDA C gives the kernels, for a C++ compiler: tests only.
//
// A block's threads are fibers of the calling thread, run in turn. A fiber that reaches a barrier (of
// its block, or of its warp: shuffles and votes are two numbers exchanged at one) gives way to the
// others until all have reached it. A block in which some threads end while others wait is an error,
// as is a barrier that not every thread of a warp reaches. Blocks run one after another.

#include <cmath>
#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <ucontext.h>
#include <utility>
#include <vector>

#define EMULATED
#define __device__
#define __forceinline__ inline
#define __global__
#define __launch_bounds__(threads)
// One copy for all fibers of a thread, which is what a block is.
#define __shared__ static thread_local
#define SHARED(type, name) type* name = reinterpret_cast<type*>(emulator.shared.data())

struct Index {
    unsigned x, y, z;
};

static thread_local Index threadIdx, blockIdx, blockDim, gridDim;

namespace emulation {

constexpr size_t STACK = 128 << 10;
constexpr unsigned MOST_THREADS = 1024;

// A barrier: how many threads wait, and how often it has opened.
struct Barrier {
    unsigned waiting = 0;
    unsigned opened = 0;
};

struct Fiber {
    std::vector<char> stack;
    jmp_buf place;
    ucontext_t first;
    bool started = false;
    bool ended = true;
    unsigned number = 0;
};

struct Emulator {
    std::vector<Fiber*> fibers;
    jmp_buf scheduler;
    Fiber* running = nullptr;
    unsigned threads = 0;
    unsigned ended = 0;
    void (*body)(void**) = nullptr;
    void** arguments = nullptr;
    std::vector<double> shared;
    Barrier block;
    Barrier warps[MOST_THREADS / 32];
    // Two of each, in turn: a thread may reach the next exchange while others still read this one.
    uint64_t exchanged[2][MOST_THREADS];
    unsigned turn[MOST_THREADS];
    const char* fault = nullptr;
};

}  // namespace emulation

static thread_local emulation::Emulator emulator;

namespace emulation {

[[noreturn]] inline void die(const char* what) {
    std::fprintf(stderr, "the emulated device: %s\n", what);
    std::abort();
}

// Lets the other fibers run.
inline void give_way() {
    Fiber* own = emulator.running;
    if (_setjmp(own->place) == 0) _longjmp(emulator.scheduler, 1);
    threadIdx.x = own->number;
}

inline void wait(Barrier& barrier, unsigned count) {
    unsigned opened = barrier.opened;
    if (++barrier.waiting == count) {
        barrier.waiting = 0;
        barrier.opened++;
        return;
    }
    while (barrier.opened == opened) give_way();
}

inline void wait_for_warp() { wait(emulator.warps[threadIdx.x / 32], 32); }

// Gives the value of every lane of the warp.
template <class T, class Read>
auto exchange(T own, Read read) {
    static_assert(sizeof(T) <= 8);
    unsigned number = threadIdx.x, turn = emulator.turn[number]++ & 1;
    std::memcpy(&emulator.exchanged[turn][number], &own, sizeof own);
    wait_for_warp();
    auto of_lane = [&](unsigned lane) {
        T value;
        std::memcpy(&value, &emulator.exchanged[turn][number / 32 * 32 + lane], sizeof value);
        return value;
    };
    return read(of_lane, number % 32);
}

inline void fiber_main() {
    for (;;) {
        threadIdx.x = emulator.running->number;
        emulator.body(emulator.arguments);
        emulator.running->ended = true;
        emulator.ended++;
        give_way();
    }
}

inline void resume(Fiber* fiber) {
    emulator.running = fiber;
    if (_setjmp(emulator.scheduler) != 0) return;
    if (fiber->started) _longjmp(fiber->place, 1);
    fiber->started = true;
    setcontext(&fiber->first);
}

inline void run_block() {
    emulator.ended = 0;
    emulator.block = {};
    for (auto& warp : emulator.warps) warp = {};
    for (unsigned i = 0; i < emulator.threads; i++) emulator.fibers[i]->ended = false;
    while (emulator.ended < emulator.threads) {
        unsigned ended = emulator.ended, opened = emulator.block.opened;
        unsigned warps_opened = 0;
        for (auto& warp : emulator.warps) warps_opened += warp.opened;
        for (unsigned i = 0; i < emulator.threads; i++)
            if (!emulator.fibers[i]->ended) resume(emulator.fibers[i]);
        unsigned warps_opened_now = 0;
        for (auto& warp : emulator.warps) warps_opened_now += warp.opened;
        if (ended == emulator.ended && opened == emulator.block.opened
            && warps_opened == warps_opened_now)
            die("threads wait at a barrier that others do not reach");
    }
    if (emulator.block.waiting != 0) die("a barrier was reached by a part of the block");
}

inline void prepare(unsigned threads, size_t shared) {
    if (threads == 0 || threads % 32 != 0 || threads > MOST_THREADS)
        die("a block must have whole warps, 32 at most");
    while (emulator.fibers.size() < threads) {
        Fiber* fiber = new Fiber;
        fiber->number = emulator.fibers.size();
        fiber->stack.resize(STACK);
        getcontext(&fiber->first);
        fiber->first.uc_stack.ss_sp = fiber->stack.data();
        fiber->first.uc_stack.ss_size = STACK;
        makecontext(&fiber->first, fiber_main, 0);
        emulator.fibers.push_back(fiber);
    }
    emulator.threads = threads;
    // Not-a-number where nothing was written.
    emulator.shared.assign(shared / sizeof(double) + 1, NAN);
}

// Calls a kernel with arguments given as CUDA's launch gives them: a pointer to each.
template <auto kernel>
struct Call;

template <class... A, void (*kernel)(A...)>
struct Call<kernel> {
    static constexpr int count = sizeof...(A);
    static void run(void** arguments) { spread(arguments, std::index_sequence_for<A...>{}); }
    template <size_t... I>
    static void spread(void** arguments, std::index_sequence<I...>) {
        kernel(*static_cast<std::remove_cv_t<A>*>(arguments[I])...);
    }
};

struct Entry {
    const char* name;
    int arguments;
    void (*run)(void**);
};

}  // namespace emulation

inline void __syncthreads() { emulation::wait(emulator.block, blockDim.x); }
inline void __syncwarp() { emulation::wait_for_warp(); }

template <class T>
T __shfl_xor_sync(unsigned, T own, int mask) {
    return emulation::exchange(own, [&](auto of, unsigned lane) { return of(lane ^ mask); });
}

template <class T>
T __shfl_up_sync(unsigned, T own, unsigned by) {
    return emulation::exchange(
        own, [&](auto of, unsigned lane) { return of(lane >= by ? lane - by : lane); });
}

template <class T>
T __shfl_sync(unsigned, T own, int from) {
    return emulation::exchange(own, [&](auto of, unsigned) { return of(from % 32); });
}

inline unsigned __ballot_sync(unsigned, bool own) {
    return emulation::exchange(own, [&](auto of, unsigned) {
        unsigned votes = 0;
        for (unsigned lane = 0; lane < 32; lane++) votes |= unsigned(of(lane)) << lane;
        return votes;
    });
}

inline float __uint_as_float(unsigned bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}
inline float __int_as_float(int bits) { return __uint_as_float(unsigned(bits)); }
inline unsigned __float_as_uint(float x) {
    unsigned bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(unsigned bits) { return __builtin_ffs(int(bits)); }
inline int __clz(unsigned bits) { return bits == 0 ? 32 : __builtin_clz(bits); }

template <class T>
T min(T a, T b) {
    return b < a ? b : a;
}
template <class T>
T max(T a, T b) {
    return a < b ? b : a;
}
