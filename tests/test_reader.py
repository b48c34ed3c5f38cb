"""Reading a text that grows, in parts: as if all of it were read anew, also after an interruption between two parts."""
import numpy as np
import pytest
from hypothesis import given, strategies as st

from tinygrad_lm.models import reader as module
from tinygrad_lm.models.reader import Reader
from tinygrad_lm.modes import no_grad
from tinygrad_lm.nn import evaluating

from .test_gguf import TOKENIZER, a_llama

MODEL = a_llama().to(np.float64)


def anew(ids):
    with no_grad(), evaluating(MODEL):
        return MODEL(np.array([ids])).data[:, -1]


@pytest.fixture
def in_small_parts(monkeypatch):
    monkeypatch.setattr(module, "PART", 4)


@given(st.lists(st.tuples(st.integers(0, 30), st.lists(st.integers(0, TOKENIZER.vocab_size - 1), min_size=1, max_size=11),
                          st.integers(0, 4)), min_size=1, max_size=4))
def test_any_texts_one_after_another(in_small_parts, changes):
    """Each keeps some tokens of the one before; where `stop` parts were read, the reader is interrupted, and asked again."""
    reader, ids = Reader(MODEL, 64), []
    for keep, new, stop in changes:
        ids = [*ids[:keep], *new]
        calls = []

        def between():
            calls.append(1)
            if len(calls) > stop:
                raise KeyboardInterrupt
        try:
            reader.scores_after(ids, between)
        except KeyboardInterrupt:
            assert reader.known(ids) == len(reader.seen) == reader.cache.length
        np.testing.assert_allclose(reader.scores_after(ids), anew(ids), rtol=1e-9, atol=1e-9)


def test_parts_are_few_and_nothing_is_read_twice(in_small_parts, monkeypatch):
    reader, sizes = Reader(MODEL, 64), []
    read = reader.read
    monkeypatch.setattr(reader, "read", lambda new, cache: sizes.append(len(new)) or read(new, cache))
    reader.scores_after(list(range(10)))
    reader.scores_after(list(range(13)))
    reader.scores_after(list(range(13)))
    reader.forget()
    reader.scores_after([5, 6])
    assert sizes == [4, 4, 2, 3, 1, 2]
