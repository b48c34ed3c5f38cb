# %% [markdown]
"""# A GPU kernel, step by step, on a computer without a GPU

Shows what eight threads hold before and after each barrier of a softmax kernel, counts what they read, and what happens
when a barrier is left out. Needs a C++ compiler; takes a few seconds.

    python examples/gpu_kernel_on_cpu.py

Before each result there is a question: answer it before you read on.
"""
# %%
import numpy as np

from tinygrad_lm import emulator

if not emulator.available():
    raise SystemExit("This needs a C++ compiler (g++ or clang++): install one.")

# %% [markdown]
# One block of 8 threads makes the softmax of one row of 16 numbers. A thread holds two numbers in its own registers; what
# the others must know goes through shared memory. `trace` is there for us: a line for each moment that we want to look at.

# %%
KERNEL = """
extern "C" __global__ void softmax(const float* x, float* y, float* trace, int* reads) {
    __shared__ float scratch[8];
    int t = threadIdx.x;
    float a = x[t], b = x[t + 8];                        // two reads of global memory, the only ones
    atomicAdd(reads, 2);

    scratch[t] = fmaxf(a, b);
    trace[t] = scratch[t];
    __syncthreads();
    for (int half = 4, line = 1; half; half /= 2, line++) {
        if (t < half) {
            scratch[t] = fmaxf(scratch[t], scratch[t + half]);
            atomicAdd(reads + 1, 2);
        }
        __syncthreads();
        trace[8 * line + t] = scratch[t];
    }
    float largest = scratch[0];
    atomicAdd(reads + 1, 1);
    __syncthreads();                                     // all have read scratch[0] before thread 0 writes it again

    a = expf(a - largest);
    b = expf(b - largest);
    scratch[t] = a + b;
    trace[32 + t] = scratch[t];
    __syncthreads();
    for (int half = 4, line = 5; half; half /= 2, line++) {
        if (t < half) {
            scratch[t] += scratch[t + half];
            atomicAdd(reads + 1, 2);
        }
        __syncthreads();
        trace[8 * line + t] = scratch[t];
    }
    y[t] = a / scratch[0];
    y[t + 8] = b / scratch[0];
    atomicAdd(reads + 1, 2);
}
"""


def run(code, x, order="forward"):
    """(y, trace (8 moments, 8 threads), reads of global and shared memory, what the emulator counted)"""
    y, trace, reads = np.empty_like(x), np.empty((8, 8), np.float32), np.zeros(2, np.int32)
    kernel = emulator.RawModule(code=code, options=("-std=c++17",)).get_function("softmax")
    with emulator.thread_order(order):
        kernel((1, 1, 1), (8, 1, 1), (x, y, trace, reads))
    return y, trace, reads, kernel.counted


def show(label, threads):
    print(f"{label:<34}" + " ".join(f"{value:6.2f}" for value in threads))


x = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3], np.float32)
y, trace, reads, counted = run(KERNEL, x)
show("x, first half: thread 0 … 7", x[:8])
show("x, second half", x[8:])

# %%
print("\n1. Each thread writes the larger of its two numbers to shared memory. Then half of the threads compare theirs with\n"
      "   the number 4 places on, then a quarter with 2 places on, then one. How many barriers until thread 0 has it?")
for label, line in zip(("before the first barrier", "after comparing 4 apart", "2 apart", "1 apart"), trace[:4]):
    show(label, line)

# %%
print("\n2. The same tree adds exp(x - largest). What does thread 0 hold at the end, and what do threads 4 to 7 still hold?")
for label, line in zip(("before its first barrier", "after adding 4 apart", "2 apart", "1 apart"), trace[4:]):
    show(label, line)

# %%
print("\n3. A row of 16 numbers was read how often? A kernel with three loops (maximum, sum, division) reads it three times.")
print(f"   reads of global memory: {reads[0]}, of shared memory: {reads[1]}; a thread waited at barriers "
      f"{counted['barriers'] // 8} times")

# %%
print("\n4. Without the barriers inside the loops, is the result still right? On a GPU: sometimes. Here in three orders of\n"
      "   the threads:")
BROKEN = KERNEL.replace("        }\n        __syncthreads();", "        }")
right = np.exp(x - x.max()) / np.exp(x - x.max()).sum()
for order in ("forward", "backward", "shuffled"):
    sound, broken = (np.allclose(run(code, x, order)[0], right, rtol=1e-5) for code in (KERNEL, BROKEN))
    print(f"   {order:<9} with barriers: {'right' if sound else 'WRONG'}   without: {'right' if broken else 'WRONG'}")
