"""The command line as a user meets it: every stage from the one before, and every mistake in one line."""
import json
import math
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tinygrad_lm import cli
from tinygrad_lm.checkpoint import load, save
from tinygrad_lm.models import from_pretrained
from tinygrad_lm.text.tokenizer_json import load as load_tokenizer

SMALL = ("--n-layer", "1", "--n-head", "2", "--n-embd", "16")


def call(capsys, monkeypatch, *arguments):
    """(exit code, what was printed, what was said on stderr)"""
    monkeypatch.setattr(sys, "argv", ["tinygrad-lm", *map(str, arguments)])
    code = 0
    try:
        cli.main()
    except SystemExit as leave:
        code = leave.code
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def tg(capsys, monkeypatch):
    return lambda *arguments: call(capsys, monkeypatch, *arguments)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "pretrain"
    subprocess.run([sys.executable, "-m", "tinygrad_lm.cli", "pretrain", *SMALL, "--steps", "5", "--out", str(out)],
                   check=True, capture_output=True)
    return out


def test_help_has_a_whole_line_for_each_command():
    """In a window of 80 columns: click cuts a longer one, and what it is for is gone."""
    room = 80 - 6 - max(map(len, cli.commands.commands))
    for name, command in cli.commands.commands.items():
        assert command.short_help, f"{name} needs a short_help in its decorator: click.command(short_help=…)"
        assert len(command.short_help) <= room, f"the short_help of {name} is cut: {room} characters are whole"


def test_the_stages_one_after_another(tg, pretrained, tmp_path):
    code, out, _ = tg("sft", "--model", pretrained, "--steps", 3, "--examples", 50, "--out", tmp_path / "sft")
    assert code == 0 and "obeys" in out
    code, out, _ = tg("reward", "--model", tmp_path / "sft", "--rankings", 20, "--epochs", 1, "--out", tmp_path / "reward")
    assert code == 0 and "right order" in out
    code, out, _ = tg("ppo", "--model", tmp_path / "sft", "--reward", tmp_path / "reward", "--iterations", 2,
                      "--batch-size", 8, "--out", tmp_path / "ppo")
    assert code == 0 and "wins" in out
    page = (tmp_path / "ppo" / "report.html").read_text(encoding="utf-8")
    assert all(name in page for name in ("explained_variance", "ratio_max", "clip_fraction", "data:image/png;base64,"))
    code, out, _ = tg("reward", "--safety", "--model", tmp_path / "sft", "--rankings", 20, "--epochs", 1, "--out",
                      tmp_path / "safety")
    assert code == 0 and re.search(r"told safe or unsafe rightly: [\d.]+%; below the threshold of 0.15 are", out)
    code, out, _ = tg("ppo", "--model", tmp_path / "sft", "--reward", tmp_path / "reward", "--safety", tmp_path / "safety",
                      "--iterations", 2, "--batch-size", 8, "--out", tmp_path / "safe")
    assert code == 0 and re.search(r"unsafe [\d.]+% -> [\d.]+%", out)
    assert load(tmp_path / "safe" / "checkpoint.safetensors")[1]["history"] != load(
        tmp_path / "ppo" / "checkpoint.safetensors")[1]["history"]                              # it climbs another reward
    code, out, _ = tg("sample", tmp_path / "ppo", "--prompt", "^k5>", "-n", 3, "--max-new-tokens", 8)
    assert code == 0 and len(out.splitlines()) == 3 and all(line.startswith("^k5>") for line in out.splitlines())
    again = tg("sample", tmp_path / "ppo", "--prompt", "^k5>", "-n", 3, "--max-new-tokens", 8)
    assert again[1] == out


