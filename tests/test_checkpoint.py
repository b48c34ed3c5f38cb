"""A checkpoint is whole or not there; a run that was interrupted, killed even, ends as if nothing had happened."""
import errno
import os
import pickle
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tinygrad_lm import checkpoint
from tinygrad_lm.checkpoint import FORMAT, CheckpointError, load, save
from tinygrad_lm.models import GPT, FeedForward, FeedForwardConfig, GPTConfig, RewardModel
from tinygrad_lm.models.saved import describe, load_model
from tinygrad_lm.nn import Parameter
from tinygrad_lm.optim import SGD, AdamW
from tinygrad_lm.text.char import CharTokenizer
from tinygrad_lm.train.run import Run, make_folder

from .stages import STAGES, STEPS, TOKENIZER, V, model, train

ROOT = Path(__file__).parents[1]
ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b/c": np.array(3), "d": np.zeros((0, 2)),
          "transposed": np.arange(6.0).reshape(2, 3).T}
META = {"step": 3, "name": "né", "history": [{"loss": 0.1 + 0.2}], "none": None}


def same(a, b):
    return a.keys() == b.keys() and all(a[n].dtype == b[n].dtype and np.array_equal(a[n], b[n]) for n in a)


# ---- the file -------------------------------------------------------------------------------------------------------

def test_round_trip(tmp_path):
    save(tmp_path / "new" / "x", ARRAYS, META)                              # folders are made
    tensors, meta = load(tmp_path / "new" / "x")
    assert same(tensors, ARRAYS) and meta == META
    assert os.listdir(tmp_path / "new") == ["x"]


def test_the_state_of_everything_comes_back(tmp_path):
    def objects(seed):
        m = model(seed)
        return {"model": m, "opt": AdamW(m.parameters()), "sgd": SGD([Parameter(np.ones(3))], 0.1, momentum=0.9),
                "rng": np.random.default_rng(seed)}
    a, b = objects(0), objects(1)
    for x in (a, b):
        x["model"].loss(np.array([[1, 2]]), np.array([[2, 3]])).backward()
        x["opt"].step()
        x["rng"].random(5 if x is a else 7)
    save(tmp_path / "x", *checkpoint.pack(a))
    checkpoint.unpack(b, *load(tmp_path / "x"))
    assert same(checkpoint.pack(a)[0], checkpoint.pack(b)[0]) and a["rng"].random() == b["rng"].random()
    idx = np.array([[1, 2, 3]])
    np.testing.assert_array_equal(a["model"](idx).data, b["model"](idx).data)        # dropout draws go on, too


