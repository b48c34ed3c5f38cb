# %% [markdown]
"""# A GPU kernel, step by step, on a computer without a GPU

Shows what eight threads hold before and after each barrier of a softmax kernel, counts what they read and write, and shows
what happens when a barrier is left out. Needs a C++ compiler.

    python examples/25_gpu_kernel_on_cpu.py

Takes 5 s on two cores. There is a question before each result: answer it before you read on.
Last line: without the barriers: right in 0 of 3 orders of the threads
"""
# %%
import numpy as np

from tinygrad_lm import emulator

if not emulator.available():
    raise SystemExit("This needs a C++ compiler (g++ or clang++): install one.")

# %% [markdown]
# One block of 8 threads makes the softmax of one row of 16 numbers. A thread holds two numbers in its own registers; what
# the others must know goes through shared memory. `watch` is there for us: it notes what each thread holds at that moment,
# and is nothing on a GPU.

# %%
KERNEL = """
extern "C" __global__ void softmax(const float* x, float* y) {
    __shared__ float scratch[8];
    int t = threadIdx.x;
    float a = x[t], b = x[t + 8];                        // two reads of global memory, the only ones
    watch("a", a);
    watch("b", b);

    scratch[t] = fmaxf(a, b);
    watch("scratch", scratch[t]);
    __syncthreads();
    for (int half = 4; half; half /= 2) {
        if (t < half) scratch[t] = fmaxf(scratch[t], scratch[t + half]);
        __syncthreads();
        watch("scratch", scratch[t]);
    }
    float largest = scratch[0];
    __syncthreads();                                     // all have read scratch[0] before thread 0 writes it again

    a = expf(a - largest);
    b = expf(b - largest);
    scratch[t] = a + b;
    watch("scratch", scratch[t]);
    __syncthreads();
    for (int half = 4; half; half /= 2) {
        if (t < half) scratch[t] += scratch[t + half];
        __syncthreads();
        watch("scratch", scratch[t]);
    }
    y[t] = a / scratch[0];
    y[t + 8] = b / scratch[0];
}
"""


def run(code, x, *, threads=8, order="forward"):
    """(y, the launch: its traffic and what was watched, how often a thread waited at a barrier)"""
    y = np.empty_like(x)
    kernel = emulator.RawModule(code=code, options=("-std=c++17",)).get_function("softmax")
    with emulator.trace() as launches, emulator.thread_order(order):
        kernel((1, 1, 1), (threads, 1, 1), (x, y))
    return y, launches[0], kernel.counted["barriers"] // threads


def show(label, threads):
    print(f"{label:<34}" + " ".join(f"{value:6.2f}" for value in threads))


x = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3], np.float32)
y, launch, _ = run(KERNEL, x)
show("in a register: thread 0 … 7", launch.held("a", 0))
show("and in another", launch.held("b", 0))

# %%
print("\n1. Each thread writes the larger of its two numbers to shared memory. Then half of the threads compare theirs "
      "with\n"
      "   the number 4 places on, then a quarter with 2 places on, then one. Guess first: how many\n"
      "   barriers until thread 0 has it?")
for label, barriers in (("before the first barrier", 0), ("after comparing 4 apart", 2), ("2 apart", 3), ("1 apart", 4)):
    show(label, launch.held("scratch", barriers))

# %%
print("\n2. The same tree adds exp(x - largest). What does thread 0 hold at the end, and what do threads 4 to 7 still hold?")
for label, barriers in (("before its first barrier", 5), ("after adding 4 apart", 7), ("2 apart", 8), ("1 apart", 9)):
    show(label, launch.held("scratch", barriers))

# %%
print("\n3. Guess first: a row of 16 numbers was read how often? And by one thread with three loops (maximum, sum, "
      "division)?")
THREE_LOOPS = """
extern "C" __global__ void softmax(const float* x, float* y) {
    float largest = x[0], sum = 0;
    for (int i = 1; i < 16; i++) largest = fmaxf(largest, x[i]);
    for (int i = 0; i < 16; i++) sum += expf(x[i] - largest);
    for (int i = 0; i < 16; i++) y[i] = expf(x[i] - largest) / sum;
}
"""
for label, code, threads in (("eight threads", KERNEL, 8), ("three loops", THREE_LOOPS, 1)):
    _, launch, barriers = run(code, x, threads=threads)
    print(f"   {label:<14} global memory: {launch.memory.reads} reads, {launch.memory.writes} writes; shared memory: "
          f"{launch.shared.reads} reads, {launch.shared.writes} writes; a thread waited at {barriers} barriers")

# %%
print("\n4. Guess first: without the barriers inside the loops, is the result still right? On a GPU: sometimes. Here in "
      "three\n"
      "   orders of the threads:")
BROKEN = KERNEL.replace("        __syncthreads();\n", "")
right = np.exp(x - x.max()) / np.exp(x - x.max()).sum()
survived = []
for order in ("forward", "backward", "shuffled"):
    sound, broken = (np.allclose(run(code, x, order=order)[0], right, rtol=1e-5) for code in (KERNEL, BROKEN))
    print(f"   {order:<9} with barriers: {'right' if sound else 'WRONG'}   without: {'right' if broken else 'WRONG'}")
    survived.append(broken)

# %%
print(f"\nwithout the barriers: right in {sum(survived)} of {len(survived)} orders of the threads")
