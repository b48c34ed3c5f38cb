"""`tinygrad-lm bench`: measure, print tables, and leave results.json and pictures in a folder."""
import json
import os
import platform
from datetime import date
from importlib.metadata import version
from importlib.util import find_spec

from threadpoolctl import threadpool_info

from ..checkpoint import CheckpointError
from ..parallel import processors
from ..train.report import png
from ..train.run import make_folder
from .figures import FIGURES
from .parts import PARTS, slope
from .turns import sides

TITLES = {"step": "A training step, in milliseconds (ratio: ours / PyTorch, below 1 is ahead)",
          "ops": "Operations alone on one core, in milliseconds (share: of what the roofs allow)",
          "generate": "Generation, in new tokens a second (ratio: above 1 is ahead)",
          "growth": "A training step as T and as C grow, in milliseconds"}


def run_bench(names, out, *, quick=False, say=print):
    """Measure the named parts of PARTS; returns what results.json then holds."""
    folder = make_folder(out)
    modules = {"ours": "tinygrad_lm.bench.ours"}
    if torch_is_installed():
        modules["torch"] = "tinygrad_lm.bench.beside_torch"
    machine = describe_machine("torch" in modules)
    say("  ".join(f"{k} {v}" for k, v in machine.items()))
    if "torch" not in modules:
        say("PyTorch is not installed, so its columns are left out (python -m pip install torch)")
    if busy():
        say("other processes are busy here: the figures will be off, and PyTorch's, whose threads wait for one another, most")
    results = {"machine": machine, "quick": quick}
    with sides(modules) as both:
        for name in names:
            say(f"\n{TITLES[name]}\n")
            rows, write = [], table(say)
            for row in PARTS[name](both, quick=quick):
                rows.append(row)
                write(row)
            for axis, side in [(a, s) for a in "TC" for s in modules] if name == "growth" else []:
                say(f"slope in {axis} at the three largest, {side}: {slope(rows, axis, side):.2f}")
            results[name] = rows
    save(results, folder)
    say(f"\npictures and results.json: {folder}")
    return results


def torch_is_installed():
    return find_spec("torch") is not None


def busy():
    """Was more than a third of a processor in use over the last minute? False where nobody counts (Windows)."""
    return hasattr(os, "getloadavg") and os.getloadavg()[0] > 0.33


def describe_machine(torch):
    """What a figure needs to be understood: date, processors, versions, and which of its kernels the BLAS chose."""
    blas = [f"{b['internal_api']} {b['version']} ({b.get('architecture', 'unknown')} kernels)"
            for b in threadpool_info() if b["user_api"] == "blas"]
    return {"date": date.today().isoformat(), "processors": processors(), "machine": platform.machine(),
            "Python": platform.python_version(), "NumPy": version("numpy"), "BLAS": ", ".join(blas) or "unknown"} | (
            {"PyTorch": version("torch")} if torch else {})


def table(say):
    """A function that prints one row after another, with a head over the first: Markdown, so that it can be quoted."""
    widths = {}

    def write(row):
        if "roofs" in row:
            return say("one core's roofs: matrix product {gflops:.0f} GFLOP/s, copying {gbytes:.1f} GB/s\n".format(**row["roofs"]))
        if not widths:
            widths.update({key: max(len(key), 13 if isinstance(value, str) else 5) for key, value in row.items()})
            say("| " + " | ".join(f"{key:>{w}}" for key, w in widths.items()) + " |")
            say("|" + "|".join("-" * (w + 1) + ":" for w in widths.values()) + "|")
        say("| " + " | ".join(f"{shown(key, row[key]):>{w}}" for key, w in widths.items()) + " |")
    return write


def shown(key, value):
    if isinstance(value, (str, int)):
        return str(value)
    return f"{value:.0%}" if key == "share" else f"{value:.2f}" if abs(value) < 100 else f"{value:,.0f}"


def save(results, folder):
    try:
        (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        for name in FIGURES.keys() & results.keys():
            (folder / f"{name}.png").write_bytes(png(FIGURES[name](results[name])))
    except OSError as error:
        raise CheckpointError(f"cannot write the results into {folder}: {error.strerror}") from None
