"""Every figure of the book is shown on a page, and docs/figures/README.md says which command makes it: the command is one
that there is, and the quick ones make the figure again."""
import os
import re
import shlex
import struct
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tinygrad_lm.cli import main

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "docs" / "figures"
ROW = re.compile(r"^\| ([\w-]+\.(?:png|svg)) \| `([^`]+)`(?:, as ([\w-]+\.png))?[^|]*\| (\d+) \|$", re.M)
MADE = {name: (shlex.split(command), made or name, int(seconds))
        for name, command, made, seconds in ROW.findall((FIGURES / "README.md").read_text(encoding="utf-8"))}
PAGES = [ROOT / "README.md", *(page for page in (ROOT / "docs").rglob("*.md") if page.parent != FIGURES)]


def figures_on(page):
    """The files of docs/figures that a page shows."""
    shown = re.findall(r"(?:\]\(|src=\")([^)\s\"]+\.(?:png|svg))", page.read_text(encoding="utf-8"))
    return {(page.parent / path).resolve() for path in shown if "://" not in path}


def size_of(png):
    """(width, height) from a PNG's head"""
    head = png.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n", f"{png.name} is no PNG"
    return struct.unpack(">II", head[16:24])


def test_every_figure_has_a_row_and_every_row_a_figure_in_order():
    assert list(MADE) == sorted(path.name for path in FIGURES.iterdir() if path.suffix in (".png", ".svg"))


def test_every_figure_is_shown_and_what_is_shown_is_there():
    shown = {page: figures_on(page) for page in PAGES}
    missing = [f"{page.relative_to(ROOT)}: {path.name}"
               for page, paths in shown.items() for path in paths if not path.exists()]
    assert not missing
    unseen = {(FIGURES / name).resolve() for name in MADE} - set().union(*shown.values())
    assert not unseen, f"no page shows {sorted(path.name for path in unseen)}"


@pytest.mark.parametrize("figure", MADE)
def test_its_command_is_one_that_there_is(figure):
    words, _, _ = MADE[figure]
    flags = [word for word in words if word.startswith("--")]
    if words[:2] == ["python", "-m"]:
        assert find_spec(words[2]), f"{figure}: there is no module {words[2]}"
        return
    if words[0] == "python":
        source = (ROOT / words[1]).read_text(encoding="utf-8")
        assert all(f'"{flag}"' in source for flag in flags), f"{figure}: {words[1]} lacks one of {flags}"
        return
    assert words[0] == "tinygrad-lm"
    command = main
    for word in words[1:]:
        if not hasattr(command, "commands"):
            break                                                                # an argument
        assert word in command.commands, f"{figure}: tinygrad-lm has no {word}"
        command = command.commands[word]


QUICK = [name for name, (words, _, seconds) in MADE.items() if seconds <= 5 and words[1].startswith("examples/")]


def test_some_are_quick():
    assert len(QUICK) >= 5


@pytest.mark.parametrize("figure", QUICK)
def test_a_quick_command_makes_it_again(figure, tmp_path):
    words, made, _ = MADE[figure]
    out = tmp_path / made if figure == "korean-tokens.png" else tmp_path          # its --out is a file
    done = subprocess.run([sys.executable, *words[1:], "--out", out], cwd=ROOT, capture_output=True, text=True,
                          encoding="utf-8", env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"})
    assert done.returncode == 0, done.stderr
    assert size_of(tmp_path / made) == size_of(FIGURES / figure)


def test_the_figures_of_the_chapter_on_gpus_are_made_again(tmp_path):
    from benchmarks.figures_gpu import main as draw
    draw(tmp_path)
    for name in ("gpu-passes.png", "gpu-tiles.png"):
        assert size_of(tmp_path / name) == size_of(FIGURES / name)
