"""Self-Instruct: the filter keeps what is new, in Korean too, counts what it drops, and how much of the rest is wrong."""
import numpy as np
import pytest
from hypothesis import given, strategies as st

from tinygrad_lm.models import GPT, GPTConfig
from tinygrad_lm.text.batches import pad_left
from tinygrad_lm.text.char import CharTokenizer
from tinygrad_lm.text.chat import ROLE_TOKENS
from tinygrad_lm.text.instructions import instructions
from tinygrad_lm.text.rouge import rouge_l
from tinygrad_lm.train import instruct, self_instruct as si
from tinygrad_lm.train.sft import SFTConfig

LEARNED, HELD_OUT = instructions()
SEEDS = [(i.text, i.answer) for i in LEARNED[:3]]


# ---- the filter --------------------------------------------------------------------------------------------------------

def answer_all(texts):
    return ["tac"] * len(texts)


def test_the_filter_by_hand():
    texts = ["cat backwards, please.", None, " ", "CAT backwards please", "dog backwards, please.", "사과를 거꾸로 써 줘.",
             "사과를 거꾸로 써 줘!", "바다를 거꾸로 써 줘.", "이름이 뭐야?"]
    answers = iter([["tac", "tac", "", None]])
    kept, counts = si.keep(texts, ["Count to ten."], lambda new: next(answers))
    assert counts == {"proposed": 9, "unfinished": 1, "empty": 1, "similar": 3, "unanswered": 2, "kept": 2}
    assert [(k.text, k.answer) for k in kept] == [("cat backwards, please.", "tac"), ("dog backwards, please.", "tac")]
    assert [k.similarity for k in kept] == [0, pytest.approx(2 / 3)]
    assert si.judged(kept) == {"known": 2, "wrong": 1}
    assert si.judged([si.Kept("Tell me a story.", "No.")]) == {"known": 0, "wrong": 0}


def test_a_korean_instruction_that_is_there_already_is_refused():
    for i in (i for i in LEARNED if i.language == "ko"):
        assert si.keep([i.text], [i.text], answer_all)[1]["similar"] == 1


@given(st.lists(st.sampled_from([i.text for i in LEARNED[::7]] + [None, ""]), max_size=12))
def test_what_is_kept_is_new_and_the_counts_are_whole(texts):
    known = [text for text, _ in SEEDS]
    kept, counts = si.keep(texts, known, answer_all)
    assert counts["proposed"] == len(texts) == sum(n for why, n in counts.items() if why != "proposed")
    for n, k in enumerate(kept):
        others = known + [o.text for o in kept[:n]]
        assert k.similarity == max(rouge_l(k.text, other) for other in others) < si.SIMILAR
    for text in filter(None, texts):                                      # what was dropped is like something that is there
        assert max(rouge_l(text, other) for other in known + [k.text for k in kept]) >= si.SIMILAR


# ---- rounds ------------------------------------------------------------------------------------------------------------

def test_rounds_add_to_the_pool_that_the_next_begins_from():
    asked = []

    def propose(pool, n):
        asked.append([k.text for k in pool])
        return [f"w{len(asked)}{i} x{len(asked)}{i}" for i in range(n - 1)] + [SEEDS[0][0]]
    kept, history = si.self_instruct(SEEDS, propose, answer_all, rounds=3, proposals=4)
    assert [len(a) for a in asked] == [3, 6, 9] and asked[0] == [text for text, _ in SEEDS]
    assert [k.text for k in kept] == [f"w{r}{i} x{r}{i}" for r in (1, 2, 3) for i in range(3)]
    assert [(h["proposed"], h["similar"], h["kept"], h["known"]) for h in history] == [(4, 1, 3, 0)] * 3


# ---- a model that asks and answers -------------------------------------------------------------------------------------

def test_pad_left():
    tokens, mask = pad_left([[1, 2], [3, 4, 5], [6]], 9)
    assert tokens.tolist() == [[9, 1, 2], [3, 4, 5], [9, 9, 6]]
    assert mask.tolist() == [[False, True, True], [True, True, True], [False, False, True]]


PAIRS = [("ab", "ba"), ("cd", "dc"), ("abc", "cba")]


@pytest.fixture(scope="module")
def tuned():
    """Two models that learned three pairs by heart: one to answer, one to ask, too."""
    tokenizer = CharTokenizer("abcd", ROLE_TOKENS.marks)
    models = []
    for also_asking in (False, True):
        model = GPT(GPTConfig(len(tokenizer), 16, n_layer=1, n_head=2, n_embd=32), rng=np.random.default_rng(0))
        si.learn(model, tokenizer, ROLE_TOKENS, PAIRS, SFTConfig(steps=150, batch_size=4, lr=0.01, warmup=5, weight_decay=0),
                 rng=np.random.default_rng(0), also_asking=also_asking)
        models.append(model)
    return tokenizer, *models


def test_it_answers_what_it_learned_whatever_is_asked_beside_it(tuned):
    tokenizer, model, _ = tuned
    answer = si.answerer(model, tokenizer, ROLE_TOKENS, rng=np.random.default_rng(0))
    for texts in (["ab", "abc", "cd"], ["abc"], ["cd", "ab"]):
        assert answer(texts) == [dict(PAIRS)[text] for text in texts]
    assert instruct.ask(model, tokenizer, ROLE_TOKENS, ["abc"], rng=None, max_new_tokens=3) == [None]   # no room for its end


def test_only_who_learned_to_ask_asks(tuned):
    tokenizer, answers, asks = tuned
    propose = si.proposer(asks, tokenizer, ROLE_TOKENS, rng=np.random.default_rng(0))
    found = propose([], 60)
    assert len(found) == 60 and {text for text, _ in PAIRS} <= set(found) and sum(f in dict(PAIRS) for f in found) > 50
    other = si.proposer(answers, tokenizer, ROLE_TOKENS, rng=np.random.default_rng(0))([], 60)
    assert sum(f in dict(PAIRS) for f in other) < 20


def test_obedience_by_kind():
    right = [i.answer for i in HELD_OUT]
    found = instruct.obedience(HELD_OUT, right)
    assert set(found.values()) == {1.0} and ("name", "ko") in found
    wrong = [None if i.kind == "count" else i.answer for i in HELD_OUT]
    found = instruct.obedience(HELD_OUT, wrong)
    assert found["count", "en"] == found["count", "ko"] == 0 and found["first", "en"] == 1
    assert found["all"] == pytest.approx(np.mean([i.kind != "count" for i in HELD_OUT]))


def test_the_base_model_reads_no_held_out_word():
    texts = instruct.base_texts(HELD_OUT)
    words = {i.word for i in HELD_OUT if i.word and i.kind != "opposite"}
    lines = {t.split(":")[0] for t in texts if ": " in t[:12]}
    assert words and not lines & words and {"hot", "kevin", "할머니"} <= lines
    tokenizer = instruct.tokenizer_for(texts)
    for t in [*texts, *(i.text + i.answer for i in LEARNED + HELD_OUT)]:
        assert tokenizer.decode(tokenizer.encode(t)) == t
