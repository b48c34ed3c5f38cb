"""A model in a checkpoint: what it takes to build it again, and its weights."""
from dataclasses import asdict
from pathlib import Path

from ..checkpoint import CheckpointError, load, one_line, part
from ..text import tokenizer_json
from . import quantised
from .lora import describe_adapters, rebuild_adapters
from .neural import FeedForward, FeedForwardConfig
from .pretrained import check_vocabulary
from .reward import RewardModel
from .tensors import BrokenFile
from .transformer import GPT, GPTConfig

BUILD = {"gpt": lambda config: GPT(GPTConfig(**config)),
         "reward": lambda config: RewardModel(GPT(GPTConfig(**config))),
         "feedforward": lambda config: FeedForward(FeedForwardConfig(**config))}
SAY_WHAT_COMES_NEXT = ("gpt", "feedforward")


def describe(model, tokenizer):
    """What `load_model` needs besides the weights."""
    kind = "reward" if isinstance(model, RewardModel) else "feedforward" if isinstance(model, FeedForward) else "gpt"
    described = {"kind": kind, "config": asdict(model.config), "tokenizer": tokenizer.to_dict()}
    if adapters := describe_adapters(model):
        described["adapters"] = adapters
    how = quantised.kind(model)
    return described if how is None else described | {"quantised": how}


def load_model(path, *kinds):
    """(model, tokenizer, meta) from a checkpoint, or from a run's folder, which has one; `kinds` are those of BUILD that
    will do, "gpt" where none is given."""
    kinds = kinds or ("gpt",)
    path = checkpoint_in(path)
    tensors, meta = load(path)
    try:
        if meta["kind"] not in kinds:
            needed = " or ".join(map(repr, kinds))
            raise CheckpointError(f"{path} holds a model of kind {meta['kind']!r}, and {needed} is needed here")
        model, tokenizer = BUILD[meta["kind"]](meta["config"]), tokenizer_json.from_dict(meta["tokenizer"])
        check_vocabulary(tokenizer, model.config, path)
        if "quantised" in meta:
            quantised.quantise(model, meta["quantised"])                # the weights are drawn: only the shapes are right
        rebuild_adapters(model, meta.get("adapters", {}))
        model.load_state_dict(part(tensors, "model"))
    except BrokenFile as error:
        raise CheckpointError(str(error)) from None
    except KeyError as error:
        raise CheckpointError(f"{path} holds no model: it says nothing about {error}") from None
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path} holds a model that cannot be built: {one_line(error)}") from None
    return model, tokenizer, meta


def checkpoint_in(path):
    """A run's folder stands for the checkpoint in it."""
    path = Path(path)
    return path / "checkpoint.safetensors" if path.is_dir() else path
