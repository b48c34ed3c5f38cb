"""The benchmarks run and return sane numbers; how large these are is not a test's business."""
import json
import math

import numpy as np
import pytest

from tinygrad_lm.bench import clock, ours, parts, run, sizes
from tinygrad_lm.bench.turns import Side, in_turn, ratio, sides

TINY = (5, 8, 8, 1, 2, 2)                        # vocabulary, T, C, layers, heads, batch
TINY_OPERATIONS = (5, 8, 8, 2, 2)                # vocabulary, T, C, heads, batch
NAMES = list(sizes.works(*TINY_OPERATIONS))


@pytest.fixture
def tiny(monkeypatch):
    """Every part at the smallest sizes."""
    monkeypatch.setattr(sizes, "QUICK_STEPS", [TINY])
    monkeypatch.setattr(sizes, "QUICK_WRITERS", [(5, 16, 8, 1, 2, 2)])
    monkeypatch.setattr(sizes, "QUICK_GROWTH", {a: [TINY, (5, 16, 16, 1, 2, 2)] for a in "TC"})
    monkeypatch.setattr(sizes, "QUICK_OPERATIONS", TINY_OPERATIONS)
    monkeypatch.setattr(parts, "in_turn", lambda both, rounds, *a, **k: in_turn(both, 1, *a, **k | dict.fromkeys(
        {"seconds"} & k.keys(), 0)))


def positive(*numbers):
    return all(math.isfinite(x) and x > 0 for x in numbers)


def test_a_step_trains():
    assert positive(ours.step(*TINY, seconds=0))
    step = ours.training(*TINY)
    first = step()
    for _ in range(30):
        last = step()
    assert last < first


def test_generation_is_counted_in_tokens_of_all_sequences():
    assert positive(ours.tokens_per_second(5, 16, 8, 1, 2, 3, seconds=0))


@pytest.mark.parametrize("name", NAMES)
def test_each_operation_alone(name):
    forward, backward = ours.operation(name, *TINY_OPERATIONS, seconds=0)
    assert positive(forward) and (backward is None if name == "AdamW" else positive(backward))


def test_roofs():
    assert positive(*ours.roofs(8, 64))


def test_every_operation_has_its_work():
    assert set(ours.operations(*TINY_OPERATIONS)) | {"AdamW"} == set(NAMES)
    forward, backward = sizes.works(512, 256, 384, 6, 8)["linear + bias"]
    assert backward.flops == pytest.approx(2 * forward.flops, rel=0.01)
    assert forward.intensity > 100                                   # a product of matrices: arithmetic decides
    assert sizes.works(512, 256, 384, 6, 8)["layer norm"][0].intensity < 2           # a pass: memory does
    assert sizes.Work(2e9, 1).milliseconds(gflops=2, gbytes=1) == pytest.approx(1000)
    assert sizes.Work(1, 1e9).milliseconds(gflops=2, gbytes=4) == pytest.approx(1000)


def test_the_parts_of_a_call_are_timed_one_by_one():
    calls = []
    a, b = clock.medians([lambda: calls.append("a"), lambda: calls.append("b")], 0)
    assert positive(a, b) and calls == ["a", "b"] * 4                # one to warm up, three at least


# ---- two processes in turn ------------------------------------------------------------------------------------------

def test_sides_answer_in_turn():
    with sides({"ours": "tinygrad_lm.bench.ours"}) as both:
        answers = in_turn(both, 2, "roofs", 8, 64)
        first = both["ours"].process
        in_turn(both, 1, "roofs", 8, 64, fresh=True)
        assert first.returncode is not None and both["ours"].process is None
        both["ours"].ask("roofs", 8, 64)                             # another process
        second = both["ours"].process
    assert len(answers["ours"]) == 2 and positive(*answers["ours"][0])
    assert first is not second and second.returncode is not None     # none is left behind


@pytest.mark.parametrize("function", ["step", "no_such_function"])
def test_what_goes_wrong_on_a_side_is_told(function):
    side = Side("tinygrad_lm.bench.ours")
    try:
        with pytest.raises(RuntimeError, match=rf"bench\.ours\.{function}\(-1,\) failed"):
            side.ask(function, -1)
        with pytest.raises(RuntimeError, match="failed"):            # and again, when the process is gone
            side.ask(function, -1)
    finally:
        side.close()


def test_ratio_is_taken_round_by_round():
    assert ratio([1, 20, 3], [2, 40, 30]) == 0.5


# ---- tinygrad-lm bench ----------------------------------------------------------------------------------------------

