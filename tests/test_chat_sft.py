"""A base model learns to chat: it gets role tokens, `sft --data` learns a file, `chat` talks with the result."""
import io
import json
import re

import numpy as np
import pytest

from tinygrad_lm.checkpoint import pack, save
from tinygrad_lm.models import GPT, GPTConfig
from tinygrad_lm.models.conversation import Conversation
from tinygrad_lm.models.grown import grown, ready_to_chat
from tinygrad_lm.models.named import load_for_chat
from tinygrad_lm.models.saved import describe
from tinygrad_lm.text import show, tokenizer_json
from tinygrad_lm.text.char import CharTokenizer
from tinygrad_lm.text.chat import CHATML, ROLE_TOKENS
from tinygrad_lm.text.conversations import Message, render
from tinygrad_lm.text.letters import LetterTokenizer

from .test_chat import chat
from .test_cli import call
from .test_gguf import TOKENIZER as BYTES, a_llama
from .test_gpt import V, ids, logits, tiny
from .test_stages_on_a_device import cupy  # noqa: F401

TURNS = [Message(*m) for m in (("system", "be"), ("user", "a"), ("assistant", "bb"), ("user", "b"), ("assistant", "a"))]


# ---- more tokens -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("tied", [True, False])
def test_a_grown_model_says_what_it_said_and_of_new_tokens_the_mean(tied):
    model, idx = tiny(tied=tied), ids(2, 6)
    larger = grown(model, V + 300, rng=np.random.default_rng(0))
    assert larger.config.vocab_size == V + 300 and larger.wte.weight.dtype == np.float64
    before, after = logits(model, idx), logits(larger, idx)
    np.testing.assert_allclose(after[..., :V], before, rtol=1e-12)
    new = after[..., V:]
    np.testing.assert_allclose(new.mean(-1), before.mean(-1), atol=0.05)                  # of 300 draws
    assert 0 < new.std(-1).min() and new.std(-1).max() < 0.3                              # told apart, and little
    assert grown(model, V, rng=None) is model and model.config.vocab_size == V
    assert len({row.tobytes() for row in larger.wte.weight.data}) == V + 300


def test_a_tokenizer_with_a_template_keeps_it():
    model = a_llama()
    assert ready_to_chat(model, BYTES, rng=None) == (model, BYTES, CHATML)
    chars = CharTokenizer("ab")
    model = GPT(GPTConfig(len(chars), 8, 1, 1, 4))
    larger, tokenizer, template = ready_to_chat(model, chars, rng=np.random.default_rng(0))
    assert template == ROLE_TOKENS and larger.config.vocab_size == len(tokenizer) == len(chars) + 4
    assert ready_to_chat(larger, tokenizer, rng=None) == (larger, tokenizer, template)


# ---- what is learned, in colours ---------------------------------------------------------------------------------------

def coloured(tokenizer, template):
    """[(text, its style)] of what `show_learned` prints."""
    from rich.console import Console
    console = Console(file=io.StringIO(), record=True, width=500, force_terminal=True, color_system="truecolor")
    ids, learned, _ = render(TURNS, tokenizer, template)
    show.show_learned(tokenizer, ids, learned, console=console)
    return [(s.text, s.style) for line in [console._record_buffer] for s in line if s.style]


def test_learned_tokens_are_green():
    found = coloured(CharTokenizer("abe", ROLE_TOKENS.marks), ROLE_TOKENS)
    colour = {ground: "".join(text for text, style in found if style.bgcolor.name == ground)
              for ground in (show.LEARNED, show.READ)}
    assert colour[show.LEARNED] == "bb<|end|>a<|end|>"
    assert colour[show.READ] == "<|system|>be<|end|><|user|>a<|end|><|assistant|><|user|>b<|end|><|assistant|>"
    assert all(bool(style.bold) == (text[0] == "<") for text, style in found)
    green = [text for text, style in coloured(BYTES, CHATML) if style.bgcolor.name == show.LEARNED]
    assert "".join(green) == "bb<|im_end|>a<|im_end|>"


# ---- commands ----------------------------------------------------------------------------------------------------------

@pytest.fixture
def tg(capsys, monkeypatch):
    return lambda *arguments: call(capsys, monkeypatch, *arguments)


TOKENIZERS = {"characters": CharTokenizer("abcd efgh가나"), "letters": LetterTokenizer.from_text("abcd efgh가나"),
              "bytes": tokenizer_json.train_bpe("abcd efgh", 257)}


def base(folder, tokenizer):
    """The checkpoint of a model that was not trained."""
    model = GPT(GPTConfig(len(tokenizer), 24, n_layer=1, n_head=2, n_embd=32), rng=np.random.default_rng(0))
    save(folder / "base.safetensors", pack({"model": model})[0], describe(model, tokenizer))
    return folder / "base.safetensors"


