"""For teachers: every exercise's file without its solution, and a pytest file that grades what comes back."""
from . import names
from .sheet import file_name, sheet, title

README = """# Exercises

{list}

Fill in the function of a file; check it with `tinygrad-lm exercise check NN FILE`, or all of them with `python -m pytest` in
this folder. Files that were not touched count as failed. `results.json` then has, for each exercise, whether it was passed and
what was said, and the share that was passed as `score`: what an automatic grader reads.
"""

GRADER = '''"""Grades the files beside it: python -m pytest, and results.json has the outcome."""
import json
import os
from pathlib import Path

import pytest

from tinygrad_lm.exercises import names
from tinygrad_lm.exercises.grade import check
from tinygrad_lm.exercises.sheet import file_name

HERE = Path(__file__).parent
FILES = {name: HERE / file_name(name) for name in names() if (HERE / file_name(name)).exists()}
RESULTS = {}


@pytest.fixture(scope="session", autouse=True)
def results():
    assert "PYTEST_XDIST_WORKER" not in os.environ, "one process keeps the results: without -n"
    yield
    score = sum(r["passed"] for r in RESULTS.values()) / max(1, len(FILES))
    (HERE / "results.json").write_text(json.dumps({"score": score, "exercises": RESULTS}, indent=2, ensure_ascii=False),
                                       encoding="utf-8")


@pytest.mark.parametrize("name", FILES)
def test_exercise(name):
    found = check(name, FILES[name])
    RESULTS[name] = {"passed": found.right, "message": "\\n".join(found.lines)}
    assert found.right, "\\n" + "\\n".join(found.lines)
'''


def handout():
    """{name of a file: its text}"""
    listed = "\n".join(f"* `{file_name(name)}`: {title(name)}" for name in names())
    files = {file_name(name): sheet(name) for name in names()}
    return files | {"README.md": README.format(list=listed), "test_exercises.py": GRADER, "pytest.ini": "[pytest]\n"}
