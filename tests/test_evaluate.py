"""Multiple choice by likelihood: models that know the answer, likelihoods by hand, and files with mistakes."""
import json
import re
from functools import partial
from math import log
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from tinygrad_lm.models import NGram
from tinygrad_lm.models import evaluate as e
from tinygrad_lm.models.language_model import LanguageModel
from tinygrad_lm.models.ngram import add_k
from tinygrad_lm.text.char import CharTokenizer

from .test_cli import call

QUESTIONS = e.shipped()
EVERYTHING = CharTokenizer.from_text("".join(q.prompt + "".join(q.choices) for q in QUESTIONS))


class Knowing(LanguageModel):
    """Knows the answers: log p is `right` for a right choice and −1 for others, whatever their length."""

    def __init__(self, right):
        self.tokenizer, self.right = EVERYTHING, right
        self.answers = {(q.prompt, q.choices[q.label]) for q in QUESTIONS}

    def logprobs(self, tokens, *, context=()):
        known = tuple(self.tokenizer.decode(x) for x in (context, tokens)) in self.answers
        return np.array([float(self.right if known else -1)])


def test_the_shipped_items():
    """Five of each form in each language, no two alike, answers not all the same."""
    groups = {(form, language): [q for q in QUESTIONS if (q.form, q.language) == (form, language)]
              for form in e.FORMS for language in e.LINKS}
    assert len(set(q.prompt for q in QUESTIONS)) == len(QUESTIONS) == 50
    for (form, language), group in groups.items():
        assert len(group) == 5 and len({q.label for q in group}) > 1
        for q in group:
            assert bool(re.search("[가-힣]", q.prompt)) == (language == "ko")
            assert len(set(q.choices)) == (4 if form == "hellaswag" else 2)
            assert all(c.startswith(" ") and "{" not in c + q.prompt for c in q.choices)


def test_label_0_is_no_and_negative():
    """As KoBEST's labels are: an item's label is a place in this order."""
    order = {"boolq": ("No", "Yes", "아니요", "예"), "wic": ("No", "Yes", "아니요", "예"),
             "sentineg": ("negative", "positive", "부정적이다", "긍정적이다")}
    for form, said in order.items():
        templates = e.FORMS[form].templates
        assert tuple(c.strip() for language in ("en", "ko") for c in templates[language][1]) == said


@pytest.mark.parametrize("right, accuracy", [(0, 1), (-1e9, 0)])
@pytest.mark.parametrize("normalise", e.NORMALISATIONS)
def test_a_model_that_knows_and_one_that_knows_better_than_to_say(right, accuracy, normalise):
    results = e.evaluate(Knowing(right), QUESTIONS, normalise=normalise)
    assert [(r.form, r.language) for r in results] == [(f, lang) for f in e.FORMS for lang in ("en", "ko")]
    for r in results:
        assert (r.items, r.accuracy, r.f1) == (5, accuracy, accuracy)
        assert r.chance == (0.25 if r.form == "hellaswag" else 0.5)
        assert (r.low, r.high) == pytest.approx((0.5655, 1) if accuracy else (0, 1 - 0.5655), abs=1e-3)


def test_likelihood_by_hand_and_its_length():
    """A model that counts single letters: of "aab" and its end, with a half more for each of the five tokens, a has 2.5 of
    6.5, b 1.5 and é 0.5. Of "b" and "aaaa" the first is likelier in all, the second by its length."""
    model = NGram(["aab"], CharTokenizer("abé"), order=1, smoothing=partial(add_k, k=0.5))
    p = {"a": 2.5 / 6.5, "b": 1.5 / 6.5, "é": 0.5 / 6.5}
    q = e.Question("copa", "en", "", ["b", "aaaa", "é"], 0)
    total = [log(p["b"]), 4 * log(p["a"]), log(p["é"])]
    np.testing.assert_allclose(e.scores(model, [q], "none")[0], total)
    np.testing.assert_allclose(e.scores(model, [q], "bytes")[0], [total[0], total[1] / 4, total[2] / 2])
    np.testing.assert_allclose(e.scores(model, [q], "tokens")[0], [total[0], total[1] / 4, total[2]])
    assert e.scores(model, [q], "none")[0].argmax() == 0 and e.scores(model, [q], "bytes")[0].argmax() == 1
    with pytest.raises(ValueError, match="normalise is one of none, bytes, tokens, not 'letters'"):
        e.scores(model, [q], "letters")


