"""Letters of Hangul, slips of the finger, texts to learn from, and the corrector that is scored on them."""
import re
from functools import cache

import numpy as np
import pytest
from hypothesis import given, strategies as st

from tinygrad_lm.models import NGram
from tinygrad_lm.models.language_model import rank
from tinygrad_lm.text import stories
from tinygrad_lm.text.letters import LetterTokenizer
from tinygrad_lm.text.jamo import FINALS, INITIALS, VOWELS, compose, decompose, romanised, to_letters, to_syllables
from tinygrad_lm.text.noise import KEYS, WORD, misspell, misspell_text, neighbours, slips
from tinygrad_lm.text.spelling import Corrector, deletions, edit_distance, learn_corrector, score
from tinygrad_lm.text.words import WordTokenizer, words_of

SYLLABLES = [chr(c) for c in range(ord("가"), ord("힣") + 1)]
hangul = st.text(st.sampled_from(SYLLABLES) | st.sampled_from(" .a1"), max_size=6)
few_letters = st.text("abc", max_size=5)


# ---- jamo -----------------------------------------------------------------------------------------------------------

def test_every_syllable_comes_back():
    assert len(SYLLABLES) == len(INITIALS) * len(VOWELS) * len(FINALS) == 11_172
    for s in SYLLABLES:
        assert compose(*decompose(s)) == s == to_syllables(to_letters(s))
    assert len({to_letters(s) for s in SYLLABLES}) == 11_172


@given(hangul)
def test_text_comes_back(text):
    letters = to_letters(text)
    assert to_syllables(letters) == text and set(letters) <= set(KEYS + " .a1")


@pytest.mark.parametrize("text, letters", [
    ("값이", "ㄱㅏㅂㅅㅇㅣ"), ("갑시", "ㄱㅏㅂㅅㅣ"), ("과", "ㄱㅗㅏ"), ("앉았다", "ㅇㅏㄴㅈㅇㅏㅆㄷㅏ"), ("까꿍", "ㄲㅏㄲㅜㅇ"),
    ("ㅎ안", "ㅎㅇㅏㄴ"), ("ㅏ가", "ㅏㄱㅏ"), ("의자 a", "ㅇㅡㅣㅈㅏ a")])
def test_letters_are_keys(text, letters):
    assert to_letters(text) == letters and to_syllables(letters) == text


def test_letters_agree_with_unicode():
    """Unicode's own decomposition has the same letters, by other numbers."""
    import unicodedata
    for s in SYLLABLES[::37]:
        names = [unicodedata.name(c).split()[-1] for c in unicodedata.normalize("NFD", s)]
        ours = [unicodedata.name(c).split()[-1] for c in decompose(s) if c]
        assert names == ours


def test_how_hangul_sounds():
    """The three parts of a syllable, one after another; letters that stand alone; anything else as it is."""
    assert romanised("한글, 서울 2026: 않았다") == "hangeul, seoul 2026: anatda" and romanised("ㅎㅏㄴㅇㅘㅄ") == "hanngwap"
    every = [romanised(compose(i, v, f)) for i in INITIALS for v in VOWELS for f in FINALS]
    assert all(s.isascii() and s.isalpha() for s in every) and romanised("가") == "ga" and romanised("힣") == "hit"


def test_jamo_refuses():
    with pytest.raises(ValueError, match="'a' is not one Hangul syllable"):
        decompose("a")
    with pytest.raises(ValueError, match="no syllable consists of 'ㄱ', 'ㄴ' and ''"):
        compose("ㄱ", "ㄴ")


@given(hangul)
def test_the_letter_tokenizer(text):
    tok = LetterTokenizer.from_text(text + "값 a")
    assert tok.decode(tok.encode(text)) == text and len(tok) <= 2 + len(KEYS)
    again = LetterTokenizer.from_dict(tok.to_dict())
    np.testing.assert_array_equal(again.encode(text), tok.encode(text))


