"""A model in a checkpoint: what it takes to build it again, and its weights."""
from dataclasses import asdict
from pathlib import Path

from ..checkpoint import CheckpointError, load, one_line, part
from ..text import tokenizer_json
from . import quantised
from .lora import describe_adapters, rebuild_adapters
from .reward import RewardModel
from .transformer import GPT, GPTConfig


def describe(model, tokenizer):
    """What `load_model` needs besides the weights."""
    kind = "reward" if isinstance(model, RewardModel) else "gpt"
    described = {"kind": kind, "config": asdict(model.config), "tokenizer": tokenizer.to_dict()}
    if adapters := describe_adapters(model):
        described["adapters"] = adapters
    how = quantised.kind(model)
    return described if how is None else described | {"quantised": how}


def load_model(path, kind="gpt"):
    """(model, tokenizer, meta) from a checkpoint, or from a run's folder, which has one; `kind` is "gpt" or "reward"."""
    path = checkpoint_in(path)
    tensors, meta = load(path)
    try:
        if meta["kind"] != kind:
            raise CheckpointError(f"{path} holds a model of kind {meta['kind']!r}, and {kind!r} is needed here")
        model, tokenizer = GPT(GPTConfig(**meta["config"])), tokenizer_json.from_dict(meta["tokenizer"])
        if kind == "reward":
            model = RewardModel(model)
        if "quantised" in meta:
            quantised.quantise(model, meta["quantised"])                # the weights are drawn: only the shapes are right
        rebuild_adapters(model, meta.get("adapters", {}))
        model.load_state_dict(part(tensors, "model"))
    except KeyError as error:
        raise CheckpointError(f"{path} holds no model: it says nothing about {error}") from None
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path} holds a model that cannot be built: {one_line(error)}") from None
    return model, tokenizer, meta


def checkpoint_in(path):
    """A run's folder stands for the checkpoint in it."""
    path = Path(path)
    return path / "checkpoint.safetensors" if path.is_dir() else path
