"""The examples run, end with the line that they promise, and leave their figure; all have one form, that of a notebook."""
import argparse
import ast
import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from .test_gguf import with_smollm2

ROOT = Path(__file__).parents[1]


def run(script, *arguments):
    """What it prints, line by line."""
    done = subprocess.run([sys.executable, f"examples/{script}", *map(str, arguments)], cwd=ROOT, capture_output=True,
                          text=True, encoding="utf-8",
                          env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"})
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def promised(script):
    """The last line that the script's first lines promise."""
    return re.search("^Last line: (.+)$", (ROOT / "examples" / script).read_text(encoding="utf-8"), re.M)[1]


COUNT = {"01_probability_of_a_sentence": "surprise", "02_counting": "counting"}                  # example: its figure
TRAIN = {"03_neural": "embeddings", "04_word_neighbours": "word-neighbours", "05_scalar_autograd": "scalar-autograd",
         "06_gradient_checking": "gradient-checking", "07_attention_by_hand": "attention-by-hand", "08_tiny_gpt": "tiny-gpt",
         "09_tiny_gpt_korean": "tiny-gpt-korean", "10_ngram_to_gpt": "ngram-to-gpt", "12_fill_the_blank": "fill-the-blank",
         "13_longer_context": "longer-context", "14_instructions": "instructions", "15_self_instruct": "self-instruct",
         "16_lora": "lora", "17_reward_model": "reward-model", "18_ppo": "ppo", "19_optimum": "optimum",
         "20_rivals": "rivals", "21_ablations": "ablations", "22_two_rewards": "two-rewards",
         "23_prose": "prose", "24_quantisation": "quantisation"}


@pytest.mark.parametrize("script, figure", COUNT.items())
def test_what_counts_ends_with_the_very_line(script, figure, tmp_path):
    assert run(f"{script}.py", "--out", tmp_path)[-1] == promised(f"{script}.py")
    assert (tmp_path / f"{figure}.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("script, figure", TRAIN.items())
def test_what_trains_ends_with_such_a_line(script, figure, tmp_path):
    def without_numbers(line):
        return re.sub(r"[-+]?\d[\d,.]*|(?<=nearest to he: ).+", "#", line)
    lines = run(f"{script}.py", "--fast", "--out", tmp_path)
    assert without_numbers(lines[-1]) == without_numbers(promised(f"{script}.py"))
    assert any("Guess first: " in line for line in lines[:-1])
    assert (tmp_path / f"{figure}.png").read_bytes()[:4] == b"\x89PNG"


def test_the_korean_tokens_end_with_the_very_line(tmp_path):
    assert run("11_korean_tokens.py", "--out", tmp_path / "tokens.png")[-1] == promised("11_korean_tokens.py")
    assert (tmp_path / "tokens.png").read_bytes()[:4] == b"\x89PNG"


# ---- the form -------------------------------------------------------------------------------------------------------

EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))


def test_they_are_numbered_in_reading_order_without_a_gap_and_all_are_run():
    assert [name[:2] for name in EXAMPLES] == [f"{n:02}" for n in range(1, 26)]
    elsewhere = {"11_korean_tokens", "25_gpu_kernel_on_cpu"}                    # above, and test_gpu_example.py
    assert {name.removesuffix(".py") for name in EXAMPLES} == {*COUNT, *TRAIN} | elsewhere


def cells(script):
    """[(is it text?, what it holds without its first line)]: the percent format, in which `# %%` begins a cell of code and
    `# %% [markdown]` one of text."""
    parts = re.split(r"^(# %%.*)$", (ROOT / "examples" / script).read_text(encoding="utf-8"), flags=re.M)
    assert parts[0] == "", f"{script} does not begin with a cell"
    assert {*parts[1::2]} == {"# %%", "# %% [markdown]"}, f"{script} has cells of other kinds"
    return [(mark.endswith("[markdown]"), body.strip("\n")) for mark, body in zip(parts[1::2], parts[2::2])]


@pytest.mark.parametrize("script", EXAMPLES)
def test_its_head_says_what_it_shows_how_to_run_it_how_long_it_takes_and_how_it_ends(script):
    is_text, head = cells(script)[0]
    assert is_text and head.startswith('"""# ') and head.endswith('"""')
    assert re.search(rf"^    python examples/{re.escape(script)}\b", head, re.M)
    took = re.findall(r"^Takes (\d+) s on two cores\. ", head, re.M)
    assert len(took) == 1 and int(took[0]) <= 120
    assert len(re.findall("^Last line: .+", head, re.M)) == 1
    for flag in re.findall(r"(?<= )--[a-z]+", head):
        assert f'"{flag}"' in "".join(body for _, body in cells(script)[1:]), f"{script} speaks of {flag}, and has it not"


@pytest.mark.parametrize("script", EXAMPLES)
def test_it_asks_for_a_guess_before_it_shows_a_result(script):
    code = "\n".join(body for is_text, body in cells(script) if not is_text)
    assert "Guess first: " in code[:code.rindex("print(")]


@pytest.mark.parametrize("script", EXAMPLES)
def test_it_becomes_a_notebook_whose_cells_compile(script):
    """Text cells are comments or one string, code cells whole statements: cut anywhere else, a notebook would not run."""
    for number, (is_text, body) in enumerate(cells(script)):
        tree = ast.parse(body, f"{script}, cell {number}")
        if is_text:
            assert body.startswith('"""') and len(tree.body) == 1 or not tree.body, f"{script}: cell {number} is no text"


