"""A run: its folder, its progress on the screen, what was logged, and a checkpoint from which it goes on exactly."""
import json
import sys
from contextlib import contextmanager
from pathlib import Path

from .. import mpi
from ..checkpoint import CheckpointError, load, one_line, pack, save, unpack
from ..models.saved import checkpoint_in, describe
from .notes import Notes


class Stopped(Exception):
    """A stage has ended itself before its time; the message says why, and the run's checkpoint holds the last good model."""


class Run:
    """One stage of training. `folder=None` keeps nothing on disk; `show` draws a progress bar.

    A stage's loop is `for step in run.steps(total, model=model, opt=opt, rng=rng)`: where `resume` is set and the
    folder has a checkpoint, the named objects are put back as they were and the loop starts behind it; else at 0.
    Every `save_every` steps, and at the end, they are saved. `meta` is saved along (the stage's settings, say), and a
    checkpoint made under other settings is refused. Of several ranks (mpi.py) only the first writes, reads and draws.

    `samples(model)` -> [[prompt, text]] shows what the model does: it is asked a few times on the way, and draws from a
    generator of its own. What it wrote, times and memory are noted beside the checkpoint (notes.py).
    """

    def __init__(self, folder=None, *, stage="train", tokenizer=None, meta=None, resume=False, save_every=100, show=False,
                 samples=None):
        if folder is not None and tokenizer is None:
            raise ValueError("a run that keeps a checkpoint needs the tokenizer: without it nobody can read the model's ids")
        self.first = mpi.place()[0] == 0
        self.path = checkpoint_in(make_folder(folder) if self.first else folder) if folder is not None else None
        self.stage, self.tokenizer = stage, tokenizer
        self.meta = json.loads(json.dumps({"stage": stage} | (meta or {})))      # as it will be read back
        self.resume, self.save_every, self.show = resume, save_every, show and self.first
        self.saved = False                          # is there a checkpoint of this run?
        self.history = []                           # one dict of numbers for each logged step
        self.notes = Notes(self.path.parent if self.path else None, samples if self.path and self.first else None)

    def steps(self, total, *, model, **others):
        objects = {"model": model} | others
        start = self._restore(objects, total) if self.resume and self.path else 0
        self._objects, self._total = objects, total
        with _bar(self.stage, total, start, self.show) as self._advance:
            self.notes.begin(start, total)
            for step in range(start, total):
                self.notes.look(step, model)
                yield step
                self._advance(step + 1, self.history[-1] if self.history else {})
                if step + 1 == total:
                    self.notes.look(total, model)
                if self.path and self.first and ((step + 1) % self.save_every == 0 or step + 1 == total):
                    self._save(objects, step + 1, total)

    def log(self, step, **numbers):
        """Remember these numbers for this step; the bar shows the latest."""
        self.history.append({"step": step} | {k: float(v) for k, v in numbers.items()})
        self.notes.tick(step)

    def stop(self, step, why):
        """Save the objects as the stage has left them and raise Stopped: they are the last good ones of a run gone wrong."""
        if self.path and self.first:
            self._save(self._objects, step, self._total, stopped=why)
        raise Stopped(why + (f"; the last good model is in {self.path}" if self.path else ""))

    def _save(self, objects, step, total, **more):
        tensors, generators = pack(objects)
        meta = self.meta | describe(objects["model"], self.tokenizer) | {
            "step": step, "total": total, "history": self.history, "generators": generators} | more
        save(self.path, tensors, meta)
        self.saved = True
        self.notes.save()

    def _restore(self, objects, total):
        saved = mpi.of_rank_0(load(self.path) if self.first and self.path.exists() else None)
        if saved is None:
            return 0
        tensors, meta = saved
        for key, value in (self.meta | {"total": total}).items():
            if meta.get(key) != value:
                raise CheckpointError(f"{self.path} was made with {key} {meta.get(key)!r}, and this run has {value!r}: "
                                      "resume with the same settings, or begin in a new folder")
        if "stopped" in meta:
            raise CheckpointError(f"{self.path} is what was left when {meta['stopped']}; begin with other settings in a new "
                                  "folder")
        try:
            self._compare(meta, objects["model"])
            unpack(objects, tensors, meta["generators"])
        except (KeyError, ValueError) as error:
            raise CheckpointError(f"{self.path} does not fit this run: {one_line(error)}") from None
        self.history, self.saved = meta["history"], True
        return meta["step"]

    def _compare(self, meta, model):
        """Refuse a checkpoint whose ids mean other tokens, or whose weights are another network's of the same shapes."""
        own = json.loads(json.dumps(describe(model, self.tokenizer)))
        saved, ours = meta["config"], own["config"]
        other = [f"{key} {saved[key]!r}, and this run has {ours[key]!r}" for key in ours
                 if key in saved and saved[key] != ours[key]]
        if meta["kind"] != own["kind"]:
            other = [f"a model of kind {meta['kind']!r}, and this run has {own['kind']!r}"]
        elif meta["tokenizer"] != own["tokenizer"]:
            other = ["another tokenizer: its ids stand for other tokens"]
        if other:
            raise CheckpointError(f"{self.path} does not fit this run: it was made with {other[0]}")


def make_folder(folder):
    """The folder, made if need be; an error in one sentence where that cannot be."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise CheckpointError(f"cannot write into the run folder {folder}: {error.strerror}") from None
    return folder


@contextmanager
def _bar(stage, total, start, show):
    """A function (step, numbers) that moves the bar; nothing is drawn, and rich is not loaded, unless `show`."""
    if not show:
        yield lambda step, numbers: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    columns = (TextColumn("{task.description:<9}"), BarColumn(14), TextColumn("{task.completed}/{task.total}"),
               TextColumn("{task.fields[now]}"), TextColumn("[dim]left"), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=sys.stderr), refresh_per_second=4) as progress:
        task = progress.add_task(stage, total=total, completed=start, now="")

        def advance(step, numbers):
            shown = [f"{k} {v:.2f}" for k, v in numbers.items() if k != "step"][:2]
            progress.update(task, completed=step, now="  ".join(shown))

        yield advance
