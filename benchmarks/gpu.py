"""Every kernel beside PyTorch's on one GPU, with its share of what the card can do; then whole training steps.

    python -m benchmarks.gpu             # some five minutes; needs a GPU, CuPy, and PyTorch for the other side

The roofs are measured first, by CuPy: how many bytes a second a copy moves, and how many operations a second cuBLAS
multiplies matrices with. A kernel's share is the least time that its bytes or operations would take at that rate, over the
time it took. Each side lives in a process of its own, and these take turns; a ratio below 1 is ahead.
"""
import sys

from tinygrad_lm.bench import sizes
from tinygrad_lm.bench.run import torch_is_installed
from tinygrad_lm.bench.turns import sides

from .gpu_work import GPT2, cases

SIDES = {"ours": "benchmarks.gpu_ours", "torch": "benchmarks.gpu_torch"}


def why_not():
    """Why nothing can be measured here, in one sentence; None where it can."""
    try:
        import cupy
    except ImportError:
        return "CuPy is not installed: python -m pip install \"tinygrad_lm[cuda13]\" (or [cuda12]) brings it."
    return None if cupy.is_available() else "CuPy finds no GPU with a driver on this machine: there is nothing to measure."


def kernels(both, roofs, found, seconds=0.5):
    """A line for each of `found`: milliseconds, bytes, share of the roof, and the other side's time."""
    for name, dtype, shape, work in found:
        ms = {side: process.ask("kernel_ms", name, dtype, shape, seconds) for side, process in both.items()}
        roof, share = work.share(ms["ours"], {"GB/s": roofs["GB/s"], "TFLOP/s": roofs[dtype]})
        yield f"{name:<22} {dtype:<8} {'x'.join(map(str, shape)):<15} {ms['ours']:8.3f} ms  {work.bytes / 1e6:7.0f} MB  " \
              f"{share:4.0%} of {roof:<11}" + beside(ms)


def beside(ms):
    return "".join(f"  {side} {theirs:.3f} ms ({ms['ours'] / theirs:.2f})" for side, theirs in ms.items() if side != "ours")


def steps(shapes, dtype, names, seconds=2.0):
    """A line for each shape; every measurement in a fresh process, so that peaks of memory do not mix."""
    for shape in shapes:
        ms, memory = {}, {}
        for name in names:
            options = {"compiled": True} if name == "torch.compile" else {}
            with sides({name: SIDES[name.split(".")[0]]}) as alone:
                ms[name], memory[name] = alone[name].ask("step_ms", shape, dtype, seconds, **options)
        tokens = shape[1] * shape[-1]
        yield f"{str(shape):<32} {dtype:<8} {ms['ours']:8.2f} ms  {tokens / ms['ours'] * 1e3:9,.0f} tokens/s" + beside(ms) + \
              "  memory " + ", ".join(f"{name} {bytes / 1e6:,.0f} MB" for name, bytes in memory.items())


def main():
    if reason := why_not():
        print(reason)
        return 1
    names = ["ours", "torch"] if torch_is_installed() else ["ours"]
    if len(names) == 1:
        print("PyTorch is not installed: our side alone")
    with sides({name: SIDES[name] for name in names}) as both:
        roofs = both["ours"].ask("roofs", 8192, 1 << 28, 0.5)
        print(f"copy {roofs['GB/s']:.0f} GB/s, products {roofs['float32']:.0f} TFLOP/s in float32, "
              f"{roofs['float16']:.0f} in float16")
        for line in kernels(both, roofs, cases()):
            print(line, flush=True)
    names += ["torch.compile"] if "torch" in names else []
    for shapes, dtype in ((sizes.STEPS[:5], "float32"), ([GPT2], "float32"), ([GPT2], "float16")):
        for line in steps(shapes, dtype, names):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
