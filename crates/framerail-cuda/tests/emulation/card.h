// Emulates a GPU: blocks run one after another, the threads of a block take turns at barriers. Loads are bounds-checked.
#include <cmath>
#include <csetjmp>
#include <cstdint>
#include <cstring>
#include <memory>
#include <ucontext.h>
#include <vector>

#define FRAMERAIL_EMULATION
#define __shared__ static

struct Position {
    unsigned x, y, z;
};
static Position threadIdx, blockIdx, blockDim, gridDim;

static std::vector<std::pair<uint64_t, uint64_t>> readable;
static uint64_t violations;

template <typename T> static T __ldg(const T *at) {
    uint64_t first = (uint64_t)at, end = first + sizeof(T);
    for (auto &range : readable) {
        if (first >= range.first && end <= range.second && first % alignof(T) == 0) return *at;
    }
    violations++;
    return T{};
}

template <typename T> static T atomicAdd(T *at, T value) {
    T old = *at;
    *at += value;
    return old;
}

// Threads of the current block.
struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    // Switches after the first use jumps, which need no system call.
    jmp_buf turn;
    bool started, done;
};
static std::vector<Fiber> fibers;
static size_t running;
static ucontext_t unused_context;
static jmp_buf scheduler;
static void (*kernel_function)(const void *);
static const void *kernel_parameters;

static void __syncthreads() {
    if (!_setjmp(fibers[running].turn)) _longjmp(scheduler, 1);
}

static void run_thread() {
    kernel_function(kernel_parameters);
    fibers[running].done = true;
    _longjmp(scheduler, 1);
}

static void take_turn(Fiber &fiber) {
    if (_setjmp(scheduler)) return;
    if (fiber.started) _longjmp(fiber.turn, 1);
    fiber.started = true;
    swapcontext(&unused_context, &fiber.context);
}

static void run_block() {
    const size_t stack_bytes = 64 * 1024;
    size_t count = blockDim.x * blockDim.y * blockDim.z;
    fibers.resize(count);
    for (auto &fiber : fibers) {
        if (!fiber.stack) fiber.stack = std::make_unique<char[]>(stack_bytes);
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.get();
        fiber.context.uc_stack.ss_size = stack_bytes;
        fiber.context.uc_link = nullptr;
        fiber.started = fiber.done = false;
        makecontext(&fiber.context, run_thread, 0);
    }
    for (bool any = true; any;) {
        any = false;
        for (running = 0; running < count; running++) {
            if (fibers[running].done) continue;
            any = true;
            threadIdx = {(unsigned)running % blockDim.x, (unsigned)running / blockDim.x % blockDim.y,
                         (unsigned)running / (blockDim.x * blockDim.y)};
            take_turn(fibers[running]);
        }
    }
}

// Returns the number of loads outside the ranges.
extern "C" uint64_t framerail_run(void (*kernel)(const void *), const void *parameters, const uint32_t *grid, const uint32_t *block,
                                  const uint64_t *ranges, uint64_t range_count) {
    kernel_function = kernel;
    kernel_parameters = parameters;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    readable.clear();
    for (uint64_t i = 0; i < range_count; i++) readable.push_back({ranges[2 * i], ranges[2 * i + 1]});
    violations = 0;
    for (blockIdx.z = 0; blockIdx.z < gridDim.z; blockIdx.z++) {
        for (blockIdx.y = 0; blockIdx.y < gridDim.y; blockIdx.y++) {
            for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++) run_block();
        }
    }
    return violations;
}
