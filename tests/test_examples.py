"""The examples run, end with the line that they promise, and leave their figure."""
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("script, figure", [("03_neural.py", "embeddings"), ("04_ngram_to_gpt.py", "ngram-to-gpt"),
                                            ("07_optimum.py", "optimum"), ("08_rivals.py", "rivals"),
                                            ("09_ablations.py", "ablations"), ("longer_context.py", "longer-context"),
                                            ("quantisation.py", "quantisation")])
def test_what_trains_ends_with_such_a_line(script, figure, tmp_path):
    def without_numbers(line):
        return re.sub(r"[-+]?\d[\d,.]*", "#", line)
    assert without_numbers(run(script, "--fast", "--out", tmp_path)[-1]) == without_numbers(promised(script))
    assert (tmp_path / f"{figure}.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.slow
@pytest.mark.parametrize("script", ["01_probability_of_a_sentence.py", "02_counting.py", "03_neural.py",
                                    "04_ngram_to_gpt.py"])
def test_in_korean_and_on_a_text_of_ones_own(script, tmp_path):
    fast = ["--fast"] if script > "03" else []
    run(script, "--language", "ko", "--out", tmp_path, *fast)
    (tmp_path / "text.txt").write_text("The rain in Spain falls mainly in the plain, they say.\n" * 40, encoding="utf-8")
    run(script, "--text", tmp_path / "text.txt", "--out", tmp_path, *fast)
