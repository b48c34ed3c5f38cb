"""ROUGE-L: by hand, by every subsequence, beside the rouge-score package, and in Korean."""
from itertools import combinations

import pytest
from hypothesis import given, strategies as st

from tinygrad_lm.text.rouge import common, rouge_l, words_of

few = st.lists(st.sampled_from("abc"), max_size=6)
ascii_text = st.text(st.one_of(st.sampled_from("ab AB_.,'1\n-"), st.characters(max_codepoint=127)), max_size=25)


def by_trying(a, b):
    """The longest subsequence of a that is one of b, too."""
    of_b = {s for n in range(len(b) + 1) for s in combinations(b, n)}
    return max(n for n in range(len(a) + 1) for s in combinations(a, n) if s in of_b)


@given(few, few)
def test_the_longest_common_subsequence(a, b):
    assert common(a, b) == by_trying(a, b) == common(b, a)


def test_by_hand():
    assert words_of("Don't STOP, user_1!") == ["don", "t", "stop", "user", "1"]
    assert rouge_l("the cat sat on the mat", "the dog sat on a mat") == pytest.approx(4 / 6)
    assert rouge_l("a b c d", "a c") == pytest.approx(2 * 1 * 0.5 / 1.5)
    assert rouge_l("", "a") == rouge_l("!", "!") == 0 and rouge_l("A, b", "a b.") == 1


def test_korean_is_compared():
    assert rouge_l("사과를 거꾸로 써 줘.", "사과를 거꾸로 써 줘") == 1
    assert rouge_l("사과를 거꾸로 써 줘.", "바다를 거꾸로 써 줘.") == 0.75
    assert rouge_l("이름이 뭐야?", "사과의 첫 글자는?") == 0


@pytest.mark.oracle
@given(ascii_text, ascii_text)
def test_beside_rouge_score(a, b):
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rougeL"], use_stemmer=False)
    assert rouge_l(a, b) == pytest.approx(scorer.score(a, b)["rougeL"].fmeasure, abs=1e-12)
