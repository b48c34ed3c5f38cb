"""The Korean pages keep step with the English ones, lead nowhere that is not there, and both show what the commands
print."""
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
KOREAN = ROOT / "docs" / "ko"
PAGES = sorted(p.name for p in KOREAN.glob("*.md"))
TRANSLATED = [name for name in PAGES if (ROOT / "docs" / name).exists()]

every_page = pytest.mark.parametrize("page", PAGES)
every_translation = pytest.mark.parametrize("page", TRANSLATED)


def read(path):
    return path.read_text(encoding="utf-8")


def without_code(text):
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


# ---- beside the English page -----------------------------------------------------------------------------------------

def slug(heading):
    """The anchor that a heading gets."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def headings(text):
    """(level, anchor) of an English page's headings."""
    return [(len(level), slug(title)) for level, title in re.findall(r"^(#+) (.+)$", without_code(text), re.M)]


def headings_with_anchors(text):
    """The same of a Korean page, where the line above each heading carries the English anchor."""
    found = re.findall(r'^(?:<a id="(.*)"></a>\n)?(#+) .+$', without_code(text), re.M)
    return [(len(level), anchor) for anchor, level in found]


@every_translation
def test_headings_are_those_of_the_english_page_in_order(page):
    assert headings_with_anchors(read(KOREAN / page)) == headings(read(ROOT / "docs" / page))


@every_translation
def test_code_and_equations_are_those_of_the_english_page(page):
    def code(text):
        """What is fenced, without comments and strings, which are translated; and what a page quotes by name."""
        fenced = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
        return [re.sub(r'"[^"\n]*"|[ ]*#.*', "", block) for block in fenced], re.findall(r"^\{\{.*\}\}$", text, re.M)

    korean, english = read(KOREAN / page), read(ROOT / "docs" / page)
    assert code(korean) == code(english)
    assert re.findall(r"\$\$(.+?)\$\$", korean, re.S) == re.findall(r"\$\$(.+?)\$\$", english, re.S)


@every_page
def test_what_is_korean_is_korean(page):
    prose = [p for p in re.split(r"\n\n+", without_code(read(KOREAN / page)))
             if not p.startswith(("    ", "$$", "{{", "[English]"))]
    foreign = [p for p in prose if not re.search("[가-힣]", p)]
    assert not foreign, "paragraphs that nobody translated"


# ---- links -----------------------------------------------------------------------------------------------------------

@every_page
def test_links_and_figures_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", without_code(read(KOREAN / page))):
        path, _, anchor = target.partition("#")
        to = (KOREAN / path).resolve() if path else KOREAN / page
        assert to.is_file(), f"{page} links to {target}"
        if anchor:
            assert f'<a id="{anchor}"></a>' in read(to) or anchor in (a for _, a in headings(read(to))), target


# ---- what is printed -------------------------------------------------------------------------------------------------

def shown(text):
    """[(command, [what it prints, in stretches of lines])] of the indented blocks with a `$ `; "…" stands for lines left
    out, and a command goes on after a line that ends with a backslash."""
    for block in re.findall(r"(?:^    .*\n(?:\n(?=    ))?)+", without_code(text), re.M):
        for command, printed in re.findall(r"^    \$ ((?:.+\\\n)*.+)\n((?:(?!    \$ ).*\n)*)", block, re.M):
            lines = [line.removeprefix("    ").rstrip() for line in printed.splitlines()]
            yield re.sub(r"\\\n *", "", command), [s.strip("\n") for s in "\n".join(lines).split("…") if s.strip()]


def run(command, cwd, *more):
    """What a command prints, run as it stands in the page, from the folder `cwd`."""
    stories = shlex.quote(str(ROOT / "tinygrad_lm/data/stories_ko.txt"))
    command = command.replace('"$(tinygrad-lm data path stories-ko)"', stories)
    program, *arguments = shlex.split(command)
    start = {"tinygrad-lm": ["-m", "tinygrad_lm.cli"], "python": []}[program]
    if program == "python":
        arguments = [str(ROOT / arguments[0]), *arguments[1:], "--out", str(cwd)]
    done = subprocess.run([sys.executable, *start, *arguments, *more], cwd=cwd, capture_output=True, text=True,
                          encoding="utf-8", env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"})
    assert done.returncode == 0, done.stderr
    return "\n".join(line.rstrip() for line in done.stdout.splitlines())


TRAINS = re.compile("tinygrad-lm (pretrain|neural)|03_neural|10_ngram")
SHOWN = [(page, *what) for page in [*(f"ko/{p}" for p in PAGES), *TRANSLATED] for what in shown(read(ROOT / "docs" / page))]
COMMANDS = {command: page for page, command, _ in SHOWN if not command.startswith("tinygrad-lm sample")}


def alike(command, text):
    """What must be the same on every machine: all but the seconds, and, of what is trained, all but the figures and what it
    wrote."""
    if not TRAINS.search(command):
        return re.sub(r"[\d.]+ s\b", "# s", text)
    return re.sub(r"\d[\d.,e+]*", "#", re.sub(r"'[^']+'", "''", text))


@pytest.mark.parametrize("command", COMMANDS)
def test_pages_show_what_commands_print(command, tmp_path):
    """What trains is cut short here, since its figures are not compared."""
    printed = alike(command, run(command, tmp_path, *(["--steps", "3"] if "pretrain" in command else [])))
    for page, again, stretches in SHOWN:
        for stretch in stretches if again == command else ():
            assert alike(command, stretch) in printed, f"{page} shows what `{command}` does not print"


def test_the_table_of_counting_is_what_the_example_prints(tmp_path):
    printed = run("python examples/02_counting.py", tmp_path)
    rows = re.findall(r"^\| (add 1|add 0.01|Kneser–Ney) \| (.+) \|$", read(ROOT / "docs/counting.md"), re.M)
    assert len(rows) == 3
    for name, figures in rows:
        row = f"{name.replace('–', '-')} {figures.replace('|', '')}"
        assert row.split() in [line.split() for line in printed.splitlines()]


def test_what_is_shown_is_found():
    """The reader of pages reads: else the test above holds nothing."""
    assert {page for page, _, _ in SHOWN} >= {f"ko/{page}" for page in PAGES} and len(COMMANDS) >= 8
    page = "\n    $ a b\n    one\n    …\n    two\n\n    three\n    $ c \\\n        d\n    four\n\ntext\n"
    (_, first), (command, second) = shown(page)
    assert first == ["one", "two\n\nthree"] and (command, second) == ("c d", ["four"])


@pytest.mark.slow
def test_the_quick_start_as_it_stands(tmp_path):
    """Every command in turn; what is trained ends within a twentieth of the figures shown, and what writes goes on from its
    prompt."""
    for command, (stretch, *_) in shown(read(KOREAN / "quick-start.md")):
        printed = run(command, tmp_path)
        if "sample" in command:
            assert printed.startswith(re.search('--prompt "(.+?)"', command)[1])
        elif TRAINS.search(command):
            loss, claimed = (float(re.search(r"held-out loss ([\d.]+)", text)[1]) for text in (printed, stretch))
            assert abs(loss / claimed - 1) < 0.05
