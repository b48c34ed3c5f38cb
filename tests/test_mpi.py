"""Two processes under mpirun train like one with the whole batch, and end together, whatever happens to either."""
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests import ranks
from tests.test_architecture import ROOT
from tinygrad_lm import mpi, parallel
from tinygrad_lm.checkpoint import load
from tinygrad_lm.models import GPT, GPTConfig

needs_mpi = pytest.mark.skipif(
    not shutil.which("mpirun") or not importlib.util.find_spec("mpi4py"),
    reason="needs mpirun (of Open MPI or MPICH) and mpi4py (the `mpi` extra)")
ENVIRONMENT = os.environ | {
    "OPENBLAS_NUM_THREADS": "1",
    "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",                  # as in a container
    "OMPI_MCA_rmaps_base_oversubscribe": "1", "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMPI_MCA_hwloc_base_binding_policy": "none"}
PRETRAIN = ("pretrain", "--n-layer", "1", "--n-head", "2", "--n-embd", "16", "--steps", "40", "--save-every", "20",
            "--batch-size", "9", "--out")


def command(module, *arguments, n=2):
    return ["mpirun", "-n", str(n), sys.executable, "-m", module, *map(str, arguments)]


def run(module, *arguments, code=0):
    """(stdout, stderr) of two ranks, which must have ended in time with this code."""
    done = subprocess.run(command(module, *arguments), capture_output=True, text=True, env=ENVIRONMENT, cwd=ROOT, timeout=60)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def curves(tmp_path_factory):
    folder = tmp_path_factory.mktemp("curves")
    run("tests.ranks", "curves", folder)
    return [np.load(folder / f"rank{i}.npz") for i in (0, 1)]


@needs_mpi
@pytest.mark.parametrize("name", sorted(ranks.CASES.keys() - {"dropout"}))
def test_two_ranks_are_one_process_with_the_whole_batch(curves, name):
    """Also where rows do not divide evenly, targets are ignored, or a rank has no row or no target at all."""
    losses, weights, _ = ranks.curve(name)
    np.testing.assert_allclose(curves[0][f"{name}/losses"], losses, rtol=1e-9)
    np.testing.assert_allclose(curves[0][f"{name}/weights"], weights, rtol=1e-6, atol=1e-9)


@needs_mpi
@pytest.mark.parametrize("name", sorted(ranks.CASES))
def test_ranks_agree_to_the_bit(curves, name):
    """In losses, weights and, also where one has more rows and so more dropout, in their generators."""
    for what in ("losses", "weights", "draws"):
        assert curves[0][f"{name}/{what}"].tobytes() == curves[1][f"{name}/{what}"].tobytes()


@needs_mpi
def test_a_fault_on_one_rank_ends_both_and_resume_ends_as_if_nothing_had_happened(tmp_path):
    whole, _ = run("tinygrad_lm.cli", *PRETRAIN, tmp_path / "whole")
    start = time.monotonic()
    _, err = run("tests.ranks", "broken", 30, *PRETRAIN, tmp_path / "cut", code=1)
    assert "rank 1: Traceback" in err and "a fault of rank 1 alone" in err and time.monotonic() - start < 30
    assert load(tmp_path / "cut" / "checkpoint.safetensors")[1]["step"] == 20
    resumed, _ = run("tinygrad_lm.cli", *PRETRAIN, tmp_path / "cut", "--resume")
    assert resumed.splitlines()[-1] == whole.splitlines()[-1] and resumed.count("held-out loss") == 1
    (tensors, meta), (expected, expected_meta) = (load(tmp_path / f / "checkpoint.safetensors") for f in ("cut", "whole"))
    assert meta == expected_meta
    assert all(tensors[name].tobytes() == a.tobytes() for name, a in expected.items())
    subprocess.run([sys.executable, "-m", "tinygrad_lm.cli", *PRETRAIN, tmp_path / "one"], check=True, capture_output=True)
    one = load(tmp_path / "one" / "checkpoint.safetensors")[1]
    assert one["generators"] == meta["generators"]
    for a, b in zip(one["history"], meta["history"], strict=True):
        assert a == pytest.approx(b, rel=1e-4)


@needs_mpi
def test_a_mistake_that_all_ranks_share_is_said_once(tmp_path):
    _, err = run("tinygrad_lm.cli", "pretrain", "--n-embd", 30, "--out", tmp_path / "run", code=1)
    assert err.count("n_embd=30") == 1 and "Traceback" not in err
    _, err = run("tinygrad_lm.cli", "ppo", "--model", "a", "--reward", "b", code=2)
    assert err.count("ppo runs in one process, and mpirun has started 2") == 1


