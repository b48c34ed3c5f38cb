"""Conversations: what a user types stays in their message, the cache is as good as reading anew, nothing interrupts for
good."""
import re
import sys

import numpy as np
import pytest
from hypothesis import given, strategies as st

from tinygrad_lm import cli
from tinygrad_lm.models import conversation, save_pretrained
from tinygrad_lm.models.conversation import Conversation
from tinygrad_lm.models.named import load_for_chat
from tinygrad_lm.text import tokenizer_json
from tinygrad_lm.text.char import CharTokenizer
from tinygrad_lm.text.chat import ChatTemplate, template_of
from tinygrad_lm.text.streaming import pieces

from .test_gguf import LESSON, SPECIAL, TOKENIZER, a_llama, with_smollm2

START, END = (TOKENIZER.id_of(t) for t in SPECIAL[1:])


# ---- template --------------------------------------------------------------------------------------------------------

def test_chatml():
    ids = ChatTemplate().message(TOKENIZER, "user", "the cat")
    assert TOKENIZER.decode(ids, special=True) == "<|im_start|>user\nthe cat<|im_end|>\n"
    assert ids == TOKENIZER.encode("<|im_start|>user\nthe cat<|im_end|>\n", special=True).tolist()
    with pytest.raises(ValueError, match="one of system, user, assistant, not of 'root'"):
        ChatTemplate().message(TOKENIZER, "root", "x")


@given(st.lists(st.sampled_from([*SPECIAL, "<|im_", "end|>", "the", "\n", "system"]), max_size=6).map("".join))
def test_nobody_can_spell_a_mark(text):
    ids = ChatTemplate().message(TOKENIZER, "user", text)
    assert [i for i in ids if i in (START, END, 0)] == [START, END] and ids[0] == START and ids[-2] == END
    assert TOKENIZER.decode(ids) == f"user\n{text}\n"


def test_what_the_publisher_says_first():
    source = "{% if x %}{{ '<|im_start|>system\\nYou are SmolLM<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role']"
    assert template_of(TOKENIZER, source).system == "You are SmolLM"
    other = "'<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n'"
    assert template_of(TOKENIZER, other).system is None and template_of(TOKENIZER).system is None
    for tokenizer in (tokenizer_json.train_bpe("a cat", 257), CharTokenizer("abc")):
        with pytest.raises(ValueError, match="has no tokens <|im_start|> and <|im_end|>"):
            template_of(tokenizer)


