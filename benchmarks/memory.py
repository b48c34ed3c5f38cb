"""Peak memory of a training step, ours and eager PyTorch's, each less what its process held before the model was built.

    python -m benchmarks.memory          # under a minute; needs PyTorch

Every figure comes from a process of its own, which imports its side, trains a model of a few numbers, so that all code is
loaded, notes its resident memory, then builds the model and takes a few steps. On Linux the kernel's high-water mark is set
back in between (/proc/self/clear_refs); elsewhere the highest ever is taken before and after.
"""
import sys
from pathlib import Path

from tinygrad_lm.bench import sizes
from tinygrad_lm.bench.run import torch_is_installed
from tinygrad_lm.bench.turns import sides

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident(which):
    """MB of "VmRSS" (now) or "VmHWM" (the highest so far)."""
    if STATUS.exists():
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith(which))
        return int(line.split()[1]) / 1024
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def reset_peak():
    try:
        CLEAR.write_text("5")
    except OSError:                              # not Linux, or not allowed: the highest ever counts
        pass


def peak(side, shape, steps):
    """MB above the footprint at the highest point of building and training a model."""
    if side == "ours":
        from tinygrad_lm.bench.ours import training
    else:
        from tinygrad_lm.bench.beside_torch import training
    training(3, 4, 8, 1, 1, 2)()                 # loads what the first step loads; it is part of the footprint
    reset_peak()
    before = resident("VmRSS")
    step = training(*shape)
    for _ in range(steps):
        step()
    return resident("VmHWM") - before


def run(shapes, names, steps=5):
    """A row for each shape: {side: MB}"""
    for shape in shapes:
        row = {}
        for name in names:
            with sides({name: "benchmarks.memory"}) as alone:
                row[name] = alone[name].ask("peak", name, shape, steps)
        yield row


def main():
    names = ["ours", "torch"] if torch_is_installed() else ["ours"]
    if len(names) == 1:
        print("PyTorch is not installed: our side alone")
    worst = 0.0
    for shape, row in zip(sizes.STEPS[:5], run(sizes.STEPS[:5], names)):
        said = f"{str(shape):<30} " + "   ".join(f"{name} {mb:7.1f} MB" for name, mb in row.items())
        if "torch" in row:
            worst = max(worst, row["ours"] / row["torch"])
            said += f"   ratio {row['ours'] / row['torch']:.2f}"
        print(said, flush=True)
    if "torch" in names:
        print(f"worst ratio {worst:.2f}")


if __name__ == "__main__":
    main()
