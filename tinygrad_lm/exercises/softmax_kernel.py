"""Softmax on a GPU, without a GPU.

On a GPU one function, the kernel, is run by many threads at once. Here a block of 8 threads makes the softmax of one row:

    yᵢ = exp(xᵢ − m) / Σⱼ exp(xⱼ − m),   m = max x

The subtraction changes nothing, and keeps exp from overflowing. Thread t takes the columns t, t + 8, t + 16, …; there may
be more columns than threads, or fewer. What a thread has in a variable, no other one sees. They share the array `scratch`
alone, and what one has written there the others may read only after all have met at __syncthreads(). A maximum over the
block is found by halves: 4 threads compare their number with the one 4 places on, then 2 with the one 2 on, then 1.

fmaxf(a, b), expf(a) and INFINITY are there. Your kernel runs on the CPU, thread by thread in several orders, as docs/gpu.md
tells: that takes a C++ compiler. What nobody has written yet is NaN.
"""
import re

import numpy as np
from hypothesis import strategies as st

from .. import emulator
from ..ops.softmax import softmax_forward
from .draws import numbers
from .parts import holds, mistake

HINTS = (
    "A thread begins alone: float most = -INFINITY; for (int i = t; i < cols; i += THREADS) most = fmaxf(most, x[i]); and "
    "then it writes that to scratch[t].",
    "After a barrier, halves: for (int half = THREADS / 2; half; half /= 2) { if (t < half) scratch[t] = fmaxf(scratch[t], "
    "scratch[t + half]); __syncthreads(); } The barrier is outside of the if: every thread must come to it.",
    "scratch[0] is now the maximum. Read it, and wait once more before anyone writes scratch again, for the sums.",
    "With the sum it is the same thing: each thread sums expf(x[i] - most) over its columns, and scratch[t] += "
    "scratch[t + half] by halves. Last, each writes its columns: y[i] = expf(x[i] - most) / scratch[0].",
)

HEAD = """\
constexpr int THREADS = 8;                               // of a block

// x, y (rows, cols). Block b makes row b.
extern "C" __global__ void softmax(const float* x, float* y, int cols) {
    __shared__ float scratch[THREADS];                   // what the threads of this block share
    int t = threadIdx.x;
    x += blockIdx.x * cols, y += blockIdx.x * cols;      // now they are this block's row
"""

STUB = HEAD + """
    // the largest of this thread's columns; then, by halves, of all

    // the sum of this thread's exp(x - largest); then, by halves, of all

    // this thread's columns of y
}
"""

ANSWER = HEAD + """
    float most = -INFINITY;
    for (int i = t; i < cols; i += THREADS) most = fmaxf(most, x[i]);
    scratch[t] = most;
    __syncthreads();
    for (int half = THREADS / 2; half; half /= 2) {
        if (t < half) scratch[t] = fmaxf(scratch[t], scratch[t + half]);
        __syncthreads();
    }
    most = scratch[0];
    __syncthreads();                                     // all have read it before it is written again

    float sum = 0;
    for (int i = t; i < cols; i += THREADS) sum += expf(x[i] - most);
    scratch[t] = sum;
    __syncthreads();
    for (int half = THREADS / 2; half; half /= 2) {
        if (t < half) scratch[t] += scratch[t + half];
        __syncthreads();
    }
    for (int i = t; i < cols; i += THREADS) y[i] = expf(x[i] - most) / scratch[0];
}
"""

THREADS = 8
ORDER = st.sampled_from(("forward", "backward", "shuffled"))


def rows(least, most):
    """One or two rows of `least` to `most` numbers, float32."""
    return numbers(st.tuples(st.integers(1, 2), st.integers(least, most))).map(np.float32)


@st.composite
def peaks(draw):
    """One row of zeros and a large number, (1, cols)."""
    x = np.zeros((1, draw(st.integers(1, 20))), np.float32)
    x[0, draw(st.integers(0, x.size - 1))] = 200
    return x


def refused(code):
    """What is said against a kernel that cannot run at all, in a sentence; None where it can."""
    if not emulator.available():
        return "This exercise takes a C++ compiler, and there is none here: install g++ or clang++."
    try:
        emulator.RawModule(code=code).get_function("softmax")
    except emulator.KernelError as error:
        number, what = re.search(r"softmax:(\d+):\d+: (?:fatal )?error: (.*)", str(error)).groups()
        line = dict(enumerate(code.splitlines(), 1)).get(int(number), "").strip()
        if not line:                                     # but where the kernel is launched
            return "There is no kernel softmax(x, y, cols) in it: its name has to stay, and so do its arguments."
        return f"The kernel does not compile: {what}, in `{line}`, line {number} of KERNEL."


def ran(code, x, order):
    """(what the kernel makes of x, its softmax); where they differ by rounding alone, the very same numbers."""
    y = emulator.poisoned(x.shape)                       # NaN, where the kernel writes nothing
    kernel = emulator.RawModule(code=code).get_function("softmax")
    with emulator.thread_order(order):
        kernel((len(x), 1, 1), (THREADS, 1, 1), (x, y, np.int32(x.shape[1])))
    right = softmax_forward(x)[0]
    return np.where(np.isclose(y, right, rtol=1e-4), right, y), right


like = lambda says, x: holds(says, x=x, order=ORDER)(ran)
a_column_a_thread = like("A row of 8 columns becomes its softmax, in whatever order the threads run", rows(8, 8))
fewer_columns = like("So does a shorter row, which leaves threads without a column", rows(1, 7))
more_columns = like("So does a longer one, of which threads have several columns", rows(9, 20))
large_scores = like("A large number does not overflow, wherever it stands", peaks())

PROPERTIES = (a_column_a_thread, fewer_columns, more_columns, large_scores)

wrong = lambda says, caught_by, old, new: mistake(says, caught_by=caught_by)(ANSWER.replace(old, new))
MISTAKES = (
    wrong("the maximum is not subtracted, and exp overflows", large_scores, "most = scratch[0];", "most = 0;"),
    wrong("a thread takes one column alone, and those beyond the 8th are lost", more_columns, "i += THREADS", "i += cols"),
    wrong("each row is divided by the sum of one thread's columns, not of all", a_column_a_thread,
          "        if (t < half) scratch[t] += scratch[t + half];\n", ""),
    wrong("in the halves there is no barrier: a thread reads what another one has not yet written", a_column_a_thread,
          "        __syncthreads();\n", ""),
    wrong("before the first halves a barrier is missing: the maximum misses a part of the row, and exp may overflow",
          large_scores, "scratch[t] = most;\n    __syncthreads();", "scratch[t] = most;"),
    wrong("the barrier after the maximum is missing: scratch[0] is written again before all have read it", a_column_a_thread,
          "most = scratch[0];\n    __syncthreads();", "most = scratch[0];\n"),
    wrong("before the halves of the sum a barrier is missing: a thread adds what was there before", a_column_a_thread,
          "scratch[t] = sum;\n    __syncthreads();", "scratch[t] = sum;"),
)
