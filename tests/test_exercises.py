"""Every sheet fails, every reference passes, every mistake is told as what it is; and what a learner's file may do wrong is
told."""
import json
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from tinygrad_lm import emulator
from tinygrad_lm.exercises import ORDER, exercise, find, is_test, names
from tinygrad_lm.exercises.grade import check, verdict
from tinygrad_lm.exercises.sheet import UNFILLED, file_name, hints, sheet, solution
from tinygrad_lm.exercises.trial import trial

from .test_cli import tg  # noqa: F401

ROOT = Path(__file__).parents[1]
KERNELS = {name for name in ORDER if isinstance(exercise(name).ANSWER, str)}
needs_compiler = pytest.mark.skipif(not emulator.available(), reason="no C++ compiler: kernels cannot be run on the CPU")


def each(items=lambda name: (None,)):
    return [pytest.param(name, item, id=f"{name}-{i}", marks=needs_compiler if name in KERNELS else ())
            for name in ORDER for i, item in enumerate(items(name))]


def solved(name):
    """The sheet with the reference's body in it, as a learner would have it."""
    module = exercise(name)
    if name in KERNELS:
        return f"KERNEL = r'''{module.ANSWER}'''\n"
    return "\n".join(line for line in Path(module.__file__).read_text(encoding="utf-8").splitlines()
                     if not line.startswith("from .")).split("\nANSWER = ")[0].replace("from ..", "from tinygrad_lm.")


@pytest.mark.parametrize("name, _", each())
def test_a_sheet_is_not_yet_right_and_the_reference_is(name, _, tmp_path):
    file = tmp_path / file_name(name)
    file.write_text(sheet(name), encoding="utf-8")
    found = verdict(name, file)
    assert not found.right and "not written yet" in found.lines[0]
    file.write_text(solved(name), encoding="utf-8")
    assert verdict(name, file) == (True, [], "")


@pytest.mark.parametrize("name, mistake", each(lambda name: exercise(name).MISTAKES))
def test_a_mistake_is_rejected_and_told(name, mistake):
    broken = trial(exercise(name), mistake.answer)
    assert broken is not None and broken.property is mistake.caught_by, broken and broken.property.says
    assert broken.mistake is mistake, broken.mistake and broken.mistake.says


@pytest.mark.parametrize("name", ORDER)
def test_an_exercise_has_all_its_parts(name):
    module = exercise(name)
    title, blank, *text = module.__doc__.splitlines()
    assert title.endswith((".", "?")) and not blank and text
    assert len(module.PROPERTIES) >= 2 and len(module.HINTS) >= 3 and len(module.MISTAKES) >= 3


@pytest.mark.parametrize("name", [name for name in names() if is_test(name)])
def test_a_test_that_has_to_be_written(name, tmp_path):
    """Its sheet can be read by Python and is not yet right; a file that holds the museum's own test is."""
    file = tmp_path / file_name(name)
    file.write_text(sheet(name), encoding="utf-8")
    compile(sheet(name), "sheet", "exec")
    assert "It is not written yet" in check(name, file).lines[0]
    assert len(hints(name)) == 4 and "def test" in solution(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in names() if is_test(name)])
def test_the_museums_own_tests_pass(name, tmp_path):
    file = tmp_path / file_name(name)
    file.write_text(f"from tinygrad_lm.museum import exhibit\n\n\ndef test_it():\n    exhibit('{name[5:]}').test()\n")
    assert check(name, file).right


@pytest.mark.slow
@pytest.mark.parametrize("name, _", each())
def test_through_the_command_line(name, _, tmp_path):
    for text, right in (sheet(name), False), (solved(name), True):
        (tmp_path / file_name(name)).write_text(text, encoding="utf-8")
        assert check(name, tmp_path / file_name(name)).right is right


# ---- what a file may do ----------------------------------------------------------------------------------------------