@needs_mpi
def test_different_batches_are_refused():
    _, err = run("tests.ranks", "different", ".", code=1)
    assert "the ranks have different batches: give each of them the whole batch" in err


@needs_mpi
def test_ranks_on_one_machine_share_its_processors(tmp_path):
    run("tests.ranks", "processors", tmp_path)
    each = [json.loads((tmp_path / f"rank{i}.json").read_text()) for i in (0, 1)]
    assert each == [max(1, len(parallel._usable()) // 2)] * 2


@needs_mpi
def test_ctrl_c_ends_all_ranks(tmp_path):
    job = subprocess.Popen(command("tinygrad_lm.cli", *PRETRAIN, tmp_path / "run", "--steps", 10**6, "--eval-every", 10**6),
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT, cwd=ROOT)
    while not (tmp_path / "run" / "checkpoint.safetensors").exists() and job.poll() is None:
        time.sleep(0.02)
    job.send_signal(signal.SIGINT)
    job.communicate(timeout=30)                             # its pipes close when the last rank has gone
    assert job.returncode
    assert load(tmp_path / "run" / "checkpoint.safetensors")[1]["step"] % 20 == 0


# ---- without mpirun -------------------------------------------------------------------------------------------------

@pytest.fixture
def started_as(monkeypatch):
    """Pretend that a launcher has set these variables."""
    def pretend(**variables):
        for name in ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMI_SIZE", "TINYGRAD_LM_MPI"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        mpi.place.cache_clear()
        mpi.comm.cache_clear()
    yield pretend
    monkeypatch.undo()
    mpi.place.cache_clear()
    mpi.comm.cache_clear()


def test_the_environment_says_which_rank_this_is(started_as):
    started_as()
    assert mpi.place() == (0, 1)
    started_as(OMPI_COMM_WORLD_RANK="1", OMPI_COMM_WORLD_SIZE="4")
    assert mpi.place() == (1, 4)
    started_as(PMI_RANK="2", PMI_SIZE="3")
    assert mpi.place() == (2, 3)


@pytest.mark.parametrize("missing", [ModuleNotFoundError("No module named 'mpi4py'"),
                                     RuntimeError("cannot load MPI library\nlibmpi.so: cannot open")])
def test_mpi4py_that_is_missing_is_one_sentence(started_as, monkeypatch, missing):
    class Finder:
        def find_spec(name, path, target=None):
            if name.startswith("mpi4py"):
                raise missing

    for name in [name for name in sys.modules if name.startswith("mpi4py")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    started_as(OMPI_COMM_WORLD_RANK="0", OMPI_COMM_WORLD_SIZE="2")
    with pytest.raises(mpi.MPIError, match="has started 2 ranks.*mpi4py.*python -m pip install mpi4py") as error:
        mpi.totals(1.0)
    assert "\n" not in str(error.value)
    started_as(TINYGRAD_LM_MPI="1")
    with pytest.raises(mpi.MPIError, match="TINYGRAD_LM_MPI=1 asks for MPI"):
        mpi.place()


def test_one_process_loads_no_mpi():
    code = ("import sys; from tests import ranks; ranks.curve('threads'); "
            "assert not {'mpi4py', 'matplotlib', 'rich', 'safetensors'} & sys.modules.keys()")
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI", "PMI"))}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=plain)


@pytest.mark.parametrize("mine,others,share", [({0, 1, 2, 3}, [], 4), ({0, 1, 2, 3}, [{0, 1, 2, 3}], 2),
                                               ({0, 1}, [{2, 3}], 2), ({0, 1, 2}, [{0, 1, 2}] * 2, 1), ({0}, [{0}], 1)])
def test_processors_are_divided_among_those_who_share_them(monkeypatch, mine, others, share):
    monkeypatch.setattr(parallel, "_usable", lambda: mine)
    monkeypatch.setattr(mpi, "on_this_machine", lambda value: [value, *others])
    parallel.processors.cache_clear()
    try:
        assert parallel.processors() == share
    finally:
        parallel.processors.cache_clear()


def test_each_rank_drops_its_own_and_the_models_generator_moves_alike():
    drawn, after = [], []
    for rank in (0, 1):
        model = GPT(GPTConfig(11, 8, 2, 2, 8, 0.5), rng=np.random.default_rng(3))
        own = model.drop.rng
        with parallel.dropout_of(model, rank):
            drawn.append(model.drop.rng.random())
        assert all(m.rng is own for m in model.modules() if hasattr(m, "rng"))
        after.append(own.random())
    assert drawn[0] != drawn[1] and after[0] == after[1]