def file_of(folder, *more):
    """Two things to say, five times each, in both forms."""
    path = folder / "data.jsonl"
    items = [{"instruction": "ab", "output": "cd"}, {"messages": [{"role": "user", "content": "ef"},
                                                                 {"role": "assistant", "content": "gh"}]}] * 5
    path.write_text("\n".join(json.dumps(i) for i in [*items, *more]), encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_base_model_learns_a_file_and_talks(tg, tmp_path, monkeypatch, capsys, kind):
    data = file_of(tmp_path, {"instruction": "a" * 40, "output": "b"})
    code, out, err = tg("sft", "--model", base(tmp_path, TOKENIZERS[kind]), "--data", data, "--steps", 60, "--batch-size", 8,
                        "--lr", 0.02, "--warmup", 5, "--weight-decay", 0, "--show", 2, "--out", tmp_path / "run")
    assert code == 0, err
    assert "<|user|>ab<|end|><|assistant|>cd<|end|>\n<|user|>ef<|end|><|assistant|>gh<|end|>\n" in out
    assert "11 conversations: 10 whole, 0 shortened and 1 dropped, for the model reads 24 tokens; in 3 rows" in out
    assert float(re.search(r"held-out loss (\S+) nats", out)[1]) < 0.1
    said = chat(monkeypatch, capsys, ["ab", "ef", "/quit"], tmp_path / "run", "--temperature", 0, "--repetition", 1)
    assert said[:2] == (0, "cd\n\ngh\n\n"), said
    model, tokenizer, template = load_for_chat(tmp_path / "run" / "checkpoint.safetensors")
    talk = Conversation(model, tokenizer, template, rng=np.random.default_rng(0), temperature=0, max_new_tokens=5)
    assert "".join(talk.ask("ab")) == "cd"
    again = tg("sft", "--model", tmp_path / "run", "--data", data, "--steps", 1, "--out", tmp_path / "again")
    assert again[0] == 0, "what has its role tokens needs no others"
    assert load_for_chat(tmp_path / "again")[1].vocab_size == tokenizer.vocab_size


def test_the_same_seed_resumes(tg, tmp_path):
    run = ("sft", "--model", base(tmp_path, TOKENIZERS["characters"]), "--data", file_of(tmp_path), "--batch-size", 4)
    whole = tg(*run, "--steps", 6, "--out", tmp_path / "a")[1].splitlines()[-1]
    assert whole.replace("/a", "/b") == tg(*run, "--steps", 6, "--out", tmp_path / "b")[1].splitlines()[-1]
    code, out, _ = tg(*run, "--steps", 6, "--out", tmp_path / "b", "--resume")
    assert code == 0 and out.splitlines()[-1] == whole.replace("/a", "/b")


def test_mistakes(tg, tmp_path):
    model = base(tmp_path, TOKENIZERS["characters"])
    for more, words in (({"instruction": "ab"}, 'data.jsonl, line 11: the field "output" is missing'),
                        ({"instruction": "Z", "output": "a"}, "conversation 11 cannot be written in this model's tokens: "
                                                              "the character 'Z' at position 0"),
                        ({"instruction": "Z", "output": "a"}, "Byte pairs write everything: pretrain --text with")):
        code, _, err = tg("sft", "--model", model, "--data", file_of(tmp_path, more), "--out", tmp_path / "run")
        assert code == 1 and words in err and "Traceback" not in err
    few = tmp_path / "few.jsonl"
    few.write_text('{"instruction": "ab", "output": "cd"}', encoding="utf-8")
    code, _, err = tg("sft", "--model", model, "--data", few, "--out", tmp_path / "run")
    assert code == 1 and "1 conversation" in err
    long = tmp_path / "long.jsonl"
    long.write_text("\n".join(['{"instruction": "%s", "output": "cd"}' % ("a" * 50)] * 10), encoding="utf-8")
    code, _, err = tg("sft", "--model", model, "--data", long, "--out", tmp_path / "run")
    assert code == 1 and "10 dropped" in err


def test_the_masks_of_a_file(tg, tmp_path):
    data = file_of(tmp_path)
    code, out, _ = tg("chat-mask", data, "-n", 1)
    assert code == 0 and out == ("<|user|>ab<|end|><|assistant|>cd<|end|>\n"
                                 "10 conversations: 10 whole, 0 shortened, 0 dropped; 30 of 80 tokens are learned\n")
    code, out, _ = tg("chat-mask", data, "--model", base(tmp_path, TOKENIZERS["letters"]), "--context", 6)
    assert code == 0 and out.startswith("<|user|>ab<|end|><|assistant|>c\n") and "0 whole, 10 shortened, 0 dropped" in out


def test_the_instructions_as_files(tg, tmp_path):
    code, out, _ = tg("instructions", "--out", tmp_path / "a", "--words", 10)
    assert code == 0 and re.match(r"\d+ instructions to learn from and \d+ held out", out)
    for name in ("learned", "held-out"):
        code, out, _ = tg("chat-mask", tmp_path / "a" / f"{name}.jsonl", "-n", 1)
        assert code == 0 and " 0 shortened, 0 dropped" in out
    (tmp_path / "file").touch()
    code, _, err = tg("instructions", "--out", tmp_path / "file" / "b")
    assert code == 1 and "cannot write" in err


def test_on_the_device(cupy, tg, tmp_path):  # noqa: F811
    """The same file, the same loss, and the CPU talks with the result."""
    run = ("sft", "--model", base(tmp_path, TOKENIZERS["characters"]), "--data", file_of(tmp_path), "--steps", 3,
           "--batch-size", 4)
    losses = []
    for device in ("cpu", "cuda"):
        before = cupy.synchronisations
        code, out, err = tg(*run, "--out", tmp_path / device, "--device", device)
        assert code == 0, err
        assert (cupy.synchronisations > before) == (device == "cuda")
        losses.append(float(re.search(r"held-out loss (\S+) nats", out)[1]))
    assert losses[0] == pytest.approx(losses[1], abs=2e-4)
    assert load_for_chat(tmp_path / "cuda")[2] == ROLE_TOKENS