def test_the_prompt_counts():
    tokenizer = CharTokenizer("abx")
    model = NGram(["ab", "xa"], tokenizer, order=2)
    assert e.scores(model, [e.Question("copa", "en", "a", ["b", "a"], 0)])[0].argmax() == 0
    assert e.scores(model, [e.Question("copa", "en", "x", ["b", "a"], 0)])[0].argmax() == 1


# ---- figures ---------------------------------------------------------------------------------------------------------

def test_macro_f1_by_hand():
    """Class 0: 1 of (2 labels, 1 answer): 2/3. Class 1: 1 of (1, 1): 1. Class 2, only said: 0."""
    assert e.macro_f1(np.array([0, 0, 1]), np.array([0, 2, 1])) == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert e.macro_f1(np.array([0, 1, 1, 1]), np.array([1, 1, 1, 1])) == pytest.approx((0 + 6 / 7) / 2)


@given(st.integers(1, 300), st.data())
def test_the_interval_holds_the_share_and_is_its_own_test(n, data):
    """Its ends are the shares from which the seen one is 1.96 standard deviations away."""
    right = data.draw(st.integers(0, n))
    low, high = e.wilson(right, n)
    assert 0 <= low <= right / n <= high <= 1 and low < high
    for end in (low, high):
        if 0 < end < 1:
            assert abs(right / n - end) == pytest.approx(1.959964 * (end * (1 - end) / n) ** 0.5, rel=1e-6, abs=1e-9)


# ---- files -----------------------------------------------------------------------------------------------------------

BOOLQ = {"form": "boolq", "language": "en", "paragraph": "p", "question": "q", "label": 1}
COPA = {"form": "copa", "language": "ko", "premise": "가", "question": "원인", "alternative_1": "나", "alternative_2": "다",
        "label": 0}


def test_reading(tmp_path):
    """Blank lines do not count; KoBEST's own words for cause and effect are understood; braces are text."""
    path = tmp_path / "items.jsonl"
    items = [BOOLQ | {"paragraph": "{question}\u2028"}, COPA, COPA | {"question": "결과"}, COPA | {"question": "effect"}]
    path.write_text("\n".join(json.dumps(i, ensure_ascii=False) + "\n" for i in items), encoding="utf-8")
    boolq, cause, effect, again = e.read_questions(path)
    assert boolq.prompt == "{question}\nQuestion: q\nAnswer:" and boolq.choices == [" No", " Yes"] and boolq.label == 1
    assert cause.prompt == "가 왜냐하면" and cause.choices == [" 나", " 다"] and effect.prompt == again.prompt == "가 그래서"


@pytest.mark.parametrize("item, words", [
    ("{", "this is not JSON"), ("[1]", "an item is an object"),
    (BOOLQ | {"form": "quiz"}, '"form" is one of boolq, copa, wic, hellaswag, sentineg, not \'quiz\''),
    (BOOLQ | {"language": "de"}, '"language" is one of en, ko, not \'de\''),
    (BOOLQ | {"paragraph": " "}, '"paragraph" is a text'),
    (BOOLQ | {"question": 3}, '"question" is a text, not 3'),
    (BOOLQ | {"label": 2}, '"label" is a number from 0 to 1, not 2'),
    (BOOLQ | {"label": "1"}, '"label" is a number'), (BOOLQ | {"label": True}, '"label" is a number'),
    (COPA | {"question": "why"}, '"question" is one of cause, effect, 원인, 결과, not \'why\''),
    (COPA | {"form": ["copa"]}, '"form" is one of')])
