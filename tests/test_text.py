"""Text becomes tokens and comes back; batches, masks and the naming task are what loops over single tokens say."""
from math import log

import numpy as np
import pytest
from hypothesis import given, strategies as st

from tinygrad_lm.text import names, person
from tinygrad_lm.text.batches import IGNORE, Rows, Windows, answer_mask, last_token, next_tokens, pad_right
from tinygrad_lm.text.char import SPECIAL, CharTokenizer
from tinygrad_lm.text.stories import stories

PAD, END = 0, 1
alphabets = st.text(min_size=1, max_size=12)


# ---- the tokenizer --------------------------------------------------------------------------------------------------

@given(alphabets, st.data())
def test_text_comes_back(alphabet, data):
    tok = CharTokenizer(alphabet)
    text = data.draw(st.text(st.sampled_from(sorted(set(alphabet)))))
    ids = tok.encode(text)
    assert ids.dtype == np.int64 and ids.shape == (len(text),) and tok.decode(ids) == text
    assert ((ids >= len(SPECIAL)) & (ids < len(tok))).all()                # no text produces a special token
    assert tok.decode([tok.end, *ids, tok.pad]) == text                    # which no text shows
    np.testing.assert_array_equal(CharTokenizer.from_dict(tok.to_dict()).encode(text), ids)


@given(alphabets)
def test_an_alphabet_from_text(text):
    tok = CharTokenizer.from_text(text)
    assert len(tok) == len(SPECIAL) + len(set(text)) and tok.decode(tok.encode(text)) == text
    assert tok.to_dict() == CharTokenizer.from_text(text[::-1]).to_dict()  # the order of the text has no say


def test_a_special_token_written_out_is_plain_text():
    tok = CharTokenizer.from_text("<pad><end>")
    assert not set(tok.encode("<pad><end>")) & {tok.pad, tok.end}


def test_an_unknown_character():
    with pytest.raises(ValueError, match="the character 'x' at position 2 is not among the tokenizer's 3: 'abc'"):
        CharTokenizer("abc").encode("abxy")
    with pytest.raises(ValueError, match="the character 'x' at position 0 is not among the tokenizer's 579: '.{100,110}…'$"):
        CharTokenizer.from_text(stories("ko")).encode("x")
    with pytest.raises(ValueError, match="empty"):
        CharTokenizer.from_text("")


# ---- batches --------------------------------------------------------------------------------------------------------

@given(st.lists(st.lists(st.integers(2, 9), max_size=5), min_size=1, max_size=4))
def test_pad_right(sequences):
    out = pad_right(sequences, PAD)
    assert out.dtype == np.int64 and out.shape == (len(sequences), max(map(len, sequences)))
    assert [row[:len(s)].tolist() for row, s in zip(out, sequences)] == sequences
    assert all((row[len(s):] == PAD).all() for row, s in zip(out, sequences))


def answer_by_loop(row, prompt_length, end):
    mask, inside = [], True
    for t, token in enumerate(row):
        mask.append(t >= prompt_length and inside)
        inside = inside and not (t >= prompt_length and token == end)
    return mask


@given(st.integers(0, 3), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_answer_mask(P, length, seed):
    """No end token, one, several, in the prompt: with three kinds of token all occur."""
    tokens = np.random.default_rng(seed).integers(0, 3, (8, P + length))
    mask = answer_mask(tokens, P, END)
    assert mask.tolist() == [answer_by_loop(row, P, END) for row in tokens]
    for row, n in zip(mask, last_token(mask)):
        assert n == max(t for t, m in enumerate(row) if m)
    assert answer_mask(tokens, P, None).tolist() == [[t >= P for t in range(P + length)]] * 8


@given(st.integers(0, 2**32 - 1))
def test_next_tokens(seed):
    rng = np.random.default_rng(seed)
    tokens, mask = rng.integers(0, 9, (3, 5)), rng.random((3, 5)) < 0.5
    idx, targets = next_tokens(tokens, mask)
    for b in range(3):
        for t in range(4):
            assert idx[b, t] == tokens[b, t] and targets[b, t] == (tokens[b, t + 1] if mask[b, t + 1] else IGNORE)


def test_rows():
    data = Rows(np.arange(7)[:, None] + [0, 10], np.arange(7)[:, None] + [100, 110])
    idx, targets = data.sample(np.random.default_rng(0), 50)
    assert idx.shape == (50, 2) and (targets == idx + 100).all() and set(idx[:, 0]) == set(range(7))
    np.testing.assert_array_equal(idx, data.sample(np.random.default_rng(0), 50)[0])
    chunks = list(data.chunks(3))
    assert [len(i) for i, _ in chunks] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate([t for _, t in chunks]), data.targets)


@given(st.integers(1, 5), st.integers(1, 20))
def test_windows(T, surplus):
    """Every stretch can be drawn, targets are one later; in order, each target but those of a last piece comes once."""
    ids = np.arange(100, 100 + T + surplus)
    data = Windows(ids, T)
    idx, targets = data.sample(np.random.default_rng(0), 400)
    assert idx.shape == targets.shape == (400, T) and (targets == idx + 1).all() and (np.diff(idx, axis=1) == 1).all()
    assert set(idx[:, 0]) == set(ids[:len(ids) - T])
    seen = np.concatenate([t.reshape(-1) for _, t in data.chunks(2)])
    np.testing.assert_array_equal(seen, ids[1:1 + len(seen)])
    assert len(ids) - 1 - len(seen) < T