@pytest.mark.parametrize("fails", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_in_the_middle_leaves_the_old_file_whole(tmp_path, monkeypatch, fails, error):
    save(tmp_path / "x", ARRAYS, META)
    before = (tmp_path / "x").read_bytes()

    def fail(*_):
        raise error
    with monkeypatch.context() as m:
        m.setattr(os, fails, fail)
        with pytest.raises((CheckpointError, KeyboardInterrupt)) as caught:
            save(tmp_path / "x", {"a": np.ones(1000)}, {})
    assert (tmp_path / "x").read_bytes() == before
    assert caught.type is KeyboardInterrupt or str(caught.value) == f"cannot write {tmp_path / 'x'}: No space left on device"
    save(tmp_path / "x", {"a": np.ones(3)}, {})                              # what was left behind is in nobody's way
    assert same(load(tmp_path / "x")[0], {"a": np.ones(3)}) and os.listdir(tmp_path) == ["x"]


def bad_files(folder):
    """{what is wrong: path}"""
    save(folder / "good", ARRAYS, META)
    good = (folder / "good").read_bytes()
    contents = {"empty": b"", "random": np.random.default_rng(0).bytes(500), "text": b"dear reader " * 50,
                "pickle": pickle.dumps(META), "too long": good + b"x"}
    contents |= {f"cut at {n}": good[:n] for n in (3, 8, 30, len(good) // 2, len(good) - 1)}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    foreign = {"another tool's": None, "another version's": {"format": "tinygrad_lm 99", "meta": "{}"},
               "without meta": {"format": FORMAT}, "broken meta": {"format": FORMAT, "meta": "{"}}
    for name, metadata in foreign.items():
        save_file({"a": np.zeros(2)}, folder / name, metadata=metadata)
    (folder / "a folder").mkdir()
    return [folder / name for name in (*contents, *foreign, "a folder", "missing", "good/below a file")]


def one_line(caught, path):
    message = str(caught.value)
    return "\n" not in message and str(path) in message and len(message) < 300 + len(str(path))


def test_bad_files(tmp_path):
    for path in bad_files(tmp_path):
        with pytest.raises(CheckpointError) as caught:
            load(path)
        assert one_line(caught, path), caught.value
        with pytest.raises(CheckpointError):
            load_model(path)


def test_nothing_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)
    (tmp_path / "x").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(CheckpointError):
        load(tmp_path / "x")
    np.save(tmp_path / "y", np.array([Trap()], object), allow_pickle=True)
    with pytest.raises(CheckpointError):
        load(tmp_path / "y.npy")
    assert not (tmp_path / "sprung").exists()


# ---- a model in a file ----------------------------------------------------------------------------------------------

def save_model(path, m, **changes):
    save(path, checkpoint.pack({"model": m})[0], describe(m, TOKENIZER) | changes)


@pytest.mark.parametrize("kind", ["gpt", "reward", "feedforward"])
def test_a_model_comes_back(tmp_path, kind):
    m = {"gpt": model, "reward": lambda: RewardModel(model(), rng=np.random.default_rng(0)),
         "feedforward": lambda: FeedForward(FeedForwardConfig(V, 3, 4, 5))}[kind]()
    if kind == "reward":
        m.normalise(np.array([1.0, 4.0]))
    save_model(tmp_path / "checkpoint.safetensors", m)
    for path in (tmp_path, tmp_path / "checkpoint.safetensors"):            # the run's folder stands for it
        again, tokenizer, meta = load_model(path, "reward" if kind == "reward" else "gpt", kind)
        assert same(again.state_dict(), m.state_dict()) and again.config == m.config
        assert tokenizer.to_dict() == TOKENIZER.to_dict() and meta["kind"] == kind


def test_a_model_of_the_wrong_kind(tmp_path):
    save_model(tmp_path / "x", model())
    with pytest.raises(CheckpointError, match="x holds a model of kind 'gpt', and 'reward' is needed here"):
        load_model(tmp_path / "x", "reward")
    with pytest.raises(CheckpointError, match="'reward' or 'feedforward' is needed here"):
        load_model(tmp_path / "x", "reward", "feedforward")


def test_a_vocabulary_that_does_not_belong_to_the_model(tmp_path):
    """Fewer tokens than the embedding has rows, or more: the ids would stand for other tokens, or for none."""
    for chars in ("ab", "abcdefghijklmnopqrstuvwxyz"):
        save_model(tmp_path / "x", model(), tokenizer=CharTokenizer(chars).to_dict())
        said = f"the tokenizer has {len(chars) + 2} tokens, and the model's embedding {V}: they do not belong together"
        with pytest.raises(CheckpointError, match=said) as caught:
            load_model(tmp_path / "x")
        assert one_line(caught, tmp_path / "x")


@pytest.mark.parametrize("changes", [{"config": {"vocab_size": 5, "block_size": 8, "n_layer": 2, "n_head": 2, "n_embd": 8}},
                                     {"config": {"vocab_size": V}}, {"config": {"size": "large"}}, {"config": None},
                                     {"tokenizer": {}}, {"tokenizer": None}])
def test_a_model_that_does_not_fit_its_description(tmp_path, changes):
    save_model(tmp_path / "x", model(), **changes)
    with pytest.raises(CheckpointError) as caught:
        load_model(tmp_path / "x")
    assert one_line(caught, tmp_path / "x"), caught.value


def test_a_checkpoint_without_a_model(tmp_path):
    save(tmp_path / "x", ARRAYS, META)
    with pytest.raises(CheckpointError, match="x holds no model"):
        load_model(tmp_path / "x")


# ---- a run that is interrupted --------------------------------------------------------------------------------------

def final(folder):
    return load(folder / "checkpoint.safetensors")


def check_same_end(a, b):
    (tensors, meta), (others, other_meta) = final(a), final(b)
    assert meta["step"] == STEPS and meta == other_meta and same(tensors, others)


class Crash(Exception):
    pass


@pytest.mark.parametrize("error", [Crash, KeyboardInterrupt])
@pytest.mark.parametrize("stage", STAGES)
def test_an_interrupted_run_ends_the_same(tmp_path, monkeypatch, stage, error):
    """Interrupted twice, at any update, by an error or by hand, and resumed: the same bits, the same history."""
    state, history = train(stage, tmp_path / "whole", save_every=3)
    step = AdamW.step
    draws = random.Random(stage)
    for _ in range(2):
        left = draws.randint(1, STEPS // 2 * {"ppo": 8, "grpo": 2}.get(stage, 1))      # so many updates a step

        def crash(opt, **options):
            nonlocal left
            left -= 1
            if not left:
                raise error
            step(opt, **options)
        with monkeypatch.context() as m:
            m.setattr(AdamW, "step", crash)
            with pytest.raises(error):
                train(stage, tmp_path / "halves", save_every=3, resume=True)
    resumed, again = train(stage, tmp_path / "halves", save_every=3, resume=True)
    assert same(state, resumed) and history == again
    check_same_end(tmp_path / "whole", tmp_path / "halves")


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_run_ends_the_same(tmp_path, stage):
    """SIGKILL at random moments, in the middle of writing perhaps, until it finishes all the same."""
    train(stage, tmp_path / "whole", save_every=1)
    draws, kills = random.Random(stage), 0
    command = [sys.executable, "-m", "tests.stages", stage, str(tmp_path / "killed")]
    while True:
        process = subprocess.Popen(command, stderr=subprocess.PIPE, cwd=ROOT)
        if kills < 3:
            wait_for_progress(tmp_path / "killed", process)
            time.sleep(draws.uniform(0, 0.03))
            process.kill()
        errors = process.communicate()[1]
        kills += process.returncode < 0
        assert process.returncode in (0, -9), errors.decode()
        if process.returncode == 0:
            break
    assert kills
    check_same_end(tmp_path / "whole", tmp_path / "killed")


def test_an_interrupt_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    step = AdamW.step
    monkeypatch.setattr(AdamW, "step", lambda opt, **options: step(opt, **options) if opt.step_count < 8 else raise_(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        train("sft", tmp_path, save_every=3)
    assert final(tmp_path)[1]["step"] == 6 and load_model(tmp_path)


def raise_(error):
    raise error


def wait_for_progress(folder, process):
    """Until the process has written one checkpoint more, or is done."""
    def state():
        path = folder / "checkpoint.safetensors"
        return path.stat().st_mtime_ns if path.exists() else None
    before = state()
    while state() == before and process.poll() is None:
        time.sleep(0.001)


def test_a_finished_run_does_nothing_more(tmp_path):
    state, history = train("sft", tmp_path)
    written = (tmp_path / "checkpoint.safetensors").stat().st_mtime_ns
    again, same_history = train("sft", tmp_path, resume=True)
    assert same(state, again) and history == same_history
    assert (tmp_path / "checkpoint.safetensors").stat().st_mtime_ns == written


def test_without_resume_a_run_begins_anew(tmp_path):
    state, history = train("sft", tmp_path)
    again, same_history = train("sft", tmp_path)
    assert same(state, again) and history == same_history


def test_other_settings_are_refused(tmp_path):
    settings = {"lr": 0.1, "betas": (0.9, 0.95), "nested": {"a": None}}
    train("sft", tmp_path, meta=settings)
    train("sft", tmp_path, meta=settings, resume=True)
    for other in (settings | {"lr": 0.2}, settings | {"more": 1}, settings | {"nested": {"a": 0}}):
        with pytest.raises(CheckpointError, match="resume with the same settings, or begin in a new folder") as caught:
            train("sft", tmp_path, meta=other, resume=True)
        assert one_line(caught, tmp_path)
    with pytest.raises(CheckpointError, match="stage 'sft', and this run has 'dpo'"):
        train("dpo", tmp_path, resume=True)


def test_another_number_of_steps_is_refused(tmp_path):
    """The learning rate has followed another curve."""
    run_for(tmp_path, model(), 4)
    with pytest.raises(CheckpointError, match="was made with total 4, and this run has 8"):
        run_for(tmp_path, model(), 8)


def test_another_model_is_refused(tmp_path):
    run_for(tmp_path, model(), 2)
    other = GPT(GPTConfig(V, 8, n_layer=2, n_head=2, n_embd=4))
    before = {name: a.copy() for name, a in other.state_dict().items()}
    with pytest.raises(CheckpointError, match="does not fit this run") as caught:
        run_for(tmp_path, other, 2)
    assert one_line(caught, tmp_path) and same(before, other.state_dict())


def run_for(folder, m, steps, tokenizer=TOKENIZER, **objects):
    for _ in Run(folder, tokenizer=tokenizer, resume=True).steps(steps, model=m, **objects):
        pass


def test_a_model_of_the_same_shapes_that_computes_something_else_is_refused(tmp_path):
    run_for(tmp_path, GPT(GPTConfig(V, 8, n_layer=1, n_head=2, n_embd=4)), 2)
    with pytest.raises(CheckpointError, match="was made with n_head 2, and this run has 4") as caught:
        run_for(tmp_path, GPT(GPTConfig(V, 8, n_layer=1, n_head=4, n_embd=4)), 2)
    assert one_line(caught, tmp_path)
    with pytest.raises(CheckpointError, match="a model of kind 'gpt', and this run has 'feedforward'"):
        run_for(tmp_path, FeedForward(FeedForwardConfig(V)), 2)


def test_another_tokenizer_of_the_same_size_is_refused(tmp_path):
    run_for(tmp_path, model(), 2)
    chars = TOKENIZER.chars
    with pytest.raises(CheckpointError, match="another tokenizer: its ids stand for other tokens") as caught:
        run_for(tmp_path, model(), 2, tokenizer=CharTokenizer(chars[::-1]))
    assert one_line(caught, tmp_path)


def test_an_object_that_the_checkpoint_lacks(tmp_path):
    run_for(tmp_path, model(), 2)
    with pytest.raises(CheckpointError, match="does not fit this run"):
        run_for(tmp_path, model(), 2, rng=np.random.default_rng(0))


def test_a_run_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(CheckpointError, match="cannot write into the run folder") as caught:
            make_folder(folder)
        assert one_line(caught, folder)
    with pytest.raises(CheckpointError, match="cannot write"):
        save(tmp_path / "file" / "x", ARRAYS, META)


def test_a_run_that_is_saved_needs_a_tokenizer(tmp_path):
    with pytest.raises(ValueError, match="tokenizer"):
        Run(tmp_path)


def test_saving_changes_nothing(tmp_path):
    """A run that keeps checkpoints, and one that keeps none, end with the same bits."""
    assert same(train("pretrain", tmp_path, save_every=2)[0], train("pretrain")[0])
