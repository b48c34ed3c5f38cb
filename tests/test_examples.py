"""The examples run, end with the line that they promise, and leave their figure."""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.parametrize("script, figure", [("01_probability_of_a_sentence.py", "surprise"), ("02_counting.py", "counting")])
def test_what_counts_ends_with_the_very_line(script, figure, tmp_path):
    assert run(script, "--out", tmp_path)[-1] == promised(script)
    assert (tmp_path / f"{figure}.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("script, figure", [("03_neural.py", "embeddings"), ("10_ngram_to_gpt.py", "ngram-to-gpt"),
                                            ("04_word_neighbours.py", "word-neighbours"), ("14_instructions.py", "instructions"),
                                            ("05_scalar_autograd.py", "scalar-autograd"),
                                            ("06_gradient_checking.py", "gradient-checking"),
                                            ("07_attention_by_hand.py", "attention-by-hand"),
                                            ("08_tiny_gpt.py", "tiny-gpt"), ("17_reward_model.py", "reward-model"),
                                            ("09_tiny_gpt_korean.py", "tiny-gpt-korean"), ("18_ppo.py", "ppo"),
                                            ("15_self_instruct.py", "self-instruct"), ("16_lora.py", "lora"),
                                            ("19_optimum.py", "optimum"), ("20_rivals.py", "rivals"),
                                            ("21_ablations.py", "ablations"), ("22_two_rewards.py", "two-rewards"),
                                            ("23_prose.py", "prose"),
                                            ("13_longer_context.py", "longer-context"), ("24_quantisation.py", "quantisation")])
def test_what_trains_ends_with_such_a_line(script, figure, tmp_path):
    def without_numbers(line):
        return re.sub(r"[-+]?\d[\d,.]*|(?<=nearest to he: ).+", "#", line)
    assert without_numbers(run(script, "--fast", "--out", tmp_path)[-1]) == without_numbers(promised(script))
    assert (tmp_path / f"{figure}.png").read_bytes()[:4] == b"\x89PNG"


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
                                    "10_ngram_to_gpt.py"])
def test_in_korean_and_on_a_text_of_ones_own(script, tmp_path):
    fast = ["--fast"] if script > "03" else []
    run(script, "--language", "ko", "--out", tmp_path, *fast)
    (tmp_path / "text.txt").write_text("The rain in Spain falls mainly in the plain, they say.\n" * 40, encoding="utf-8")
    run(script, "--text", tmp_path / "text.txt", "--out", tmp_path, *fast)
