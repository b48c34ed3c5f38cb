"""Is a learner's test any good? It must pass as things are, and fail with an exhibit's wrong function in its place.

Each of the two is a process of its own, with a limit on its time: a test may do anything, and leaves no trace.
"""
import json
import runpy
import subprocess
import sys
import tempfile
import traceback
from contextlib import nullcontext
from pathlib import Path

from . import exhibit


def check(name, file, *, seconds=60):
    """(does it kill the bug?, a sentence that says why) for the functions `test_…` of a Python file."""
    exhibit(name)
    honest, why = outcome(name, file, "right", seconds)
    if honest is None:
        return False, why
    if failed := {test: error for test, error in honest.items() if error}:
        return False, "it fails on the reference: " + first(failed)
    spoiled, why = outcome(name, file, "wrong", seconds)
    if spoiled is None:
        return False, "with the bug " + why
    if failed := {test: error for test, error in spoiled.items() if error}:
        return True, "it passes on the reference and fails with the bug: " + first(failed)
    return False, f"it passes with the bug, too: {' and '.join(spoiled)} would not have noticed"


def first(failed):
    test, error = next(iter(failed.items()))
    return f"{test}: {error}"


def outcome(name, file, which, seconds):
    """({test: its error or None}, None) from a process of its own, or (None, why there is no outcome)."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "outcome.json"
        command = [sys.executable, "-m", __name__, name, str(file), which, str(answer)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            return None, f"it did not end within {seconds:g} s"
        if not answer.exists():
            said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            return None, f"it could not be run: {said[-1]}"
        found = json.loads(answer.read_text(encoding="utf-8"))
    return (found, None) if found else (None, f"{file} has no function whose name begins with test_")


def run_tests(name, file, which):
    """{test: its error or None}; the wrong function is in place before the file is read, so that it imports that one."""
    with exhibit(name).patch() if which == "wrong" else nullcontext():
        tests = {n: f for n, f in runpy.run_path(file).items() if n.startswith("test_") and callable(f)}
        return {n: error_of(f, file) for n, f in tests.items()}


def error_of(test, file):
    """None, or what it raises, and in which line of its file."""
    try:
        test()
    except BaseException as error:                              # also what means to leave: a test has no such right
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
        where = f" in line {lines[-1]}" if lines else ""
        return f"{type(error).__name__}{where}: {error}".removesuffix(": ").split("\n")[0]
    return None


if __name__ == "__main__":
    name, file, which, answer = sys.argv[1:]
    found = run_tests(name, file, which)
    Path(answer).write_text(json.dumps(found), encoding="utf-8")
