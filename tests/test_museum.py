"""Every exhibit runs, learns, and is killed by its test; and a learner's test is graded by the same measure."""
import inspect
from pathlib import Path

import pytest

from tinygrad_lm import museum
from tinygrad_lm.museum import NAMES, exhibit, grade, improves, symptom
from tinygrad_lm.museum.replace import replaced
from tinygrad_lm.text import batches
from tinygrad_lm.train import ppo

from .test_cli import tg  # noqa: F401

every_exhibit = pytest.mark.parametrize("name", NAMES)


def test_every_room_is_on_the_plan():
    rooms = {p.stem for p in Path(museum.__file__).parent.glob("*.py")} - {"__init__", "replace", "tasks", "grade", "wall"}
    assert rooms == set(NAMES)
    with pytest.raises(ValueError, match="no exhibit 'futur'; it has future, prompt"):
        exhibit("futur")


@every_exhibit
def test_its_test_passes_and_kills_the_bug(name):
    room = exhibit(name)
    room.test()
    with pytest.raises(AssertionError), room.patch():
        room.test()
    room.test()                                                                   # the right function is back
    assert len(inspect.getsource(room.wrong).splitlines()) <= 10 and room.__doc__ and "right:" in inspect.getsource(room)


@every_exhibit
def test_the_spoiled_run_still_learns_and_is_another(name):
    (watched, right), (spoiled, wrong) = symptom(name)
    assert improves(name, watched) and improves(name, spoiled)
    assert len(right) == len(wrong) and sum(abs(a - b) for a, b in zip(right, wrong)) > 0.1 * sum(map(abs, right))


def test_a_replacement_reaches_everybody_and_goes_again():
    def wrong(*_):
        return "wrong"
    before = batches.answer_mask
    with pytest.raises(KeyError), replaced(batches.answer_mask, wrong):
        assert ppo.answer_mask(0) == batches.answer_mask(0) == "wrong"
        raise KeyError
    assert ppo.answer_mask is batches.answer_mask is before
    with pytest.raises(ValueError, match="nothing in tinygrad_lm is"), replaced(wrong, before):
        pass


# ---- what a learner writes ------------------------------------------------------------------------------------------

KILLS = """
import numpy as np
from tinygrad_lm.train.ppo import whiten

def test_mean_and_spread_under_the_mask():
    m = np.arange(6) < 4 + np.zeros((9, 1))
    x = whiten(np.random.default_rng(0).normal(2, 1, m.shape) * m, m)
    assert abs(x[m].mean()) < 1e-6 and abs(x[m].std() - 1) < 1e-5
"""
BLIND = KILLS.replace("< 4", "< 9")                                               # no padding, nothing to notice
WRONG = KILLS.replace("std() - 1", "std() - 2")
LEARNERS = [(KILLS, True, "passes on the reference and fails with the bug: test_mean_and_spread_under_the_mask: Assertion"),
            (BLIND, False, "passes with the bug, too: test_mean_and_spread_under_the_mask would not have noticed"),
            (WRONG, False, "fails on the reference: test_mean_and_spread"),
            ("def check():\n    pass\n", False, "no function whose name begins with test_"),
            ("def test_(:\n", False, "could not be run: SyntaxError"),
            ("import os\ndef test_leaves():\n    os._exit(0)\n", False, "could not be run: exit code 0"),
            ("def test_leaves():\n    raise SystemExit(0)\n", False, "fails on the reference: test_leaves: SystemExit in line 2: 0"),
            ("def test_waits():\n    while True:\n        pass\n", False, "did not end within 5 s")]


@pytest.mark.parametrize("text, killed, why", LEARNERS)
def test_learners_are_graded(tmp_path, text, killed, why):
    (tmp_path / "mine.py").write_text(text, encoding="utf-8")
    seconds = 5 if "while" in text else 60
    found, said = grade.check("whitening", tmp_path / "mine.py", seconds=seconds)
    assert found is killed and why in said


def test_the_command(tg, tmp_path):  # noqa: F811
    code, out, _ = tg("museum", "list")
    assert code == 0 and [line.split()[0] for line in out.splitlines()] == list(NAMES)
    code, out, _ = tg("museum", "show", "whitening")
    assert code == 0 and "def wrong(x, m" in out and "def test" not in out and "train.advantages.whiten" in out
    assert "def test" in tg("museum", "show", "whitening", "--answer")[1]
    code, out, _ = tg("museum", "plot", "used_twice", "--out", tmp_path)
    assert code == 0 and (tmp_path / "used_twice.png").read_bytes()[:4] == b"\x89PNG"
    (tmp_path / "mine.py").write_text(BLIND, encoding="utf-8")
    code, out, _ = tg("museum", "check", "whitening", tmp_path / "mine.py")
    assert code == 1 and out.startswith("not yet: it passes with the bug")
    (tmp_path / "mine.py").write_text(KILLS, encoding="utf-8")
    code, out, _ = tg("museum", "check", "whitening", tmp_path / "mine.py")
    assert code == 0 and out.startswith("killed: ")
    code, _, err = tg("museum", "show", "whitenning")
    assert code == 1 and "no exhibit 'whitenning'" in err