def test_mistakes_name_file_line_and_field(item, words, tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps(COPA) + "\n\n" + (item if isinstance(item, str) else json.dumps(item)), encoding="utf-8")
    with pytest.raises(ValueError, match=f"items.jsonl, line 3: .*{re.escape(words)}"):
        e.read_questions(path)


def test_a_file_without_items(tmp_path):
    (tmp_path / "items.jsonl").write_text("\n\n")
    with pytest.raises(ValueError, match="items.jsonl has no items"):
        e.read_questions(tmp_path / "items.jsonl")


# ---- the command -----------------------------------------------------------------------------------------------------

def test_the_command(tmp_path, capsys, monkeypatch):
    from tinygrad_lm.checkpoint import save
    from tinygrad_lm.models import GPT, GPTConfig
    from tinygrad_lm.models.network import load_network
    from tinygrad_lm.models.saved import describe
    model = GPT(GPTConfig(len(EVERYTHING), 64, 1, 2, 8))
    save(tmp_path / "run" / "checkpoint.safetensors", {f"model/{n}": a for n, a in model.state_dict().items()},
         describe(model, EVERYTHING))
    code, out, err = call(capsys, monkeypatch, "evaluate", tmp_path / "run")
    assert code == 0, err
    assert len(re.findall("│ (?:boolq|copa|wic|hellaswag|sentineg) +│ (?:en|ko) +│ +5 │", out)) == 10
    (tmp_path / "items.jsonl").write_text(json.dumps(COPA | {"alternative_1": "가 나 다"}) + "\n")
    code, out, err = call(capsys, monkeypatch, "evaluate", tmp_path / "run", tmp_path / "items.jsonl", "--normalise", "none")
    assert code == 0 and re.search(r"copa +│ ko +│ +1 │ +0.0%", out)           # a new model finds the longer one less likely
    (tmp_path / "text.txt").write_text("The bread is ready.", encoding="utf-8")
    code, out, err = call(capsys, monkeypatch, "evaluate", tmp_path / "run", "--text", tmp_path / "text.txt")
    assert out.startswith(f"{load_network(tmp_path / 'run').bits_per_byte('The bread is ready.'):.4f} bits a byte")
    for arguments, words in (((tmp_path / "items.jsonl", "--text", tmp_path / "text.txt"), "not both"),
                             ((tmp_path / "text.txt",), "text.txt, line 1: this is not JSON")):
        code, _, err = call(capsys, monkeypatch, "evaluate", tmp_path / "run", *arguments)
        assert code and words in err and "Traceback" not in err


def test_a_folder_of_the_shared_layout(tmp_path, capsys, monkeypatch):
    """Bytes spell everything: the shipped questions can be asked."""
    from tinygrad_lm.models import GPT, GPTConfig, save_pretrained
    from tinygrad_lm.text import tokenizer_json
    tokenizer = tokenizer_json.train_bpe(["".join(q.prompt for q in QUESTIONS)], 300)
    save_pretrained(GPT(GPTConfig(len(tokenizer), 64, 1, 2, 8)), tmp_path)
    tokenizer_json.save(tmp_path / "tokenizer.json", tokenizer)
    code, _, err = call(capsys, monkeypatch, "evaluate", tmp_path)
    assert code == 1 and "says nothing about 'eos_token_id'" in err
    settings = json.loads((tmp_path / "config.json").read_text()) | {"eos_token_id": [tokenizer.id_of("<|endoftext|>")]}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    code, out, err = call(capsys, monkeypatch, "evaluate", tmp_path)
    assert code == 0 and out.count("│    5 │") + out.count("│     5 │") == 10, err


def test_the_chapter_lists_every_form_and_field():
    chapter = (Path(__file__).parents[1] / "docs/evaluation.md").read_text(encoding="utf-8")
    for name, form in e.FORMS.items():
        row = next(line for line in chapter.splitlines() if line.startswith(f"| `{name}`"))
        assert set(re.findall("`(\\w+)`", row.split("|")[2])) >= {*form.fields} - {"ending_2", "ending_3"}
    assert f"{e.wilson(5, 5)[0]:.0%} of all cases" in chapter
