"""Conversations to learn from: only the answers are learned, in every turn; several share a row and see not one another."""
import json
import re

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tinygrad_lm import Tensor, functional as F, optim
from tinygrad_lm.text import tokenizer_json
from tinygrad_lm.text.batches import IGNORE, pack
from tinygrad_lm.text.char import CharTokenizer
from tinygrad_lm.text.chat import CHATML, ROLE_TOKENS, template_of
from tinygrad_lm.text.conversations import Message, read_conversations, render, render_all
from tinygrad_lm.text.letters import LetterTokenizer
from tinygrad_lm.train import captured_step, train_step
from tinygrad_lm.train.pretrain import evaluate

from .test_gpt import check_parameters, grads, logits, on_every_device, tiny
from .test_gguf import TOKENIZER as BYTES                        # a byte-level BPE with ChatML's marks

CHARS = CharTokenizer("abc", ROLE_TOKENS.marks)
ROOM = 8                                                         # of a row: test_gpt's block
BOTH = pytest.mark.parametrize("tokenizer, template", [(CHARS, ROLE_TOKENS), (BYTES, CHATML)], ids=["role tokens", "ChatML"])

words = st.text(st.sampled_from("abc"), min_size=1, max_size=5)
turns = st.tuples(words, words).map(lambda t: [Message("user", t[0]), Message("assistant", t[1])])
first, last = (st.lists(words.map(lambda w, role=role: Message(role, w)), max_size=1) for role in ("system", "user"))
conversations = st.tuples(first, st.lists(turns, min_size=1, max_size=3), last).map(
    lambda parts: [*parts[0], *(m for turn in parts[1] for m in turn), *parts[2]])


# ---- tokenizers with role tokens ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("before", [CharTokenizer("ab<|user>"), LetterTokenizer("ㄱㅏ<|user>"),
                                    tokenizer_json.train_bpe("a cat <|user|>", 270)], ids=["characters", "letters", "bytes"])
def test_role_tokens_come_behind_all_others_and_no_text_spells_them(before):
    after = tokenizer_json.with_added(before, ROLE_TOKENS.marks)
    text = "<|user|>"
    assert after.vocab_size == len(after) == before.vocab_size + 4
    assert [after.id_of(m) for m in ROLE_TOKENS.marks] == list(range(before.vocab_size, after.vocab_size))
    assert after.encode(text).tolist() == before.encode(text).tolist()
    ids = [after.id_of("<|user|>"), *after.encode(text), after.id_of("<|end|>")]
    assert after.decode(ids) == text and [after.token(i) for i in (ids[0], ids[-1])] == ["<|user|>", "<|end|>"]
    assert template_of(after) == ROLE_TOKENS
    again = tokenizer_json.from_dict(json.loads(json.dumps(after.to_dict())))
    assert type(again) is type(after) and again.to_dict() == after.to_dict() and again.encode(text).tolist() == ids[1:-1]
    assert tokenizer_json.with_added(again, ROLE_TOKENS.marks).vocab_size == after.vocab_size
    assert tokenizer_json.from_dict(before.to_dict()).to_dict() == before.to_dict()
    with pytest.raises(ValueError, match="'<|tool|>' is not among the tokenizer's added tokens: "):
        after.id_of("<|tool|>")
    with pytest.raises(ValueError, match="nor one for each role"):
        template_of(before)


# ---- files -------------------------------------------------------------------------------------------------------------

def test_both_forms_are_read_from_one_file(tmp_path):
    path = tmp_path / "data.jsonl"
    items = [{"instruction": "Turn it.", "input": "ab", "output": " ba "}, {"instruction": "i", "input": "", "output": "o"},
             {"instruction": "i", "output": "o"},
             {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"},
                           {"role": "assistant", "content": "가"}]}]
    path.write_text("\n\n".join(json.dumps(i) for i in items), encoding="utf-8")
    assert read_conversations(path) == [
        [("user", "Turn it.\nab"), ("assistant", " ba ")], [("user", "i"), ("assistant", "o")],
        [("user", "i"), ("assistant", "o")], [("system", "s"), ("user", "u"), ("assistant", "가")]]


