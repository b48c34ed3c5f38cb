"""Every stage of training, and every command, on a device: what the CPU gives; checkpoints go from either to the other. Over
the strict stand-in (strict_cupy.py), so that an array that is forgotten on the host is an error here as on a GPU."""
import re
import sys

import click
import numpy as np
import pytest

from tinygrad_lm import backend, emulator, kernels, mpi
from tinygrad_lm.cli import options
from tinygrad_lm.train import captured, demo

from . import stages
from .strict_cupy import strict_cupy
from .test_checkpoint import Crash
from .test_cli import SMALL, call

STAGES = stages.STAGES
ADDED = {"body.ln_f.bias", "bias", "mean"}      # to every reward, which no pair sees: a gradient of rounding, divided by its size


@pytest.fixture
def cupy(monkeypatch):
    """Operations are composed of the stand-in's functions: the kernels' emulator is too slow for whole stages."""
    monkeypatch.setattr(kernels.fits_kernel, "__code__", (lambda x: False).__code__)
    with strict_cupy() as module:
        yield module


def on(device, monkeypatch, stage, folder=None, **options):
    """(weights on the host, what was logged) of a stage without dropout, whose draws are a device's own."""
    def model(seed=0):
        gpt = stages.GPT(stages.GPTConfig(stages.V, 8, n_layer=1, n_head=2, n_embd=8), rng=np.random.default_rng(seed))
        return gpt.to(device)

    monkeypatch.setattr(stages, "model", model)
    state, history = stages.train(stage, folder, **options)
    assert {backend.device_of(a) for a in state.values()} == {device}
    return {name: backend.to_host(a) for name, a in state.items()}, history