HEAD = "def product_backward(dz, x, y):\n"
WRONG = {
    "syntax": ("def product_backward(dz, x, y)\n    return dz", "Line 1 is no Python: expected ':'."),
    "import": ("import numpyy\n" + HEAD + "    return 1", "Line 1 imports what is not there: No module named 'numpyy'."),
    "name": ("def product(dz, x, y):\n    return dz", "There is no product_backward in the file: the name has to stay."),
    "no function": ("product_backward = 3", "product_backward should be a function, and is of the type int."),
    "reading": ("x = 1 / 0\n" + HEAD + "    return 1",
                "When the file is read, line 1 raises ZeroDivisionError: division by zero."),
    "raises": (HEAD + "    z = dz\n    return z.nothing",
               "On it line 3 raises AttributeError: 'numpy.ndarray' object has no"),
    "nothing": (HEAD + "    x * y", "It returned None: is there a return?"),
    "arguments": ("def product_backward(dz, x):\n    return dz, x",
                  "It cannot be called with that: product_backward() takes 2"),
    "one value": (HEAD + "    return 3.0", "With that nothing can be done: TypeError: 'float' object is not subscriptable"),
    "chance": ("import numpy as np\n" + HEAD + "    return dz * y + np.random.rand(), dz * x",
               "your answer did something else"),
    "type": ("import numpy as np\n" + HEAD + "    return np.float32(dz * y + [0]), dz * x",
             "That is float32 in place of float64."),
    "shape": (HEAD + "    return (dz * y).sum() + [[0, 0]], dz * x", "That is shape (1, 2) in place of ()."),
    "in place": (HEAD + "    dz *= y\n    return dz, x * y", "Your answer changes its argument number 1 in place"),
    "exit": (HEAD + "    exit()", "Your answer calls exit: it should return."),
    "exit above": ("exit()\n", "It calls exit: a file that is graded has to come to its end."),
    "borrowed": ("from tinygrad_lm.exercises.product import product_backward",
                 "It takes its answer from tinygrad_lm.exercises"),
    "borrowed at last": ("import importlib\n"
                         "product_backward = importlib.import_module('tinygrad_lm.exercises.product').ANSWER",
                         "It takes its answer from tinygrad_lm.exercises"),
    "borrowed, too": ("from tinygrad_lm import exercises\n", "It takes its answer from tinygrad_lm.exercises"),
}


@needs_compiler
def test_a_kernel_that_does_not_compile_is_told_with_its_line(tmp_path):
    file, kernel = tmp_path / "answer.py", exercise("softmax_kernel").ANSWER
    for right, wrong, words in (("float sum = 0;", "float sum = ;", ", in `float sum = ;`, line 20 of KERNEL."),
                                ("void softmax", "void sofmax", "There is no kernel softmax(x, y, cols) in it")):
        file.write_text(f"KERNEL = r'''{kernel.replace(right, wrong)}'''\n", encoding="utf-8")
        line, = verdict("softmax_kernel", file).lines
        assert words in line, line


def test_a_kernel_without_a_compiler(tmp_path, monkeypatch):
    monkeypatch.setattr(emulator, "available", lambda: False)
    (tmp_path / "answer.py").write_text(f"KERNEL = r'''{exercise('softmax_kernel').ANSWER}'''\n", encoding="utf-8")
    line, = verdict("softmax_kernel", tmp_path / "answer.py").lines
    assert line == "This exercise takes a C++ compiler, and there is none here: install g++ or clang++."


@pytest.mark.parametrize("what", WRONG)
def test_what_a_file_does_wrong_is_told(what, tmp_path):
    text, words = WRONG[what]
    (tmp_path / "answer.py").write_text(text, encoding="utf-8")
    found = verdict("product", tmp_path / "answer.py")
    assert not found.right and words in "\n".join(found.lines), found.lines


def test_what_only_its_own_process_survives(tmp_path):
    file = tmp_path / "answer.py"
    for body, words in (("    while True: pass",
                         "It did not end within 5 seconds, and was in line 2 when its time was up: is there a loop that"),
                        ("    import os; os._exit(3)", "It ended its process (exit code 3) before it could be graded")):
        file.write_text(HEAD + body)
        assert words in check("product", file, seconds=5).lines[0]
    file.write_text("for i in range(10**6): print('again and again')\n" + HEAD + "    return dz * y, dz * x")
    found = check("product", file)
    assert found.right and 1000 < len(found.printed) <= 2000


def test_numbers_and_names():
    assert find("1") == find("01") == find("product") == find("01_product.py") == (1, "product")
    for word in "0", "99", "softmaxx", "01_softmax":
        with pytest.raises(ValueError, match="there is no exercise"):
            find(word)


# ---- the commands ----------------------------------------------------------------------------------------------------