def test_words():
    text = "The dog's bone, the dog's day."
    assert words_of(text) == ["The", "dog's", "bone", ",", "the", "dog's", "day", "."]
    tok = WordTokenizer.from_text(text, least=2)
    assert tok.words == ["<pad>", "<end>", "<unk>", "dog's"]
    assert tok.decode(tok.encode("The dog's day")) == "<unk> dog's <unk>"
    assert WordTokenizer.from_dict(tok.to_dict()).words == tok.words
    assert "<unk>" not in WordTokenizer.from_text("a <unk> b").words[3:]
    with pytest.raises(ValueError, match="no words"):
        WordTokenizer.from_text(" ")


# ---- slips ----------------------------------------------------------------------------------------------------------

def test_neighbours_on_the_keyboard():
    assert set(neighbours("s")) == set("adwezx") and set(neighbours("S")) == set("ADWEZX")
    assert set(neighbours("q")) == set("wa")
    assert set(neighbours("ㅏ")) == set("ㅓㅣㅑㅐㅡ") and neighbours("ㄲ")[0] == "ㄱ"
    for key in KEYS:
        assert neighbours(key) and key not in neighbours(key)
    with pytest.raises(ValueError, match="'é' is no letter of a keyboard"):
        neighbours("é")


@pytest.mark.parametrize("word", ["abc", "He", "aab", "don't", to_letters("값이"), to_letters("꽃")])
def test_slips_are_a_distribution_of_single_slips(word):
    wrong = slips(word)
    assert sum(wrong.values()) == pytest.approx(1) and word not in wrong
    assert all(edit_distance(word, w) == 1 for w in wrong)


def test_the_four_kinds_of_slip_are_equally_likely():
    """Of "ab": eight at first, but the swap of the last letter with nothing is none."""
    p = slips("ab")
    assert p["b"] == p["a"] == p["ba"] == pytest.approx(1 / 7)
    assert p["qb"] == pytest.approx(1 / 4 / 7) and p["ag"] == pytest.approx(1 / 4 / 7)          # next to a: qwsz, to b: vghn
    assert p["aab"] == p["abb"] == pytest.approx(0.5 / 7) and p["awb"] == pytest.approx(0.5 / 4 / 7)
    assert len(p) == 3 + 2 * 4 + 2 * 5


def test_misspelling_draws_from_the_slips():
    rng = np.random.default_rng(0)
    drawn = [misspell("on", rng) for _ in range(4000)]
    for wrong, p in slips("on").items():
        assert drawn.count(wrong) / len(drawn) == pytest.approx(p, abs=4.5 * (p / len(drawn)) ** 0.5 + 1e-3)
    assert misspell("a", rng) == "a" and misspell("漢字", rng) == "漢字"


@given(st.integers(0, 2**32 - 1), st.sampled_from(stories.LANGUAGES))
def test_misspelt_text_keeps_its_words_apart(seed, language):
    text = stories.paragraphs(stories.stories(language))[seed % 50]
    noisy = misspell_text(text, np.random.default_rng(seed), rate=0.5)
    assert len(noisy.split()) == len(text.split()) and noisy == misspell_text(text, np.random.default_rng(seed), rate=0.5)
    assert misspell_text(text, np.random.default_rng(seed), rate=0) == text
    for right, wrong in zip(text.split(), noisy.split()):
        assert right == wrong or edit_distance(to_letters(right), to_letters(wrong)) <= right.count("'") + 1


def test_the_rate_is_the_share_of_words():
    text = " ".join(["mountain"] * 2000)
    noisy = misspell_text(text, np.random.default_rng(0), rate=0.2).split()
    assert sum(w != "mountain" for w in noisy) / 2000 == pytest.approx(0.2, abs=0.03)


# ---- the corrector --------------------------------------------------------------------------------------------------

@cache
def distance_by_recursion(a, b):
    if not a or not b:
        return len(a) + len(b)
    best = min(distance_by_recursion(a[1:], b) + 1, distance_by_recursion(a, b[1:]) + 1,
               distance_by_recursion(a[1:], b[1:]) + (a[0] != b[0]))
    return min(best, distance_by_recursion(a[2:], b[2:]) + 1) if a[:2] == b[1::-1] and len(a) > 1 and len(b) > 1 else best


@given(few_letters, few_letters)
def test_edit_distance(a, b):
    assert edit_distance(a, b) == distance_by_recursion(a, b) == edit_distance(b, a)