def check_same(one, other):
    for (name, a), b in zip(one[0].items(), other[0].values(), strict=True):
        if name in ADDED:
            continue
        if name.endswith("qkv.bias"):            # that of keys adds the same to a query's every score: no gradient but rounding,
            a, b = (x.reshape(3, -1)[[0, 2]] for x in (a, b))                # of which Adam makes a step
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4, err_msg=name)
    assert len(one[1]) == len(other[1])
    for a, b in zip(one[1], other[1]):
        assert a == pytest.approx(b, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_the_same_on_the_device(cupy, monkeypatch, stage):
    check_same(on("cuda", monkeypatch, stage), on("cpu", monkeypatch, stage))


@pytest.mark.parametrize("first, then", [("cuda", "cpu"), ("cpu", "cuda")])
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_goes_on_on_the_other_side(cupy, monkeypatch, tmp_path, stage, first, then):
    save, saved = stages.Run._save, []

    def crash(run, *args):
        save(run, *args)
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(stages.Run, "_save", crash)
        with pytest.raises(Crash):
            on(first, monkeypatch, stage, tmp_path, save_every=5)
    check_same(on(then, monkeypatch, stage, tmp_path, resume=True), on("cpu", monkeypatch, stage))


@pytest.mark.skipif(not emulator.available(), reason="no C++ compiler: kernels cannot be run on the CPU")
@pytest.mark.parametrize("stage", ["pretrain", "sft"])
def test_on_the_device_a_step_is_replayed(monkeypatch, stage):
    """With the kernels, and the same to 5 digits."""
    with strict_cupy() as cupy:
        launches = cupy.launches
        there = on("cuda", monkeypatch, stage)
        assert cupy.launches - launches == stages.STEPS - captured.WARM_UP
    check_same(there, on("cpu", monkeypatch, stage))


# ---- the commands ---------------------------------------------------------------------------------------------------

@pytest.fixture
def tg(capsys, monkeypatch):
    return lambda *arguments: call(capsys, monkeypatch, *arguments)


def numbers(text):
    return [float(x) for x in re.findall(r"-?\d+\.\d+", text)]


def road(tg, cupy, folder, device):
    """What each command says; a GPU's values are read by each of them on the device, by none on the CPU."""
    for command in (("pretrain", *SMALL, "--steps", 3, "--out", folder / "pretrain"),
                    ("sft", "--model", folder / "pretrain", "--steps", 3, "--examples", 50, "--out", folder / "sft"),
                    ("reward", "--model", folder / "sft", "--rankings", 20, "--epochs", 1, "--out", folder / "reward"),
                    ("ppo", "--model", folder / "sft", "--reward", folder / "reward", "--iterations", 2, "--batch-size", 8,
                     "--out", folder / "ppo"),
                    ("sample", folder / "ppo", "--prompt", "^k5>", "-n", 3)):
        before = cupy.synchronisations
        code, out, err = tg(*command, "--device", device)
        assert code == 0, err
        assert (cupy.synchronisations > before) == (device == "cuda"), command
        yield out.replace(str(folder), "")


def test_every_command_on_the_device(cupy, tg, tmp_path):
    """They say what they say on the CPU, but for an answer in a hundred; and the CPU reads what they have written."""
    there, here = (list(road(tg, cupy, tmp_path / device, device)) for device in ("cuda", "cpu"))
    for a, b in zip(there[:-1], here[:-1]):
        assert numbers(a) == pytest.approx(numbers(b), abs=1)
    assert tg("sample", tmp_path / "cuda" / "ppo", "--prompt", "^k5>", "-n", 3)[1] == there[-1]


def test_the_first_neural_model_on_the_device(cupy, tg, tmp_path):
    said = {}
    for device in ("cuda", "cpu"):
        before, out = cupy.synchronisations, tmp_path / device
        code, trained, err = tg("neural", "--steps", 5, "--batch-size", 4, "--out", out, "--device", device)
        assert code == 0, err
        said[device] = numbers(trained), tg("sample", tmp_path / "cuda", "-n", 3, "--device", device)[1]
        assert (cupy.synchronisations > before) == (device == "cuda")
    assert said["cuda"][0] == pytest.approx(said["cpu"][0], abs=1e-3) and said["cuda"][1] == said["cpu"][1]


def test_the_demo_on_the_device(cupy, tmp_path):
    config = demo.DemoConfig(pretrain=demo.PretrainConfig(steps=3), sft=demo.SFTConfig(steps=3), rankings=16,
                             reward=demo.RewardConfig(epochs=1), ppo=demo.PPOConfig(iterations=1, batch_size=8),
                             dpo=demo.DPOConfig(epochs=1), judged=10)
    results = {}
    for device in ("cuda", "cpu"):
        before = cupy.synchronisations
        results[device] = demo.run_demo(tmp_path / device, config, show=False, say=lambda line: None, device=device)
        assert (cupy.synchronisations > before) == (device == "cuda")
    assert results["cuda"].figures == pytest.approx(results["cpu"].figures, abs=0.2)      # a tenth are two of the judged


COMMANDS = {"pretrain": (), "sft": ("--model", "x"), "reward": ("--model", "x"), "ppo": ("--model", "x", "--reward", "y"),
            "sample": ("x",), "demo": (), "neural": ()}


@pytest.mark.parametrize("command", COMMANDS)
def test_without_a_gpu_every_command_says_why(tg, monkeypatch, tmp_path, command):
    monkeypatch.setitem(sys.modules, "cupy", None)                        # importing it raises ImportError
    monkeypatch.chdir(tmp_path)
    backend.why_no_cuda.cache_clear()
    try:
        code, out, err = tg(command, *COMMANDS[command], "--device", "cuda")
        assert (code, out) == (2, "") and err.endswith(f"Error: Invalid value for '--device': {backend.why_no_cuda()}\n")
        assert not any(tmp_path.iterdir())
    finally:
        backend.why_no_cuda.cache_clear()


def test_ranks_have_no_gpu(cupy, monkeypatch):
    assert options.usable(None, None, "cuda") == "cuda"
    monkeypatch.setattr(mpi, "place", lambda: (0, 3))
    assert options.usable(None, None, "cpu") == "cpu"
    with pytest.raises(click.BadParameter, match="3 ranks, which train on the CPU only"):
        options.usable(None, None, "cuda")


def test_out_of_memory_is_one_line(cupy, tg, tmp_path, monkeypatch):
    monkeypatch.setattr(cupy, "room", 1000)
    code, _, err = tg("pretrain", "--device", "cuda", "--out", tmp_path)
    assert code == 1 and err.startswith("error: the GPU is out of memory") and len(err.splitlines()) == 1