@pytest.mark.parametrize("line, words", [
    ("{", "this is not JSON"), ("3", 'an item is an object, {"messages": …} or {"instruction": …}, not \'3\''),
    ({"output": "o"}, 'the field "instruction" is missing'), ({"instruction": "i"}, 'the field "output" is missing'),
    ({"instruction": "i", "output": ""}, '"output" is a text, not \'\''),
    ({"instruction": "i", "output": "o", "input": 3}, '"input" is a text, not 3'),
    ({"messages": []}, '"messages" is a list of {"role": …, "content": …}, not []'),
    ({"messages": ["x"]}, '"messages" is a list'),
    ({"messages": [{"role": "user", "content": "a"}, {"content": "b"}]}, 'the field "messages[1].role" is missing'),
    ({"messages": [{"role": "user"}]}, 'the field "messages[0].content" is missing'),
    ({"messages": [{"role": "root", "content": "a"}]},
     '"messages[0].role" is one of system, user, assistant, not \'root\'')])
def test_mistakes_name_file_line_and_field(line, words, tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text('{"instruction": "i", "output": "o"}\n\n' + (line if isinstance(line, str) else json.dumps(line)))
    with pytest.raises(ValueError, match="data.jsonl, line 3: .*" + re.escape(words)):
        read_conversations(path)


# ---- what is learned ---------------------------------------------------------------------------------------------------

def by_loop(messages, tokenizer, template):
    """[(id, is it learned?)], a token at a time."""
    out = []
    for role, content in messages:
        out += [(i, False) for i in template.begin(tokenizer, role)]
        out += [(i, role == "assistant") for i in tokenizer.encode(content).tolist()]
        for n, i in enumerate(template.close(tokenizer)):
            out.append((i, role == "assistant" and n == 0))
    return out


@BOTH
@given(conversations)
def test_learned_are_the_answers_and_their_ends_of_every_turn(tokenizer, template, messages):
    ids, learned, whole = render(messages, tokenizer, template)
    expected = by_loop(messages, tokenizer, template)
    last = max(t for t, (_, is_learned) in enumerate(expected) if is_learned)
    assert list(zip(ids.tolist(), learned.tolist())) == expected[:last + 1] and whole       # behind it nothing is learned
    text = "".join(m.content for m in messages if m.role == "assistant")
    assert tokenizer.decode(ids[learned]) == text
    assert (ids[learned] == tokenizer.id_of(template.end)).sum() == sum(m.role == "assistant" for m in messages)


def test_what_is_read_before_an_answer_is_what_a_conversation_reads():
    """The template's own text is made tokens apart from the answer's, though a BPE could join them."""
    ids, learned, _ = render([Message("user", "the"), Message("assistant", "\n cat")], BYTES, CHATML)
    asked = [*CHATML.message(BYTES, "user", "the"), *CHATML.begin(BYTES, "assistant")]
    assert ids[:len(asked)].tolist() == asked and learned.argmax() == len(asked)


@given(conversations, st.integers(0, 99))
def test_a_users_tokens_are_no_targets(messages, seed):
    """Another text in their place as targets changes nothing; the loss is a loop; their logits get no gradient."""
    ids, learned, _ = render(messages, CHARS, ROLE_TOKENS)
    model = tiny(vocab_size=len(CHARS), block_size=64, seed=seed)
    packed = pack([(ids, learned)], len(ids) - 1)
    other = np.where(learned, ids, (ids + 1) % len(CHARS))
    idx = ids[None, :-1]
    assert (packed.targets == pack([(other, learned)], len(ids) - 1).targets).all()
    z = logits(model, idx)[0]
    logp = z - np.log(np.exp(z).sum(-1, keepdims=True))
    total = [-logp[t - 1, ids[t]] for t in range(1, len(ids)) if learned[t]]
    assert model.loss(idx, packed.targets).item() == pytest.approx(np.mean(total), rel=1e-12)
    scores = Tensor(z[None], True)
    F.cross_entropy(scores, packed.targets).backward()
    assert (scores.grad[0].any(-1) == learned[1:]).all()


# ---- what does not fit -------------------------------------------------------------------------------------------------

@BOTH
@given(conversations, st.integers(1, 60))
def test_truncation_keeps_whole_turns_and_cuts_no_role(tokenizer, template, messages, room):
    whole, cut = render(messages, tokenizer, template), render(messages, tokenizer, template, room=room)
    ends = [t + 1 for t in np.flatnonzero(whole.learned & (whole.ids == tokenizer.id_of(template.end)))]
    starts = [t for t in range(1, len(whole.ids)) if whole.learned[t] and not whole.learned[t - 1]]
    fitting = [end for end in ends if end <= room]
    if fitting:
        assert len(cut.ids) == max(fitting)                                          # whole turns, as many as fit
    elif starts[0] < room:
        assert len(cut.ids) == room and cut.learned[-1]                              # within the first answer
        assert tokenizer.id_of(template.end) not in cut.ids[cut.learned]
    else:
        assert cut is None
        return
    assert cut.ids.tolist() == whole.ids[:len(cut.ids)].tolist() and cut.whole == (len(cut.ids) == len(whole.ids))
    assert cut.learned[-1] and cut.learned.tolist() == whole.learned[:len(cut.ids)].tolist()


def test_what_is_dropped_is_counted():
    turn = [Message("user", "a"), Message("assistant", "bb")]            # 3 and 4 tokens
    examples, counts = render_all([turn, turn * 2, [Message("user", "a")], [Message("user", "aaaaaa"), turn[1]],
                                   [Message("user", "aaa"), Message("assistant", "bbb")]], CHARS, ROLE_TOKENS, room=8)
    assert counts == {"whole": 1, "shortened": 2, "dropped": 2} and [len(e.ids) for e in examples] == [7, 7, 8]
    assert [e.whole for e in examples] == [True, False, False]


# ---- several in a row --------------------------------------------------------------------------------------------------

@st.composite
def examples(draw, most=5):
    """(ids, learned), of 2 to ROOM + 1 tokens; each learns something."""
    lengths = draw(st.lists(st.integers(2, ROOM + 1), min_size=1, max_size=most))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    out = [(rng.integers(0, 7, n), rng.random(n) < 0.6) for n in lengths]
    for _, learned in out:
        learned[-1] = True
    return out


@given(examples(12))
def test_packing_loses_nothing(some):
    data = pack(some, ROOM, pad=5)
    found = []
    for idx, targets, documents in zip(data.idx, data.targets, data.documents):
        assert (np.diff(documents[documents > 0]) >= 0).all() and not documents[documents.argmin():].any() or documents.all()
        assert (idx[documents == 0] == 5).all() and (targets[documents == 0] == IGNORE).all()
        for d in range(1, documents.max() + 1):
            found.append((idx[documents == d].tolist(), targets[documents == d].tolist()))
    given_ = [(ids[:-1].tolist(), np.where(learned, ids, IGNORE)[1:].tolist()) for ids, learned in some]
    assert sorted(found) == sorted(given_)
    lengths = [len(ids) - 1 for ids, _ in some]
    assert data.filled == pytest.approx(sum(lengths) / data.idx.size)
    used = (data.documents > 0).sum(-1)
    assert not any(a + b <= ROOM for a, b in zip(used, used[1:])), "two rows that fit in one"


def test_a_rows_documents_go_with_it():
    data = pack([(np.full(n + 1, n), np.ones(n + 1, bool)) for n in (5, 7, 3, 1, 8, 2)], ROOM)
    rows = {idx.tobytes(): (t.tolist(), d.tolist()) for idx, t, d in zip(data.idx, data.targets, data.documents)}
    assert len(rows) == len(data.idx) == 4
    parts = [data.sample(np.random.default_rng(0), 20), *data.chunks(3)]
    assert [len(part[0]) for part in parts] == [20, 3, 1] and all(len(part) == 3 for part in parts)
    for part in parts:
        for idx, targets, documents in zip(*part):
            assert rows[idx.tobytes()] == (targets.tolist(), documents.tolist())
    assert {idx.tobytes() for idx in parts[0][0]} == rows.keys()


def test_first_fit():
    data = pack([(np.arange(n + 1), np.ones(n + 1, bool)) for n in (5, 7, 3, 1)], ROOM)
    assert data.documents.tolist() == [[1] * 5 + [2] * 3, [1] * 7 + [2]]
    with pytest.raises(ValueError, match="an example of 10 tokens does not fit a row of 8 places"):
        pack([(np.arange(10), np.ones(10, bool))], ROOM)


SHAPES = {"gpt2": {}, "llama": dict(position="rotary", norm="rms", gated=True, activation="silu", n_kv_head=1, bias=False),
          "neox": dict(position="rotary", order="parallel", rotary_share=0.5, tied=False)}


@on_every_device
@pytest.mark.parametrize("shape", SHAPES)
@settings(max_examples=15)
@given(some=examples(), seed=st.integers(0, 99))
def test_packed_is_one_by_one(shape, some, seed):
    """Logits, loss and every gradient: none sees another, and positions begin anew."""
    model, data = tiny(seed=seed, **SHAPES[shape]), pack(some, ROOM)
    scores, counts, sums = logits(model, data.idx, documents=data.documents), 0, None
    for row, (targets, documents) in enumerate(zip(data.targets, data.documents)):
        for d in range(1, documents.max() + 1):
            here = documents == d
            idx, wanted = data.idx[row][None, here], targets[None, here]
            np.testing.assert_allclose(scores[row, here], logits(model, idx)[0], atol=1e-10)
            n = (wanted != IGNORE).sum()
            loss = model.loss(idx, wanted)
            g = grads(model, loss * int(n))
            one = {"loss": loss.item() * n} | {k: 0 if v is None else v for k, v in g.items()}
            sums = one if sums is None else {k: sums[k] + one[k] for k in sums}
            counts += n
    loss = model.loss(data.idx, data.targets, data.documents)
    assert loss.item() == pytest.approx(sums["loss"] / counts, abs=1e-10)
    for name, g in grads(model, loss).items():
        np.testing.assert_allclose(g, sums[name] / counts, atol=1e-10, err_msg=name)


@on_every_device
def test_the_gradient_of_every_parameter_in_packed_rows():
    model, data = tiny(n_embd=4), pack([(np.arange(n), np.arange(n) > 0) for n in (3, 4, 2)], 5)
    assert data.documents.tolist() == [[1, 1, 2, 2, 2], [1, 0, 0, 0, 0]]
    check_parameters(model, lambda: model.loss(data.idx, data.targets, data.documents))


def test_blocks_that_are_computed_twice_see_the_same_documents():
    model, data = tiny(), pack([(np.arange(n), np.arange(n) > 0) for n in (4, 5, 3)], ROOM)
    plain = grads(model, model.loss(data.idx, data.targets, data.documents))
    model.checkpoint_blocks = True
    for name, g in grads(model, model.loss(data.idx, data.targets, data.documents)).items():
        np.testing.assert_array_equal(g, plain[name])


def test_documents_go_with_no_mask_and_no_cache():
    with pytest.raises(ValueError, match="documents share a row in training"):
        tiny()(np.zeros((1, 3), int), mask=np.ones((1, 3), bool), documents=np.ones((1, 3), int))


@on_every_device
@pytest.mark.parametrize("step", [train_step, lambda model, opt, *batch, **more: captured_step(model, opt)(*batch)],
                         ids=["train_step", "captured_step"])
def test_a_step_on_packed_rows(step):
    """It moves the parameters along the packed loss's gradient, on one thread or two; and the measured loss is that loss."""
    rng = np.random.default_rng(0)
    data = pack([(rng.integers(0, 7, n), np.arange(n) > 1) for n in (3, 5, 7, 4, 6, 3, 9)], ROOM)
    ends = []
    for how in ("by hand", "step"):
        model = tiny(np.float32)
        opt = optim.AdamW(model.parameters(), lr=1e-2)
        for _ in range(4):
            if how == "by hand":
                opt.zero_grad()
                loss = model.loss(data.idx, data.targets, data.documents)
                loss.backward()
                opt.clip_grad_norm_(1.0)
                opt.step()
            else:
                loss = step(model, opt, data.idx, data.targets, data.documents, workers=2)
        ends.append((evaluate(model, data), evaluate(model, data, batch_size=2), float(getattr(loss, "data", loss))))
    assert ends[0] == pytest.approx(ends[1], rel=1e-5) and ends[0][0] == pytest.approx(ends[0][1], rel=1e-5)
    assert ends[0][0] < ends[0][2]
