"""Text while it is written: joined it is the whole, every piece is whole characters, and nothing passes a stop string."""
import numpy as np
import pytest
from hypothesis import given, strategies as st

from tinygrad_lm.generate import generate, stream_text
from tinygrad_lm.models import GPT, GPTConfig
from tinygrad_lm.text import tokenizer_json
from tinygrad_lm.text.jamo import FINALS, INITIALS, VOWELS
from tinygrad_lm.text.letters import LetterTokenizer
from tinygrad_lm.text.streaming import pieces, until_stop

BYTES = tokenizer_json.train_bpe("the cat and the hat, 노인은 아무 말도 하지 않았다. 🙂", 300)


def cut(text, stop):
    return text[:min([text.find(s) for s in stop if s in text], default=len(text))]


@given(st.text(alphabet="aé서🙂�\x00", max_size=12))
def test_no_character_is_broken(text):
    given_out = list(pieces(BYTES.encode(text).tolist(), BYTES))
    assert "".join(given_out) == text and "" not in given_out
    if "�" not in text:
        assert not any("�" in piece for piece in given_out)


@given(st.lists(st.integers(0, BYTES.vocab_size - 1), max_size=30))
def test_any_tokens_give_what_they_decode_to(tokens):
    assert "".join(pieces(tokens, BYTES)) == BYTES.decode(tokens)


LETTERS = LetterTokenizer(dict.fromkeys([*INITIALS, *VOWELS, *"".join(FINALS), *"a. "]))


@given(st.lists(st.sampled_from(range(2, LETTERS.vocab_size)), max_size=12))
def test_syllables_that_are_spelt_come_whole(tokens):
    """Also those of letters that no word has."""
    assert "".join(pieces(tokens, LETTERS)) == LETTERS.decode(tokens)


def test_a_syllable_comes_when_the_next_letter_is_known():
    assert list(pieces(LETTERS.encode("값이 없지 않아.").tolist(), LETTERS)) == ["값", "이 ", "없", "지 ", "않", "아."]


@given(st.lists(st.text("ab", max_size=4), max_size=8), st.lists(st.text("ab", min_size=1, max_size=5), max_size=3))
def test_stop_strings(parts, stop):
    """Also one that comes in pieces."""
    assert "".join(until_stop(parts, stop)) == cut("".join(parts), stop)


@given(st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=8))
def test_what_cannot_be_a_stop_string_does_not_wait(parts):
    read, given_out = "", ""

    def source():
        nonlocal read
        for part in parts:
            read += part
            yield part

    for piece in until_stop(source(), ["cab"]):
        given_out += piece
        if "cab" not in read:
            assert given_out == read[:len(read) - (2 if read.endswith("ca") else 1 if read.endswith("c") else 0)] \
                or given_out == "".join(parts)


def test_an_empty_stop_string():
    with pytest.raises(ValueError, match="stop string is empty"):
        list(until_stop(["a"], [""]))


@pytest.mark.parametrize("seed", range(4))
def test_streamed_text_is_the_generated_text(seed):
    model = GPT(GPTConfig(BYTES.vocab_size, 64, n_layer=1, n_head=2, n_embd=16))
    prompt = BYTES.encode("the")
    whole = generate(model, prompt[None], 40, rng=np.random.default_rng(seed)).tokens[0, len(prompt):]
    text = BYTES.decode(whole)

    def streamed(**options):
        return "".join(stream_text(model, BYTES, "the", 40, rng=np.random.default_rng(seed), **options))
    assert streamed() == text
    stop = text[10:12]
    assert streamed(stop=[stop]) == cut(text, [stop])
    at = list(whole).index(whole[20])
    assert streamed(end=whole[20]) == BYTES.decode(whole[:at])


def test_an_empty_prompt():
    with pytest.raises(ValueError, match="at least one token"):
        list(stream_text(GPT(GPTConfig(BYTES.vocab_size, 8)), BYTES, "", 3, rng=np.random.default_rng(0)))