def test_sampling_by_every_rule(tg, pretrained):
    def written(*options):
        code, out, err = tg("sample", pretrained, "--prompt", "^", "--max-new-tokens", 12, "--temperature", 2, *options)
        assert code == 0 and out.startswith("^") and out.endswith("\n"), err
        return out[1:-1]
    whole = written()
    assert whole == written() != written("--min-p", 0.9)
    assert len(whole) > 3 and written("--stop", whole[2:4], "--stop", "@") == whole[:whole.find(whole[2:4])]
    assert len(set(written("--repetition-penalty", 1000, "--temperature", 0))) == len(
        written("--repetition-penalty", 1000, "--temperature", 0))
    lines = tg("sample", pretrained, "--prompt", "^", "-n", 20, "--max-new-tokens", 12, "--stop", "a")[1].splitlines()
    assert len(lines) == 20 and not any("a" in line for line in lines)


@pytest.mark.parametrize("how", ["int8", "int4"])
def test_quantise(tg, pretrained, tmp_path, how):
    out = tmp_path / "small.safetensors"
    code, said, _ = tg("quantise", pretrained, "--to", how, "--out", out)
    assert code == 0 and re.search(r"blocks +[\d,]+ -> +[\d,]+ bytes", said) and "times less" in said
    assert out.stat().st_size < (pretrained / "checkpoint.safetensors").stat().st_size / 3
    code, said, _ = tg("sample", out, "--prompt", "^", "-n", 3)
    assert code == 0 and len(said.splitlines()) == 3
    code, _, err = tg("quantise", out, "--out", tmp_path / "again")
    assert code == 1 and f"quantised to {how} already" in err
    code, _, err = tg("sft", "--model", out, "--steps", 1, "--out", tmp_path / "sft")
    assert code == 1 and "quantised" in err and "Traceback" not in err


def test_a_text_of_ones_own(tg, tmp_path):
    text = tmp_path / "verse.txt"
    text.write_text("the rain in 서울 falls mainly\n" * 40, encoding="utf-8")
    code, out, _ = tg("pretrain", "--text", text, *SMALL, "--steps", 3, "--out", tmp_path / "run", "--checkpoint-blocks")
    assert code == 0 and "bits a character" in out
    code, out, _ = tg("sample", tmp_path / "run", "--prompt", "서울", "--max-new-tokens", 50)
    assert code == 0 and out.startswith("서울")
    code, _, err = tg("sft", "--model", tmp_path / "run", "--out", tmp_path / "sft")
    assert code == 1 and "another text" in err


def test_a_tokenizer_of_ones_own(tg, tmp_path):
    (tmp_path / "verse.txt").write_text("the rain in 서울 falls mainly\n" * 40, encoding="utf-8")
    code, out, _ = tg("tokenizer", "train", tmp_path / "verse.txt", "--vocab-size", 280, "--pattern", "gpt4",
                      "--special", "<a>", "--special", "<b>", "--out", tmp_path / "tokenizer.json")
    assert code == 0 and "280 tokens: 2 special, 256 bytes, 22 merges" in out and "bytes a token" in out
    code, out, _ = tg("tokenizer", "train", tmp_path / "verse.txt", "--vocab-size", 5000, "--out", tmp_path / "big.json")
    assert code == 0 and "no other pair occurs 2 times" in out
    code, out, _ = tg("tokenizer", "show", "the 서울<a>", "--special", "--tokenizer", tmp_path / "tokenizer.json")
    assert code == 0 and "·서울" in out and "3 tokens for 9 characters in 13 bytes" in out


VERSE = "the rain in 서울 falls mainly\non the plain\n" * 60


@pytest.fixture(scope="module")
def verse(tmp_path_factory):
    """A text and a tokenizer.json learned from it."""
    from tinygrad_lm.text.tokenizer_json import save, train_bpe
    folder = tmp_path_factory.mktemp("verse")
    (folder / "verse.txt").write_text(VERSE, encoding="utf-8")
    save(folder / "tokenizer.json", train_bpe(VERSE, 290))
    return folder