def test_a_learners_way(tg, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)

    def said(*words):
        code, out, err = tg("exercise", *words)
        assert code == 0, err
        return out

    assert "01  product" in said("list").splitlines()[0]
    assert said("start", "1").startswith("exercises/01_product.py: read it")
    code, _, err = tg("exercise", "start", "product")
    assert code == 1 and "is there already, and is yours" in err
    file = Path("exercises/01_product.py")
    file.write_text(file.read_text().replace(UNFILLED, "return dz * y, dz * x"))
    assert said("check", "1").splitlines() == ["01 The gradient of a product: right", "Next: tinygrad-lm exercise start 2"]
    assert said("list").startswith("· 01")
    assert [said("hint", "1").split(":")[0] for _ in range(4)] == [f"01, hint {i} of 3" for i in (1, 2, 3, 1)]
    assert "return dz * y, dz * x" in said("solution", "1")


def test_hints_begin_again_where_nothing_can_be_read_of_those_before(tg, tmp_path):  # noqa: F811
    for broken in ("", "[1]", "3"):
        (tmp_path / ".hints.json").write_text(broken)
        assert tg("exercise", "hint", "1", "--folder", tmp_path)[1].startswith("01, hint 1 of 3")


def test_no_time_is_no_fault_of_the_answer(tg, tmp_path):  # noqa: F811
    tg("exercise", "start", "1", "--folder", tmp_path)
    for seconds in ("0", "-5", "nan"):
        code, out, err = tg("exercise", "check", "1", "--folder", tmp_path, "--seconds", seconds)
        assert code == 2 and "--seconds" in err and not out


CHAPTER = (ROOT / "docs/exercises.md").read_text(encoding="utf-8")


def test_the_chapter_shows_what_a_learner_sees(tg, tmp_path, monkeypatch):  # noqa: F811
    """Its commands one after the other; what is Python there takes the place of the file's last line."""
    monkeypatch.chdir(tmp_path)
    checked = []
    code, console = r"^```python\n((?:.+\n)+)```$", r"^    \$ tinygrad-lm (.+)\n((?:(?:    .+)?\n)+)"
    for python, command, printed in re.findall(f"{code}|{console}", CHAPTER, re.M):
        if python:
            file = Path("exercises/01_product.py")
            file.write_text("\n".join([*file.read_text(encoding="utf-8").splitlines()[:-1], python]), encoding="utf-8")
        else:
            _, out, err = tg(*command.split())
            assert dedent(printed).strip() == out.strip(), err
            checked.append(command)
    assert [command.split()[1] for command in checked] == ["start", "check", "hint", "check", "start"]


def test_the_chapter_lists_what_there_is(tg, tmp_path):  # noqa: F811
    listed = [" ".join(row) for row in re.findall(r"^\| (\d\d) \| `(\w+)` \| (.+) \|$", CHAPTER, re.M)]
    _, out, _ = tg("exercise", "list", "--folder", tmp_path)
    assert listed == [" ".join(line.split()) for line in out.splitlines()]


def test_a_handout(tmp_path, tg):  # noqa: F811
    """A teacher's folder: graded by pytest, with a result that a program can read, and no solution in it."""
    tg("exercise", "export", tmp_path / "course")
    files = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "course").iterdir()}
    assert {*files} == {*map(file_name, names()), "README.md", "test_exercises.py", "pytest.ini"}
    assert all(UNFILLED in files[file_name(name)] or name in KERNELS for name in names())
    for name in names()[3:]:
        (tmp_path / "course" / file_name(name)).unlink()
    path = tmp_path / "course" / "01_product.py"
    path.write_text(path.read_text().replace(UNFILLED, "return dz * y, dz * x"))
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "course")],
                          cwd=tmp_path, capture_output=True, text=True,
                          env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"})
    assert "2 failed, 1 passed" in done.stdout, done.stdout
    results = json.loads((tmp_path / "course" / "results.json").read_text(encoding="utf-8"))
    assert results["score"] == pytest.approx(1 / 3) and results["exercises"]["product"] == {"passed": True, "message": ""}
    assert f'"{results["exercises"]["unbroadcast"]["message"]}"' in CHAPTER, "what the chapter shows of it"
    code, _, err = tg("exercise", "export", tmp_path / "course")
    assert code == 1 and "give a folder that is new or empty" in err
