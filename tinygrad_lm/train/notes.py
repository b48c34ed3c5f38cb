"""What a run notes beside its checkpoint: when each step was done, the memory it took, and what the model wrote on the way.

A checkpoint of the same seed is the same to the bit, and these are not: a machine is fast today and slow tomorrow. So they
lie in a file of their own, notes.json, without which a run goes on all the same.
"""
import json
import sys
from time import perf_counter

from ..checkpoint import CheckpointError, replace

LOOKS = 5                               # times that samples are taken after the beginning


class Notes:
    """`folder=None` keeps nothing on disk; without `samples` (see Run) nothing is written by the model."""

    def __init__(self, folder=None, samples=None):
        self.path, self.write = folder and folder / "notes.json", samples
        self.clock, self.samples = [], []               # [[step, seconds]], [{"step": …, "texts": [[prompt, text]]}]
        self.began, self.moments = perf_counter(), set()

    def begin(self, start, total):
        """Time runs from here on; what an earlier part of the run has noted up to step `start` is kept."""
        if start and self.path:
            earlier = read(self.path)
            self.clock, self.samples = earlier["clock"], earlier["samples"]
        self.moments = looks(total) - {x["step"] for x in self.samples}
        self.began = perf_counter() - (self.clock[-1][1] if self.clock else 0)

    def tick(self, step):
        """Step `step` is done, now."""
        self.clock.append([step, round(perf_counter() - self.began, 3)])

    def look(self, step, model):
        """Have the model write, if it is time to; the clock stands still meanwhile."""
        if self.write and step in self.moments:
            before = perf_counter()
            self.samples.append({"step": step, "texts": self.write(model)})
            self.began += perf_counter() - before

    def save(self):
        if self.path:
            kept = {"clock": self.clock, "samples": self.samples, "peak_memory": peak_memory()}
            try:
                replace(self.path, json.dumps(kept, ensure_ascii=False).encode())
            except OSError as error:
                raise CheckpointError(f"cannot write {self.path}: {error.strerror}") from None


def looks(total):
    """The steps before which samples are taken: at the beginning, at the end, and between them sooner rather than later, for
    a model learns most at first."""
    return {round(total * (i / LOOKS) ** 2) for i in range(LOOKS + 1)}


def read(path):
    """The notes of a run; empty ones where there is no file, or none that can be read."""
    try:
        notes = json.loads(path.read_text(encoding="utf-8"))
        return {"clock": notes["clock"], "samples": notes["samples"], "peak_memory": notes["peak_memory"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {"clock": [], "samples": [], "peak_memory": None}


def peak_memory():
    """The most memory that this process has held so far, in bytes; None where the system does not say."""
    try:
        from resource import RUSAGE_SELF, getrusage
    except ImportError:
        return None                                     # Windows
    return getrusage(RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