@pytest.mark.parametrize("architecture", ["gpt2", "neox", "llama"])
def test_a_network_over_byte_pairs(tg, verse, tmp_path, architecture):
    """The checkpoint knows its tokenizer: every command takes it alone."""
    run, text = tmp_path / "run", verse / "verse.txt"
    learn = ["pretrain", "--text", text, "--architecture", architecture, "--n-layer", 1, "--n-head", 2, "--n-embd", 32,
             "--block-size", 8, "--steps", 3, "--out", run]
    code, out, err = tg(*learn, "--tokenizer", verse / "tokenizer.json")
    assert code == 0, err
    loss, token, byte = map(float, re.search(r"loss (\S+) nats = (\S+) bits a token = (\S+) bits a byte", out).groups())
    held_out = VERSE[len(VERSE) * 9 // 10:]
    a_token = len(held_out.encode()) / len(load_tokenizer(verse / "tokenizer.json").encode(held_out))
    assert token == pytest.approx(loss / math.log(2), abs=1e-3) and byte == pytest.approx(token / a_token, abs=1e-3)
    code, out, _ = tg("sample", run, "--prompt", "the 서울", "--max-new-tokens", 20)
    assert code == 0 and out.startswith("the 서울")
    assert tg("sample", run, "-n", 2, "--max-new-tokens", 5)[0] == 0
    code, out, _ = tg("evaluate", run, "--text", text)
    assert code == 0 and "bits a byte" in out
    assert len(tg("rank", "--model", run, "the rain", "rain the")[1].splitlines()) == 2
    assert tg("evaluate", run)[0] == 0
    assert tg("quantise", run, "--to", "int4", "--out", tmp_path / "small.safetensors")[0] == 0
    assert tg("sample", tmp_path / "small.safetensors", "--max-new-tokens", 5)[0] == 0
    assert tg(*learn, "--tokenizer", verse / "tokenizer.json", "--resume")[0] == 0
    code, _, err = tg(*learn, "--resume")
    assert code == 1 and "another tokenizer: its ids stand for other tokens" in err
    code, _, err = tg(*learn, "--tokenizer", verse / "tokenizer.json", "--resume", "--n-head", 4)
    assert code == 1 and "was made with n_head 2, and this run has 4" in err
    code, _, err = tg("sft", "--model", run)
    assert code == 1 and "another text" in err


def test_the_first_neural_model(tg, verse, tmp_path):
    """It is trained, saved, resumed, sampled, evaluated and ranked as the others are."""
    run = tmp_path / "run"
    learn = ["neural", "--text", verse / "verse.txt", "--context", 4, "--n-embd", 8, "--n-hidden", 16, "--steps", 40,
             "--out", run]
    whole = tg(*learn)
    assert whole[0] == 0 and re.search(r"bits a character = \S+ bits a byte", whole[1])
    assert tg(*learn, "--resume")[1] == whole[1]
    code, out, err = tg("sample", run, "--prompt", "the rain", "--max-new-tokens", 20, "--top-k", 3)
    assert code == 0 and out.startswith("the rain") and "goes on from the last 4" in err
    assert len(tg("sample", run, "-n", 3, "--stop", "\n")[1].splitlines()) == 6      # each behind the newline that begins it
    first = tg("rank", "--model", run, "niar eht", "the rain")[1].splitlines()[0]
    assert first.endswith("the rain")
    assert "bits a byte" in tg("evaluate", run, "--text", verse / "verse.txt")[1]
    for command in (["quantise", run, "--out", tmp_path / "x"], ["sft", "--model", run]):
        code, _, err = tg(*command)
        assert code == 1 and "kind 'feedforward', and 'gpt' is needed" in err
    code, out, _ = tg("neural", "--steps", 3, "--out", tmp_path / "names")
    assert code == 0 and out.rstrip().endswith("bits a character")
    assert tg("sample", tmp_path / "names", "-n", 2)[1].startswith("^")
    code, out, _ = tg("neural", "--text", verse / "verse.txt", "--tokenizer", verse / "tokenizer.json", "--steps", 3,
                      "--out", tmp_path / "bpe")
    assert code == 0 and "bits a token" in out and tg("sample", tmp_path / "bpe")[0] == 0


def test_a_prompt_longer_than_the_context_is_said_to_be(tg, pretrained):
    code, out, err = tg("sample", pretrained, "--prompt", "^" + "a" * 40, "--max-new-tokens", 3)
    assert code == 0 and out.startswith("^" + "a" * 40)
    assert "the prompt has 41 tokens, more than the model reads at once: it goes on from the last 16" in err
    assert tg("sample", pretrained, "--prompt", "^" + "a" * 31, "--max-new-tokens", 3)[2] == ""


def test_weights_that_are_no_numbers(tg, pretrained, tmp_path):
    tensors, meta = load(pretrained / "checkpoint.safetensors")
    tensors["model/ln_f.weight"][:] = np.nan
    save(tmp_path / "broken.safetensors", tensors, meta)
    broken = tmp_path / "broken.safetensors"
    for command in (["sample", broken], ["rank", "--model", broken, "anna"]):
        code, _, err = tg(*command)
        assert code == 1 and "NaN or infinite" in err and "Traceback" not in err


def wrong(tmp_path, pretrained):
    empty, latin, below_a_file = tmp_path / "empty.txt", tmp_path / "latin.txt", tmp_path / "file" / "run"
    empty.touch()
    latin.write_bytes("caf\xe9".encode("latin-1") * 20)
    (tmp_path / "file").touch()
    (tmp_path / "broken.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    few = tmp_path / "few.txt"
    few.write_text("one\n\ntwo", encoding="utf-8")
    from tinygrad_lm.text.tokenizer_json import save, train_bpe
    save(tmp_path / "bpe.json", train_bpe("abab" * 9, 260))
    (tmp_path / "vocab.txt").write_text("[UNK]\n[CLS]\n[SEP]\none\ntwo\n", encoding="utf-8")
    gap = json.loads((tmp_path / "bpe.json").read_text(encoding="utf-8"))
    del gap["model"]["vocab"]["w"]
    (tmp_path / "gap.json").write_text(json.dumps(gap), encoding="utf-8")
    return [
        (["pretrain", "--tokenizer", tmp_path / "bpe.json"], "give --text, too"),
        (["pretrain", "--text", few, "--tokenizer", tmp_path / "none.json"], "none.json: No such file"),
        (["pretrain", "--text", few, "--tokenizer", latin], "latin.txt is not a tokenizer"),
        (["pretrain", "--text", few, "--tokenizer", tmp_path / "vocab.txt"], "does not give the text back: .* becomes"),
        (["pretrain", "--text", few, "--tokenizer", tmp_path / "gap.json"],
         "gap.json cannot spell .*few.txt: .*no token for the byte 0x77"),
        (["pretrain", "--text", few, "--tokenizer", tmp_path / "bpe.json"],
         "few.txt is too short: an example takes 33 tokens, and the nine tenths that are learned from have 7"),
        (["pretrain", "--text", few, "--block-size", 3],
         "an example takes 4 tokens, and the tenth that is measured on has 1"),
        (["sample", pretrained, "--prompt", ""], "--prompt: it is empty: give a beginning"),
        (["neural", "--context", 0, "--text", few], "context must be at least 1, not 0"),
        (["ngram", "--text", few], "2 paragraphs"),
        (["ngram", "--text", latin], "byte 3 is 0xe9.*Windows-1252"),
        (["ngram", "--order", 0], "order=0"),
        (["rank", "--model", pretrained, "K"], "'K' at position 0"),
        (["correct", "--rate", 2, "a"], "rate is the share"),
        (["pretrain", "--text", empty, "--out", tmp_path / "a"], "empty.txt is empty"),
        (["pretrain", "--text", latin, "--out", tmp_path / "a"], "not UTF-8 text .byte 3 is 0xe9"),
        (["pretrain", "--text", tmp_path / "nowhere.txt"], "nowhere.txt: No such file"),
        (["pretrain", "--out", below_a_file, "--steps", 1], "cannot write into the run folder"),
        (["pretrain", "--n-embd", 30, "--out", tmp_path / "a"], "n_embd=30"),
        (["sample", tmp_path / "nothing"], "does not exist"),
        (["sample", tmp_path / "broken.safetensors"], "broken.safetensors is no checkpoint"),
        (["sample", pretrained, "--prompt", "K"], "'K' at position 0"),
        (["sample", pretrained, "--temperature", -1], "temperature"),
        (["ppo", "--model", pretrained, "--reward", pretrained], "kind 'gpt', and 'reward' is needed"),
        (["reward", "--model", pretrained, "--margin", "huge"], "margin='huge' is none of none, small, large"),
        (["pretrain", "--leyers", 3], "No such option"),
        (["size", "lama-2-7b"], "Did you mean llama-2-7b"),
        (["size", "gpt2", "--train", "--dtype", "int4"], "weights of int4 have no gradient"),
        (["size", "gpt2", "--context", 5000], "learned positions for 1024 tokens"),
        (["evaluate", pretrained], "question 1 .boolq, en. cannot be asked of this model: the character"),
        (["evaluate", pretrained, few], "few.txt, line 1: this is not JSON"),
        (["tokenizer", "train", latin, "--out", tmp_path / "t.json"], "not UTF-8 text .byte 3 .* probably Windows-1252"),
        (["tokenizer", "train", latin, "--vocab-size", 10, "--out", tmp_path / "t.json"], "not UTF-8"),
        (["tokenizer", "train", __file__, "--vocab-size", 10, "--out", tmp_path / "t.json"], "must be 257 at least"),
        (["tokenizer", "train", __file__, "--out", below_a_file], "cannot write"),
        (["tokenizer", "show", "text", "--tokenizer", latin], "latin.txt is not a tokenizer: byte 3"),
        (["tokenizer", "show", "text", "--tokenizer", tmp_path / "no.json"], "no.json: `tinygrad-lm tokenizer train FILE"),
        (["pretrain", *SMALL, "--out", pretrained, "--resume", "--lr", 1.0], "was made with"),
    ]


def test_every_mistake_is_one_line_and_no_traceback(tg, tmp_path, pretrained):
    for arguments, message in wrong(tmp_path, pretrained):
        code, _, err = tg(*arguments)
        assert code in (1, 2) and "Traceback" not in err, (arguments, err)
        assert re.search(message, err), (arguments, err)
        assert "error" in err.lower()


def test_help_names_every_setting_with_its_default(tg):
    code, out, _ = tg("ppo", "--help")
    assert code == 0 and "--kl-coef" in out and "[default: 0.16]" in out


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_keeps_the_checkpoint_and_resume_ends_as_if_nothing_had_happened(tmp_path):
    def command(out, *more):
        return [sys.executable, "-m", "tinygrad_lm.cli", "pretrain", *SMALL, "--steps", "400", "--save-every", "20",
                "--out", str(tmp_path / out), *more]

    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    whole = subprocess.run(command("whole"), capture_output=True, text=True, env=environment, check=True)
    cut = subprocess.Popen(command("cut"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    saved = tmp_path / "cut" / "checkpoint.safetensors"
    while not saved.exists() and cut.poll() is None:
        time.sleep(0.02)
    cut.send_signal(signal.SIGINT)
    _, err = cut.communicate(timeout=60)
    assert cut.returncode == 130 and "--resume" in err and "Traceback" not in err
    resumed = subprocess.run(command("cut", "--resume"), capture_output=True, text=True, env=environment, check=True)
    assert resumed.stdout.splitlines()[-1] == whole.stdout.splitlines()[-1]
    (tensors, meta), (expected, expected_meta) = (load(tmp_path / name / "checkpoint.safetensors")
                                                  for name in ("cut", "whole"))
    assert meta == expected_meta
    assert all(tensors[name].tobytes() == a.tobytes() for name, a in expected.items())


def test_every_trick_of_ppo_has_its_flag():
    import click
    from click.testing import CliRunner
    from tinygrad_lm.cli.options import settings, stage_options
    from tinygrad_lm.train.ppo import PPOConfig
    understood = []

    @click.command()
    @stage_options(PPOConfig, "runs/ppo")
    def command(out, seed, save_every, resume, device, **options):
        understood.append(settings(PPOConfig, options))

    def said(*words):
        return CliRunner().invoke(command, words)
    said()
    said(*"--kl-coef 0 --kl k3 --kl-in loss --advantage rloo --group 4 --no-whiten-advantages --whiten-rewards --clip inf "
          "--value-clip inf --max-norm inf --kl-stop inf --adam-eps 1e-8 --warmup 0".split())
    said("--shared")
    assert understood == [PPOConfig(), PPOConfig(
        kl_coef=0, kl="k3", kl_in="loss", advantage="rloo", group=4, whiten_advantages=False, whiten_rewards=True,
        clip=math.inf, value_clip=math.inf, max_norm=math.inf, kl_stop=math.inf, adam_eps=1e-8, warmup=0),
        PPOConfig(shared=True)]
    assert said("--kl", "k4").exit_code == 2 and "'k4' is not one of" in said("--kl", "k4").output


def test_the_demo_small(tmp_path, capsys, monkeypatch):
    """The whole road in little: everything is made, and a second call with --resume trains nothing again."""
    from tinygrad_lm.train import demo
    from tinygrad_lm.train.dpo import DPOConfig
    from tinygrad_lm.train.ppo import PPOConfig
    from tinygrad_lm.train.pretrain import PretrainConfig
    from tinygrad_lm.train.reward import RewardConfig
    from tinygrad_lm.train.sft import SFTConfig
    monkeypatch.setattr(demo, "FAST", demo.DemoConfig(
        pretrain=PretrainConfig(steps=20), sft=SFTConfig(steps=10), rankings=16, reward=RewardConfig(epochs=1),
        narrow=RewardConfig(epochs=1), ppo=PPOConfig(iterations=2, batch_size=8), dpo=DPOConfig(epochs=1), judged=20))
    code, out, err = call(capsys, monkeypatch, "demo", "--fast", "--out", tmp_path / "demo")
    assert code == 0, err
    results = json.loads((tmp_path / "demo" / "results.json").read_text())
    assert {row["method"] for row in results["methods"]} == {"fine-tuned", "PPO", "PPO, no KL penalty", "DPO", "best of 4",
                                                             "best of 16"}
    page = (tmp_path / "demo" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3 and "http" not in page.replace("http-equiv", "")
    for name in ("training", "ppo", "overoptimisation"):
        assert (tmp_path / "demo" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    again = call(capsys, monkeypatch, "demo", "--fast", "--out", tmp_path / "demo", "--resume")[1]
    assert again.split("the same prompts")[1].splitlines()[:-1] == out.split("the same prompts")[1].splitlines()[:-1]


def test_models_that_count(tg, tmp_path, pretrained):
    code, out, _ = tg("ngram", "--length", 30)
    assert code == 0 and re.search(r"113 paragraphs counted in .* 12 held out", out) and "= 1.999 bits a byte" in out
    assert tg("ngram", "--length", 30)[1].splitlines()[1:] == out.splitlines()[1:]
    code, out, _ = tg("ngram", "--language", "ko", "--tokens", "letters", "--smoothing", "add-k", "--k", 0.01)
    assert code == 0 and "bits a byte" in out
    code, out, _ = tg("ngram", "--tokens", "words", "--smoothing", "maximum-likelihood", "--order", 2)
    assert code == 0 and "perplexity inf a token\n" in out
    text = tmp_path / "text.txt"
    text.write_text("one fish\n\ntwo fish\n\n" * 10, encoding="utf-8")
    code, out, _ = tg("ngram", "--text", text)
    assert code == 0 and "18 paragraphs" in out
    code, out, _ = tg("rank", "--text", text, "tow fish", "two fish")
    assert code == 0 and [line.split()[1:] for line in out.splitlines()] == [["two", "fish"], ["tow", "fish"]]
    code, out, _ = tg("rank", "--model", pretrained, "kxqz", "anna")
    assert code == 0 and len(out.splitlines()) == 2
    code, out, _ = tg("rank", "--language", "ko")
    assert code == 0 and "10 times out of 10" in out
    code, out, _ = tg("correct", "The od man siad nothinh.")
    assert code == 0 and out == "The old man said nothing.\n"
    code, out, _ = tg("correct", "--language", "ko")
    assert code == 0 and "of 299 words 32 were mistyped, 12 are wrong after correction" in out


def test_what_is_large(tg):
    code, out, _ = tg("size", "llama-2-7b", "--dtype", "int4", "--batch", 2)
    assert code == 0 and "6,738,415,616" in out and "The smallest card that holds it has" in out
    found = json.loads(tg("size", "koalpaca", "--lora", 8, "--dtype", "int8", "--json")[1])
    assert found["model"] == "koalpaca" and found["parameters"]["trained"] < found["parameters"]["total"] / 100
    code, out, _ = tg("size")
    assert code == 0 and "gpt-3" in out and "174,604,259,328" in out
    assert json.loads(tg("size", "--json")[1])["koalpaca"] == 12_892_815_360


def test_adapters(tg, pretrained, tmp_path):
    """sft --lora trains them and the embedding; merge makes a plain model of the same answers; folders in PEFT's layout."""
    from tinygrad_lm.models import save_pretrained
    from tinygrad_lm.models.lora import adapters, add_adapters
    from tinygrad_lm.models.peft import save_adapters
    from tinygrad_lm.models.saved import load_model
    code, out, err = tg("sft", "--model", pretrained, "--lora", 2, "--steps", 3, "--examples", 50, "--out", tmp_path / "sft")
    assert code == 0 and "obeys" in out, err
    before, after = load(pretrained / "checkpoint.safetensors")[0], load(tmp_path / "sft" / "checkpoint.safetensors")[0]
    changed = {key for key in before if key.startswith("model/") and (before[key] != after[key]).any()}
    assert changed == {"model/wte.weight"} and after["opt/m"].size == sum(
        a.size for key, a in after.items() if ".adapter." in key or key == "model/wte.weight")
    code, out, _ = tg("merge", tmp_path / "sft", "--out", tmp_path / "plain.safetensors")
    assert code == 0 and out.startswith("4 adapters merged")
    assert load(tmp_path / "plain.safetensors")[0].keys() == {key for key in before if key.startswith("model/")}
    said = [tg("sample", tmp_path / model, "--prompt", "^")[1] for model in ("plain.safetensors", "sft")]
    assert said[0] == said[1]
    code, _, err = tg("merge", pretrained, "--out", tmp_path / "x")
    assert code == 2 and "has no adapters in it: say which ADAPTER" in err

    model = load_model(pretrained)[0]
    save_pretrained(model, tmp_path / "base")
    add_adapters(model, 1, rng=np.random.default_rng(0))
    for a in adapters(model).values():
        a.B.data[...] = 1
    save_adapters(model, tmp_path / "adapter")
    for base, out in ((pretrained, "y"), (tmp_path / "base", "z")):
        assert tg("merge", base, tmp_path / "adapter", "--out", tmp_path / out)[0] == 0
    merged = from_pretrained(tmp_path / "z")
    assert all((a == merged.state_dict()[key]).all() for key, a in load_model(tmp_path / "y")[0].state_dict().items())
    assert (merged.blocks[0].mlp.fc.weight.data != model.blocks[0].mlp.fc.weight.data).all()
    code, _, err = tg("merge", tmp_path / "base", tmp_path / "base", "--out", tmp_path / "x")
    assert code == 1 and err.startswith("error: ") and "adapter_config.json is not there" in err