@pytest.mark.skipif(find_spec("jupytext") is None, reason="jupytext is not installed")
@pytest.mark.parametrize("script", EXAMPLES)
def test_jupytext_cuts_it_in_the_same_cells(script):
    import jupytext
    notebook = jupytext.read(ROOT / "examples" / script)
    assert [cell["cell_type"] == "markdown" for cell in notebook["cells"]] == [is_text for is_text, _ in cells(script)]
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            compile(cell["source"], script, "exec")
        else:
            assert cell["source"].strip() and not cell["source"].startswith(("# %%", '"""'))


def test_a_notebook_has_the_defaults_and_shows_what_is_kept(tmp_path, monkeypatch):
    """The kernel's own command line is none of the script's; the figure goes to the file and under the cell."""
    from tinygrad_lm.train.report import panels
    from tinygrad_lm.train.script import given, keep
    parser, shown = argparse.ArgumentParser(), []
    parser.add_argument("--steps", type=int, default=3)
    monkeypatch.setattr(sys, "argv", ["script.py", "--steps", "5"])
    assert given(parser).steps == 5
    keep(panels(1, 1)[0], tmp_path / "folder" / "plain.png")
    monkeypatch.setattr(sys, "argv", ["ipykernel_launcher.py", "-f", "kernel.json"])
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(Image=lambda data: data, display=shown.append))
    assert given(parser).steps == 3
    keep(panels(1, 1)[0], tmp_path / "folder" / "shown.png")
    assert shown == [(tmp_path / "folder" / "shown.png").read_bytes()] and shown[0][:4] == b"\x89PNG"


@pytest.mark.parametrize("script", sorted({*COUNT, *TRAIN, "11_korean_tokens"}))
def test_its_options_and_its_figure_are_those_of_a_notebook_too(script):
    code = (ROOT / "examples" / f"{script}.py").read_text(encoding="utf-8")
    assert "given(options)" in code and "keep(" in code and "parse_args" not in code and "savefig" not in code


# ---- other languages, texts and models ------------------------------------------------------------------------------

def test_the_korean_sentence_in_text_and_figure(tmp_path):
    lines = run("01_probability_of_a_sentence.py", "--language", "ko", "--out", tmp_path)
    letters = next(i for i, line in enumerate(lines) if line.startswith("   ㄴㅗㅇㅣㄴㅇㅡㄴ␣ "))
    assert lines[letters + 1].split() and set(lines[letters + 1]) <= set(" ▁▂▃▄▅▆▇█")
    assert (tmp_path / "surprise.png").read_bytes()[:4] == b"\x89PNG"


def test_words_beside_letters_and_points_that_are_kept(tmp_path):
    """The second run finds the points of the first, and of another text it starts anew."""
    for text in "The rain in Spain falls mainly in the plain. ", "A cat sat on a mat, and a rat sat on a hat. ":
        (tmp_path / "text.txt").write_text("\n\n".join([text * 12] * 20), encoding="utf-8")
        arguments = ("--tokens", "words", "--text", tmp_path / "text.txt", "--budgets", 1024, 2048, "--out", tmp_path)
        first = run("10_ngram_to_gpt.py", *arguments)
        kept = json.loads((tmp_path / "ngram-to-gpt-words.json").read_text(encoding="utf-8"))
        assert {*kept["points"]} == {"1024", "2048"} and kept["asked"]["text"] == "text.txt"
        kept["points"]["2048"]["GPT"] = 123.0
        (tmp_path / "ngram-to-gpt-words.json").write_text(json.dumps(kept), encoding="utf-8")
        assert "GPT 123.00" in run("10_ngram_to_gpt.py", *arguments)[-1] and "GPT 123.00" not in first[-1]


@with_smollm2
@pytest.mark.slow
def test_quantisation_of_a_given_model(tmp_path):
    lines = run("24_quantisation.py", "--model", "smollm2", "--tokens", 300, "--out", tmp_path)
    assert re.fullmatch(r"int4: 95.00 MB instead of 538.06, perplexity [\d.]+ instead of [\d.]+", lines[-1])


@pytest.mark.slow
@pytest.mark.parametrize("script", ["01_probability_of_a_sentence.py", "02_counting.py", "03_neural.py",
                                    "10_ngram_to_gpt.py", "12_fill_the_blank.py"])
def test_in_korean_and_on_a_text_of_ones_own(script, tmp_path):
    fast = ["--fast"] if script > "03" else []
    run(script, "--language", "ko", "--out", tmp_path, *fast)
    (tmp_path / "text.txt").write_text("The rain in Spain falls mainly in the plain, they say.\n" * 40, encoding="utf-8")
    run(script, "--text", tmp_path / "text.txt", "--out", tmp_path, *fast)


@pytest.mark.slow
@pytest.mark.parametrize("script", ["08_tiny_gpt.py", "09_tiny_gpt_korean.py"])
def test_tiny_gpts_on_a_text_of_ones_own(script, tmp_path):
    (tmp_path / "text.txt").write_text("The rain in Spain falls mainly in the plain, they say.\n" * 40, encoding="utf-8")
    run(script, "--text", tmp_path / "text.txt", "--out", tmp_path, "--fast")


@pytest.mark.slow
def test_attention_by_hand_over_hangul(tmp_path):
    lines = run("07_attention_by_hand.py", "--pattern", "고양이", "--out", tmp_path, "--fast")
    assert "   fetched  고 고 양 이 고 양 이" in lines