def test_bench_without_torch(tiny, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(run, "torch_is_installed", lambda: False)
    monkeypatch.setattr("sys.argv", ["tinygrad-lm", "bench", "--quick", "--out", str(tmp_path)])
    from tinygrad_lm import cli
    cli.main()
    out = capsys.readouterr().out
    assert "PyTorch is not installed" in out and "torch |" not in out and "slope in C" in out
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert results["machine"]["NumPy"] == np.__version__ and "PyTorch" not in results["machine"]
    assert positive(results["step"][0]["ours"], results["generate"][0]["ours"], *results["ops"][0]["roofs"].values())
    assert [row["operation"] for row in results["ops"][1:]].count("attention") == 2
    for name in parts.PARTS:
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_bench_of_one_part_alone(tiny, monkeypatch, tmp_path):
    monkeypatch.setattr(run, "torch_is_installed", lambda: False)
    monkeypatch.setattr(run, "busy", lambda: True)
    said = []
    assert set(run.run_bench(["step"], tmp_path, quick=True, say=said.append)) == {"machine", "quick", "step"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["results.json", "step.png"]
    assert any("other processes are busy" in line for line in said)


@pytest.mark.oracle
def test_bench_beside_torch(tiny, tmp_path):
    results = run.run_bench(list(parts.PARTS), tmp_path, quick=True, say=lambda line: None)
    for row in [*results["step"], *results["generate"], *results["growth"], *results["ops"][1:]]:
        assert positive(row["ours"], row["torch"], row["ratio"])


@pytest.mark.oracle
def test_torchs_side_is_the_same_model():
    import torch
    from tinygrad_lm.bench import beside_torch
    shape = (11, 8, 16, 2, 2, 3)
    theirs, mine = beside_torch.Net(*shape[:-1]), ours.GPT(ours.GPTConfig(11, 8, 2, 2, 16))
    assert sum(p.numel() for p in theirs.parameters()) == mine.n_parameters()
    names = {"proj": "attn.proj", "qkv": "attn.qkv", "fc": "mlp.fc", "out": "mlp.proj", "norm": "ln_f"}
    state = mine.state_dict()
    with torch.no_grad():
        for name, p in theirs.named_parameters():
            p.copy_(torch.as_tensor(state[".".join(names.get(part, part) for part in name.split("."))]))
    idx, targets = np.random.default_rng(0).integers(0, 11, (2, 3, 8))
    assert theirs.loss(torch.as_tensor(idx), torch.as_tensor(targets)).item() == pytest.approx(
        mine.loss(idx, targets).item(), rel=1e-5)
    caches = [torch.empty(2, 3, 2, 8, 8) for _ in range(2)]          # read in two parts, through the cache
    with torch.no_grad():
        whole = theirs.hidden(torch.as_tensor(idx))
        parts_ = [theirs.hidden(torch.as_tensor(idx[:, :5]), caches)] + [
            theirs.hidden(torch.as_tensor(idx[:, i:i + 1]), caches, i) for i in range(5, 8)]
    torch.testing.assert_close(torch.cat(parts_, 1), whole, rtol=1e-4, atol=1e-5)
    assert theirs.generate(torch.as_tensor(idx[:, :2]), 6).shape == (3, 8)


# ---- benchmarks/ ----------------------------------------------------------------------------------------------------

def test_memory():
    from benchmarks import memory
    (row,) = memory.run([(5, 64, 64, 1, 2, 64)], ["ours"], steps=2)
    assert 5 < row["ours"] < 500                                     # the MLP alone keeps 2 × 4 MB for the backward


def test_shakespeare(tmp_path):
    from benchmarks import shakespeare
    text = tmp_path / "text.txt"
    text.write_text("to be, or not to be: that is the question\n" * 40, encoding="utf-8")
    said = []
    seconds, loss = shakespeare.run(text, ["ours"], steps=3, say=said.append)["ours"]
    assert seconds > 0 and 0 < loss < math.log(30) and len(said) == 1


def test_peers_with_none_installed(monkeypatch, capsys):
    from benchmarks import peers
    monkeypatch.setattr(peers, "PEERS", {"no_such_library": "no_such_library"})
    monkeypatch.setattr(peers, "STEPS", [TINY])
    monkeypatch.setattr("sys.argv", ["peers", "--only", "0", "--rounds", "1"])
    peers.main()
    out = capsys.readouterr().out
    assert "no_such_library is not installed: left out" in out and "ours" in out


@pytest.mark.parametrize("name", ["jax", "autograd", "mygrad", "mygrad_float32"])
def test_each_peer_is_the_same_model(name):
    pytest.importorskip(name.removesuffix("_float32"))
    from benchmarks import peer_models
    assert getattr(peer_models, name)(*TINY)() == pytest.approx(math.log(5), abs=0.1)