@given(st.text(st.characters(codec="utf-8"), max_size=30), st.data())
def test_characters_come_whole(text, data):
    """Whatever tokens the bytes lie in, what comes is the text; U+FFFD only where the text has it."""
    ids = TOKENIZER.encode(text)
    assert shown(ids) == text and all(p in text for p in pieces(ids, TOKENIZER))
    cut = data.draw(st.integers(0, len(ids)))
    broken = [*ids[:cut], END, *ids[cut // 2:]]
    assert shown(broken) == TOKENIZER.decode(broken)


# ---- conversation ----------------------------------------------------------------------------------------------------

def talk_with(model=None, **options):
    model = sharp() if model is None else model
    options = dict(rng=np.random.default_rng(0), temperature=0, max_new_tokens=6, system="be") | options
    return Conversation(model, TOKENIZER, ChatTemplate(), **options)


def sharp():
    """A model whose likeliest token depends on what it read."""
    model = a_llama()
    for p in model.parameters():
        if p.ndim == 2:
            p.data *= 8
    return model.to(np.float64)


def answered_anew(model, ids, n):
    """The greedy answer to ids without a cache."""
    ids = list(ids)
    for _ in range(n):
        token = int(model(np.array([ids])).data[0, -1].argmax())
        if token == END:
            break
        ids.append(token)
    return ids


def test_several_turns_with_the_cache_are_the_whole_text_read_anew():
    talk, model = talk_with(), sharp()
    t, text = ChatTemplate(), ChatTemplate().message(TOKENIZER, "system", "be")
    for question in ("the cat", "on mats?"):
        answer = "".join(talk.ask(question))
        text += [*t.message(TOKENIZER, "user", question), *t.begin(TOKENIZER, "assistant")]
        whole = answered_anew(model, text, 6)
        assert answer == shown(whole[len(text):])
        text = [*whole, *t.close(TOKENIZER)]
        assert talk.ids() == text and talk.reader.cache.length >= len(text) - 3


def test_the_answer_ends_at_its_mark(monkeypatch):
    """And not before; the mark is none of the text, and is said once."""
    cat = TOKENIZER.encode("cat").tolist()
    script = iter([*cat, END, START, *cat, *cat])
    monkeypatch.setattr(conversation, "draw", lambda logp, rng: [next(script)])
    talk = talk_with(temperature=1.0, max_new_tokens=2 * len(cat) + 1)
    t, before = ChatTemplate(), [*talk.system]
    for answer, told in (("cat", [*cat]), ("catcat", [START, *cat, *cat])):
        assert "".join(talk.ask("the")) == answer
        before += [*t.message(TOKENIZER, "user", "the"), *t.begin(TOKENIZER, "assistant"), *told, *t.close(TOKENIZER)]
        assert talk.ids() == before


def shown(ids):
    return "".join(pieces(ids, TOKENIZER))


def test_only_what_is_new_is_read(monkeypatch):
    talk, sizes = talk_with(), []
    read = talk.reader.read
    monkeypatch.setattr(talk.reader, "read", lambda new, cache: sizes.append(len(new)) or read(new, cache))
    list(talk.ask("the cat"))
    first, sizes[:] = len(sizes), []
    list(talk.ask("on"))
    t = ChatTemplate()
    new = len(t.message(TOKENIZER, "user", "on")) + len(t.begin(TOKENIZER, "assistant"))
    assert first <= 6 and new <= sizes[0] <= new + 3 and sizes[1:] == [1] * (len(sizes) - 1)


@pytest.mark.parametrize("layer", [0, 1])
def test_interrupted_while_it_reads_it_goes_on_as_if_it_had_stopped_there(layer, monkeypatch):
    """Even where one layer's cache holds a token that the next has not seen."""
    talk, model = talk_with(), sharp()
    answer = talk.ask("the cat")
    said = next(answer)
    extend = talk.reader.cache.layers[layer].extend

    def interrupted(k, v):
        extend(k, v)
        raise KeyboardInterrupt
    monkeypatch.setattr(talk.reader.cache.layers[layer], "extend", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(answer)
    monkeypatch.undo()
    assert said and talk.ids()[-2:] == ChatTemplate().close(TOKENIZER)
    before = talk.ids()
    t = ChatTemplate()
    second = "".join(talk.ask("on mats?"))
    text = [*before, *t.message(TOKENIZER, "user", "on mats?"), *t.begin(TOKENIZER, "assistant")]
    assert second == shown(answered_anew(model, text, 6)[len(text):])


def test_closed_early_the_answer_so_far_is_kept():
    talk = talk_with()
    answer = talk.ask("the cat")
    next(answer)
    answer.close()
    assert talk.ids()[-2:] == ChatTemplate().close(TOKENIZER)
    assert "".join(talk.ask("on")) is not None


def test_a_full_context_forgets_the_oldest_and_keeps_the_system_message():
    talk = talk_with(context=130)
    model, t, every, kept = sharp(), ChatTemplate(), [], []
    for question in ["the cat sat", "on", "mats", "hats and mats", "the", "sat", "on hats"]:
        said = "".join(talk.ask(question))
        assert len(talk.ids()) <= 130 and talk.ids()[:len(talk.system)] == talk.system
        turn = [*t.message(TOKENIZER, "user", question), *t.begin(TOKENIZER, "assistant")]
        text = [*sum(talk.turns[:-1], talk.system), *turn]
        assert said == shown(answered_anew(model, text, 6)[len(text):])
        every.append(talk.turns[-1])
        assert talk.turns == every[-len(talk.turns):]
        kept.append(len(talk.turns))
    assert 1 < len(talk.turns) < 7 and min(kept[1:]) > 1 > min(np.diff(kept)), "some are kept where some are forgotten"
    with pytest.raises(ValueError, match=r"the question takes \d+ tokens, the system message \d+ and the answer up to 6, "
                                         r"and the context has 130"):
        list(talk.ask("the cat " * 130))
    assert len(talk.turns) > 1 and "".join(talk.ask("on")) is not None


def test_what_was_said_is_less_likely(monkeypatch):
    scores = np.array([[2.0, -2.0, 1.0, -1.0]])
    np.testing.assert_array_equal(conversation.repeated_less(scores, [0, 1, 0], 2.0), [[1.0, -4.0, 1.0, -1.0]])
    assert (scores == [[2.0, -2.0, 1.0, -1.0]]).all() and conversation.repeated_less(scores, [0], 1) is scores
    talk = talk_with(repetition=1e9, max_new_tokens=12)
    assert list(talk.ask("the cat"))
    said = talk.turns[0][-14:-2]
    assert len(set(said)) == 12                              # nothing twice
    told = []
    monkeypatch.setattr(conversation, "repeated_less", lambda scores, said, penalty: told.append(list(said)) or scores)
    list(talk.ask("the cat"))
    assert told == [talk.turns[1][-14:-14 + n] for n in range(12)]        # not the question, nor the answer before
    monkeypatch.undo()
    again = talk_with(max_new_tokens=12)
    assert list(again.ask("the cat")) and len(set(again.turns[0][-14:-2])) < 12


def test_the_same_seed_says_the_same():
    answers = ["".join(talk_with(rng=np.random.default_rng(seed), temperature=1.5, top_p=0.9).ask("the cat"))
               for seed in (0, 0, 1)]
    assert answers[0] == answers[1] != answers[2]


# ---- command ---------------------------------------------------------------------------------------------------------

@pytest.fixture
def folder(tmp_path):
    save_pretrained(sharp().to(np.float32), tmp_path)
    tokenizer_json.save(tmp_path / "tokenizer.json", TOKENIZER)
    return tmp_path


def chat(monkeypatch, capsys, lines, *arguments):
    lines = iter(lines)

    def typed(prompt=""):
        line = next(lines, EOFError)
        if isinstance(line, type):
            raise line
        return line
    monkeypatch.setattr("builtins.input", typed)
    monkeypatch.setattr(sys, "argv", ["tinygrad-lm", "chat", *map(str, arguments)])
    code = 0
    try:
        cli.main()
    except SystemExit as leave:
        code = leave.code
    return (code, *capsys.readouterr())


def test_the_command(folder, monkeypatch, capsys):
    options = folder, "--max-new-tokens", 5, "--context", 40, "--seed", 3
    code, out, err = chat(monkeypatch, capsys, ["the cat", "", KeyboardInterrupt, "the " * 80, "on", "/quit", "mats"],
                          *options)
    assert code == 0 and out.count("\n\n") == 2
    assert "the question takes" in err and "/quit, or Ctrl-D" in err
    assert chat(monkeypatch, capsys, ["the cat", "on"], *options)[1] == out


def test_the_command_in_few_bits(folder, monkeypatch, capsys):
    sizes = []
    for weights in ("float32", "int8", "int4"):
        code, out, err = chat(monkeypatch, capsys, ["the cat"], folder, "--max-new-tokens", 5, "--weights", weights)
        assert code == 0 and out.count("\n\n") == 1
        sizes.append(float(re.search(r"parameters, ([\d.]+) MB", err)[1]))
    assert sizes[0] > sizes[1] >= sizes[2]


def test_ctrl_c_ends_the_answer(folder, monkeypatch, capsys):
    calls, draw = [], conversation.draw

    def interrupted(logp, rng):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return draw(logp, rng)
    monkeypatch.setattr(conversation, "draw", interrupted)
    code, out, _ = chat(monkeypatch, capsys, ["the cat", "on"], folder, "--max-new-tokens", 5, "--temperature", 2)
    assert code == 0 and " …\n" in out and len(calls) > 3


def test_models_that_cannot_chat(folder, monkeypatch, capsys):
    assert chat(monkeypatch, capsys, [], folder / "nothing")[::2] == (
        1, f"error: there is no file or folder {folder / 'nothing'}, and the models known by name are smollm2, minilm\n")
    tokenizer_json.save(folder / "tokenizer.json",
                        tokenizer_json.train_bpe(LESSON, 300, special=("<|a|>", "<|b|>", "<|c|>")))
    code, _, err = chat(monkeypatch, capsys, [], folder)
    assert code == 1 and "has no tokens <|im_start|> and <|im_end|>" in err and "Traceback" not in err


# ---- the real one ----------------------------------------------------------------------------------------------------

@with_smollm2
def test_smollm2_knows_the_capital_of_france():
    model, tokenizer, template = load_for_chat("smollm2")
    assert template.system == "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    talk = Conversation(model, tokenizer, template, rng=np.random.default_rng(0), temperature=0, max_new_tokens=40,
                        context=256)
    assert "Paris" in "".join(talk.ask("What is the capital of France?"))
    assert "French" in "".join(talk.ask("What language do people speak there?"))