def test_a_text_shorter_than_an_example():
    with pytest.raises(ValueError, match="the text has 4 tokens and an example takes 5"):
        Windows(np.arange(4), 4)


# ---- names ----------------------------------------------------------------------------------------------------------

def test_the_names():
    all_names = names.load_names()
    assert len(all_names) == len(set(all_names)) == 32_000
    assert all(n.isascii() and n.isalpha() and n.islower() for n in all_names)


def test_the_split_is_disjoint_seeded_and_whole():
    all_names = names.load_names()
    train, held_out = names.split_names(all_names)
    assert not set(train) & set(held_out) and sorted(train + held_out) == sorted(all_names)
    assert len(held_out) == len(all_names) // 10
    assert names.split_names(all_names) == (train, held_out) != names.split_names(all_names, seed=1)
    assert train[:50] != sorted(train[:50]) and train[:50] != all_names[:50]


def test_prompts():
    assert names.prompt_for("kevin") == "^k5>"
    prompts = names.prompts_from(["kevin", "al", "maximilian", "jo", "ann"])          # too short or long: not asked for
    assert [names.tokenizer.decode(p) for p in prompts] == ["^k5>", "^a3>"] and prompts.shape == (2, names.PROMPT_LENGTH)
    rows = names.instruction_rows(names.load_names())
    assert rows.idx.shape[1] + 1 <= names.PROMPT_LENGTH + names.MAX_ANSWER


def test_rows_of_names():
    """Pretraining predicts each letter and the end; fine-tuning only the answer's."""
    def shown(rows):
        return ["".join("." if t == IGNORE else "$" if t == END else names.tokenizer.decode([t]) for t in row)
                for row in rows.targets]
    assert shown(names.plain_rows(["kevin", "al"])) == ["kevin$", "al$..."]
    assert shown(names.instruction_rows(["kevin", "al", "ann"])) == ["...kevin$", "...ann$.."]


def test_answers_are_read_back():
    tok = names.tokenizer
    tokens = pad_right([[*tok.encode("^k5>kevin"), END], [*tok.encode("^a3>ann"), END, *tok.encode("xx")],
                        [*tok.encode("^m4>mariaaa")], [*tok.encode("^b3>"), END]], PAD)
    assert names.read_answers(tokens) == (["^k5>", "^a3>", "^m4>", "^b3>"], ["kevin", "ann", None, ""])


@pytest.mark.parametrize("answer, obeyed", [("kevin", True), ("karen", True), ("kyle", False), ("devin", False), ("", False),
                                            (None, False), ("k>vin", False), ("kevin5", False)])
def test_obeys(answer, obeyed):
    assert names.obeys("^k5>", answer) == obeyed


# ---- the person who ranks -------------------------------------------------------------------------------------------

def test_the_trigram_is_a_distribution_after_every_context():
    logp = person._trigrams()
    letters = "abcdefghijklmnopqrstuvwxyz$"
    for context in ("^^", "^q", "an", "zx", "ka", "qq"):
        assert sum(np.exp(logp(context + c)) for c in letters) == pytest.approx(1)
    assert logp("^^a") > logp("^^x") and logp("ann") > logp("anq")


def test_fluency_is_the_mean_over_letters_and_the_end():
    counts, contexts = {}, {}
    for name in names.load_names():
        text = "^^" + name + "$"
        for a, b, c in zip(text, text[1:], text[2:]):
            counts[a + b + c], contexts[a + b] = counts.get(a + b + c, 0) + 1, contexts.get(a + b, 0) + 1
    wanted = np.mean([log((counts[t] + 0.1) / (contexts[t[:2]] + 2.7)) for t in ("^^a", "^an", "ann", "nn$")])
    assert person.fluency("ann") == pytest.approx(wanted)


@pytest.mark.parametrize("prompt, answer, rest", [
    ("^a3>", "ann", 1.5 + 3.0),                                 # letter, length, all soft
    ("^b3>", "ann", 3.0),                                       # another letter
    ("^k5>", "kevin", 1.5 + 3 * 3 / 5),                         # e, i and n are soft
    ("^k3>", "kevin", 1.5 - 0.5 * 2 + 3 * 3 / 5),               # two letters off
    ("^k8>", "kit", 1.5 - 0.5 * 3 + 3 * 1 / 3),                 # five off counts as three
    ("^k3>", "", -0.5 * 3)])
def test_the_score(prompt, answer, rest):
    assert person.score(prompt, answer) == pytest.approx(rest + min(1, max(-3, (person.fluency(answer) + 2.1) / 0.35)))


def test_the_score_of_noise_and_of_no_end():
    assert person.score("^q5>", "qxzjq") == pytest.approx(1.5 - 3)         # nothing soft, as little fluent as counts
    assert person.score("^k5>", None) == -3
    assert person.scores(["^k5>", "^q5>"], [None, "qxzjq"]).tolist() == [-3, -1.5]


def test_the_person_prefers_by_the_difference_whatever_else_is_ranked():
    scores = np.array([0.3, -0.5, 1.2, 0.3])
    order, _ = person.rank(np.tile(scores, (40_000, 1)), np.random.default_rng(0))
    place = np.argsort(order, axis=-1)                                     # place[:, i]: where answer i stands
    for i in range(4):
        for j in range(4):
            if i != j:
                wanted = 1 / (1 + np.exp(scores[j] - scores[i]))
                assert (place[:, i] < place[:, j]).mean() == pytest.approx(wanted, abs=0.012)