@given(few_letters, few_letters, st.integers(1, 2))
def test_near_words_share_a_deletion(a, b, most):
    """So the index misses none of them."""
    if edit_distance(a, b) <= most:
        assert deletions(a, most) & deletions(b, most)


@given(st.sampled_from(stories.LANGUAGES), st.integers(0, 9999))
def test_a_word_with_one_slip_finds_the_word_meant(language, seed):
    corrector, words = trained(language)
    meant = words[seed % len(words)].lower()
    typed = to_letters(misspell(meant, np.random.default_rng(seed)))
    if set(typed) <= corrector.known:
        assert corrector.candidates(typed).get(to_letters(meant)) in (0, 1) and typed in corrector.candidates(typed)


@cache
def trained(language):
    learned, _ = stories.split(stories.paragraphs(stories.stories(language)))
    return learn_corrector(learned), [w for t in learned for w in WORD.findall(t)]


@pytest.mark.parametrize("language, mended", [("en", 0.5), ("ko", 0.45)])
def test_it_mends_most_slips_and_spoils_next_to_nothing(language, mended):
    """On held-out text; a word that the stories have nowhere else cannot be mended. What it learned from it leaves
    alone."""
    learned, held_out = stories.split(stories.paragraphs(stories.stories(language)))
    corrector, rng = trained(language)[0], np.random.default_rng(3)
    noisy = [misspell_text(t, rng, rate=0.1) for t in held_out]
    result, clean = score(corrector, held_out, noisy), score(corrector, held_out, held_out)
    assert result.wrong_after <= (1 - mended) * result.wrong_before and result.spoiled <= 0.01 * result.words
    assert clean.wrong_before == 0 and clean.wrong_after == clean.spoiled <= 0.005 * clean.words
    assert score(corrector, learned[:20], learned[:20]).wrong_after == 0


def test_the_context_decides():
    corrector = learn_corrector(["the form of a boat", "a letter from the sea"] * 5)
    assert corrector.correct("the fom of a boat") == "the form of a boat"
    assert corrector.correct("a letter fom the sea") == "a letter from the sea"


def test_what_stays_as_it_is():
    corrector = learn_corrector(["The cat sat. 고양이가 앉았다."] * 3)
    assert corrector.correct("Teh catt, sat! 42 é  고양아가\n漢字") == "The cat, sat! 42 é  고양이가\n漢字"
    assert corrector.correct("") == ""
    with pytest.raises(ValueError, match="between 0 and 1, not 1.5"):
        Corrector(corrector.model, [], rate=1.5)


# ---- translations ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("language", stories.LANGUAGES)
def test_the_right_translation_comes_first(language):
    items, texts = stories.translations(language), stories.paragraphs(stories.stories(language))
    tok = LetterTokenizer.from_text("".join(texts) + "".join(c for _, candidates in items for c in candidates))
    model = NGram(texts, tok, order=7)
    assert len(items) >= 10 and all(len(set(c)) == 4 for _, c in items)
    assert sum(rank(model, c)[0][1] == c[0] for _, c in items) >= 0.9 * len(items)


# ---- texts ----------------------------------------------------------------------------------------------------------

def test_the_stories():
    for language, letters in (("en", "[a-z]"), ("ko", "[가-힣]")):
        texts = stories.paragraphs(stories.stories(language))
        assert len(texts) > 100 and all(re.search(letters, t) for t in texts) and len(set(texts)) == len(texts)
    with pytest.raises(ValueError, match="en and ko, not in 'fr'"):
        stories.stories("fr")
    with pytest.raises(ValueError, match="not in 'fr'"):
        stories.translations("fr")


def test_paragraphs_and_split():
    assert stories.paragraphs("a\nb\n\n \nc\n") == ["a\nb", "c"] and stories.paragraphs("a\r\nb\r\n") == ["a", "b"]
    learned, held_out = stories.split([str(i) for i in range(25)])
    assert held_out == ["9", "19"] and sorted(learned + held_out, key=int) == [str(i) for i in range(25)]
    with pytest.raises(ValueError, match="has 3 paragraphs"):
        stories.split(["a"] * 3)
