"""The command line as a user meets it: every stage from the one before, and every mistake in one line."""
import json
import math
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from tinygrad_lm import cli
from tinygrad_lm.checkpoint import load

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


def wrong(tmp_path, pretrained):
    empty, latin, below_a_file = tmp_path / "empty.txt", tmp_path / "latin.txt", tmp_path / "file" / "run"
    empty.touch()
    latin.write_bytes("caf\xe9".encode("latin-1") * 20)
    (tmp_path / "file").touch()
    (tmp_path / "broken.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    few = tmp_path / "few.txt"
    few.write_text("one\n\ntwo", encoding="utf-8")
    return [
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
    (tensors, meta), (expected, expected_meta) = (load(f / "checkpoint.safetensors") for f in (tmp_path / "cut", tmp_path / "whole"))
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
        kl_coef=0, kl="k3", kl_in="loss", advantage="rloo", group=4, whiten_advantages=False, whiten_rewards=True, clip=math.inf,
        value_clip=math.inf, max_norm=math.inf, kl_stop=math.inf, adam_eps=1e-8, warmup=0), PPOConfig(shared=True)]
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
        pretrain=PretrainConfig(steps=20), sft=SFTConfig(steps=10), rankings=16, reward=RewardConfig(epochs=1), narrow=RewardConfig(epochs=1),
        ppo=PPOConfig(iterations=2, batch_size=8), dpo=DPOConfig(epochs=1), judged=20))
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
    assert found["model"] == "polyglot-ko-12.8b" and found["parameters"]["trained"] < found["parameters"]["total"] / 100
    code, out, _ = tg("size")
    assert code == 0 and "gpt-3" in out and "174,604,259,328" in out
    assert json.loads(tg("size", "--json")[1])["koalpaca"] == 12_893_603_840
