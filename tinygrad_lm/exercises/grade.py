"""Is a learner's file right? It runs in a process of its own, with a limit on its time: it may do anything, and leaves no
trace."""
import ast
import faulthandler
import inspect
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from . import exercise, is_test

BORROWED = "It takes its answer from tinygrad_lm.exercises: only what you write yourself is graded."
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
        answer, stack = Path(folder) / "verdict.json", Path(folder) / "stack"
        command = [sys.executable, "-m", __name__, name, str(file.resolve()), str(answer), str(stack), str(seconds)]
        quiet = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            done = subprocess.run(command, **quiet, timeout=seconds + 10,
                                  env={**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": folder})
        except subprocess.TimeoutExpired:
            done = None
        if answer.exists():
            return Verdict(**json.loads(answer.read_text(encoding="utf-8")))
        if done is None or stack.exists() and stack.stat().st_size:
            return Verdict(False, [f"It did not end within {seconds:g} seconds{where(stack, file)}: is there a loop that "
                                   "never ends?"])
        return Verdict(False, [f"It ended its process (exit code {done.returncode}) before it could be graded: does it call "
                               "exit, use up all memory, or write where it may not?"])


def where(stack, file):
    """In which line of the learner's file it was when its time was up, by what faulthandler wrote."""
    text = stack.read_text(encoding="utf-8", errors="replace") if stack.exists() else ""
    lines = re.findall(rf'File "{re.escape(str(file.resolve()))}", line (\d+)', text)
    return f", and was in line {lines[0]} when its time was up" if lines else ""


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
        return [BORROWED]
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
    if getattr(answer, "__module__", "") == module.__name__:
        return [BORROWED]
    if answer is None:
        return [f"There is no {wanted} in the file: the name has to stay."]
    if not isinstance(answer, str) and not callable(answer) or isinstance(module.ANSWER, str) is not isinstance(answer, str):
        right = "text" if isinstance(module.ANSWER, str) else "function"
        return [f"{wanted} should be a {right}, and is of the type {type(answer).__name__}."]
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
    return told(broken, None if isinstance(answer, str) else signature_of(answer))


def signature_of(function):
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


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
    this, its_name, its_file, its_answer, its_stack, its_seconds = sys.argv
    sys.path.insert(0, os.path.dirname(its_file))
    with open(its_stack, "w", encoding="utf-8") as late:
        faulthandler.dump_traceback_later(float(its_seconds), exit=True, file=late)
        found = verdict(its_name, its_file)
        faulthandler.cancel_dump_traceback_later()
    Path(its_answer).write_text(json.dumps(found._asdict()), encoding="utf-8")
