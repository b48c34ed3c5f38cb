"""benchmarks/gpu.py without a GPU: bytes counted by hand, both sides on the CPU at tiny sizes, and one sentence where there
is nothing to measure."""
import importlib.util
import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import gpu, gpu_ours
from benchmarks.gpu_work import Work, adamw, attention, cases, embedding, rows

TINY = {"attention forward": (1, 2, 4, 4), "attention backward": (1, 2, 4, 4), "embedding backward": (6, 4, 5), "AdamW": (12,)}
KERNELS = sorted({(name, dtype) for name, dtype, *_ in cases()})
torch_too = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")


def test_bytes_are_those_counted_by_hand():
    x = 8192 * 4096 * 4
    assert x == 134_217_728                                              # 128 MiB
    found = {name: work.bytes for name, work in rows(8192, 4096, 4).items()}
    assert found["softmax forward"] == found["dropout"] == found["cross-entropy forward"] == 268_435_456
    assert found["softmax backward"] == 402_653_184
    assert found["layer norm forward"] == 268_435_456 + 32_768 and found["RMS norm backward"] == 402_653_184 + 32_768
    assert rows(8192, 4096, 2)["softmax forward"].bytes == 134_217_728
    assert embedding(2, 3, 5, 4)["embedding backward"].bytes == 2 * 12 + 5 * 12
    assert adamw(10)["AdamW"].bytes == 280


def test_operations_of_attention_are_those_counted_by_hand():
    forward, backward = attention(8, 16, 2048, 64, 2).values()
    assert forward.flops == 8 * 16 * (2048 * 2048 // 2) * 256 == 68_719_476_736
    assert backward.flops == 2.5 * forward.flops
    assert forward.bytes == 134_217_728 and backward.bytes == 2 * forward.bytes


def test_a_copy_reaches_its_own_roof():
    roofs = {"GB/s": 100.0, "TFLOP/s": 2.0}
    assert Work(200_000_000).share(2.0, roofs) == ("copy", 1.0)          # 0.2 GB in 2 ms: 100 GB/s
    assert Work(1, 2_000_000_000).share(2.0, roofs) == ("matrix rate", 0.5)


@pytest.mark.parametrize("name, dtype", KERNELS)
def test_our_side_runs(name, dtype):
    assert 0 < gpu_ours.kernel_ms(name, dtype, TINY.get(name, (4, 8)), 0, device="cpu") < math.inf


@torch_too
@pytest.mark.parametrize("name, dtype", KERNELS)
def test_the_other_side_runs(name, dtype):
    from benchmarks import gpu_torch
    assert 0 < gpu_torch.kernel_ms(name, dtype, TINY.get(name, (4, 8)), 0, device="cpu") < math.inf


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_our_steps_run(dtype):
    ms, memory = gpu_ours.step_ms((5, 8, 8, 1, 2, 2), dtype, 0, device="cpu")
    assert ms > 0 and memory == 0


@torch_too
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_their_steps_run(dtype):
    from benchmarks import gpu_torch
    assert gpu_torch.step_ms((5, 8, 8, 1, 2, 2), dtype, 0, device="cpu")[0] > 0


def test_roofs():
    assert all(x > 0 for x in gpu_ours.roofs(8, 64, 0, device="cpu").values())


class Fake:
    """A side that answers at once."""

    def __init__(self, ms):
        self.ms = ms

    def ask(self, *question, **options):
        return self.ms


def test_lines_say_time_bytes_share_and_ratio():
    line, = gpu.kernels({"ours": Fake(0.1), "torch": Fake(0.2)}, {"GB/s": 4000.0, "float32": 50.0},
                        [("softmax forward", "float32", (8192, 4096), Work(268_435_456))])
    for said in ("softmax forward", "8192x4096", "0.100 ms", "268 MB", "67% of copy", "torch 0.200 ms (0.50)"):
        assert said in line


def test_steps_say_tokens_and_memory(monkeypatch):
    from contextlib import contextmanager
    monkeypatch.setattr(gpu, "sides", contextmanager(lambda modules: iter([{name: Fake([50.0, 2e9]) for name in modules}])))
    line, = gpu.steps([(65, 1024, 64, 1, 1, 8)], "float32", ["ours", "torch", "torch.compile"])
    for said in ("163,840 tokens/s", "torch.compile 50.000 ms (1.00)", "ours 2,000 MB"):
        assert said in line


@pytest.mark.parametrize("cupy, said", [(None, "not installed"), (SimpleNamespace(is_available=lambda: False), "no GPU")])
def test_without_a_gpu_it_says_so_and_fails(monkeypatch, capsys, cupy, said):
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    assert gpu.main() == 1
    out = capsys.readouterr().out
    assert said in out and out.count("\n") == 1


def test_pictures_of_the_chapter_are_drawn(tmp_path):
    from benchmarks import figures_gpu
    figures_gpu.main(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"gpu-passes.png", "gpu-tiles.png"}
    chapter = (figures_gpu.FOLDER.parent / "gpu.md").read_text(encoding="utf-8")
    for picture in tmp_path.iterdir():
        assert f"(figures/{picture.name})" in chapter and (figures_gpu.FOLDER / picture.name).exists()
