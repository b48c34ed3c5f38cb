"""Is a learner's file right? It runs in a process of its own, with a limit on its time: it may do anything, and leaves no
trace."""
import ast
import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from . import exercise, is_test

PRINTED = 2000                          # characters of what the learner's code prints that are shown


class Verdict(NamedTuple):
    right: bool
    lines: list                         # what is said about it
    printed: str = ""                   # by the learner's code itself


def check(name, file, *, seconds=60.0):
    """The Verdict on a file that was started as the exercise `name`."""
    file = Path(file)
    if is_test(name):
        return check_test(name, file, seconds)
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "verdict.json"
        command = [sys.executable, "-m", __name__, name, str(file.resolve()), str(answer)]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                  timeout=seconds)
        except subprocess.TimeoutExpired:
            return Verdict(False, [f"It did not end within {seconds:g} seconds: is there a loop that never ends?"])
        if not answer.exists():
            return Verdict(False, [f"It ended its process (exit code {done.returncode}) before it could be graded: does it call "
                                   "exit, use up all memory, or write where it may not?"])
        return Verdict(**json.loads(answer.read_text(encoding="utf-8")))


def check_test(name, file, seconds):
    """The other kind: does the learner's test notice the bug?"""
    from ..museum.grade import check as notices
    from .sheet import UNFILLED
    if UNFILLED in file.read_text(encoding="utf-8"):
        return Verdict(False, [f"It is not written yet: put your test in the place of {UNFILLED}."])
    right, why = notices(name.removeprefix("test_"), file, seconds=seconds)
    return Verdict(right, [why[0].upper() + why[1:] + "."])


# ---- in the process of its own ---------------------------------------------------------------------------------------

def verdict(name, file):
    """The Verdict, here and now."""
    printed, before = Bounded(), sys.stdout
    sys.stdout = printed
    try:
        lines = graded(name, Path(file))
    finally:
        sys.stdout = before
    return Verdict(not lines, lines, printed.getvalue())


def graded(name, file):
    """What is said against the answer in this file; nothing where it is right."""
    from .told import first_line, told
    from .trial import line_in, trial
    module = exercise(name)
    wanted = "KERNEL" if isinstance(module.ANSWER, str) else module.ANSWER.__name__
    try:
        source = file.read_text(encoding="utf-8")
        tree = ast.parse(source)
    except SyntaxError as error:
        return [f"Line {error.lineno} is no Python: {error.msg}."]
    except UnicodeDecodeError:
        return ["The file is no text in UTF-8."]
    if borrows(tree):
        return ["It takes its answer from tinygrad_lm.exercises: only what you write yourself is graded."]
    space = {"__name__": "answer", "__file__": str(file)}
    try:
        exec(compile(tree, str(file), "exec"), space)
    except ImportError as error:
        return [f"Line {line_in(file, error)} imports what is not there: {first_line(error)}."]
    except SystemExit:
        return ["It calls exit: a file that is graded has to come to its end."]
    except Exception as error:          # noqa: BLE001
        return [f"When the file is read, line {line_in(file, error)} raises {type(error).__name__}: {first_line(error)}."]
    answer = space.get(wanted)
    if answer is None:
        return [f"There is no {wanted} in the file: the name has to stay."]
    if not isinstance(answer, str) and not callable(answer) or isinstance(module.ANSWER, str) is not isinstance(answer, str):
        return [f"{wanted} is a {type(answer).__name__}, and should be a {'text' if isinstance(module.ANSWER, str) else 'function'}."]
    if isinstance(answer, str) and answer.strip() == module.STUB.strip():
        return ["It is not written yet: the kernel is as it was given to you."]
    if isinstance(answer, str) and (said := module.refused(answer)):
        return [said]
    try:
        broken = trial(module, answer, file)
    except SystemExit:
        return ["Your answer calls exit: it should return."]
    if broken is None:
        return []
    if isinstance(broken.outcome.error, NotImplementedError):
        return [f"It is not written yet: line {broken.outcome.line} still raises NotImplementedError."]
    return told(broken)


def borrows(tree):
    """Does a file import from here?"""
    for node in ast.walk(tree):
        names = [a.name for a in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
        module = getattr(node, "module", None) or "" if names else ""
        if any("exercises" in word.split(".") for word in [module, *names]):
            return True
    return False


class Bounded(io.StringIO):
    """Keeps the first of what is written to it, and forgets the rest."""

    def write(self, text):
        room = PRINTED - self.tell()
        if room > 0:
            super().write(text[:room])
        return len(text)


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(sys.argv[2]))
    found = verdict(*sys.argv[1:3])
    Path(sys.argv[3]).write_text(json.dumps(found._asdict()), encoding="utf-8")
