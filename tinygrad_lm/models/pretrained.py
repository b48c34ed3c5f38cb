"""Models in the layout that Hugging Face's libraries share: config.json and model.safetensors, read and written."""
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..checkpoint import replace
from ..text import tokenizer_json
from .architectures import ARCHITECTURES
from .bert import BERT
from .lora import refuse_adapters
from .tensors import BrokenFile, read_json, read_tensor, tensor_files
from .transformer import GPT

WEIGHTS = "model.safetensors"


def from_pretrained(folder, *, dtype=np.float32):
    """The model that lies in `folder`: a GPT of GPT-2's, GPT-NeoX's or LLaMA's shape, or a BERT.

    Its weights become `dtype`, whatever they are stored in. Tensors are read one at a time: memory holds the weights and
    one of them. A tensor that is missing, surplus or misshapen, an unknown architecture, a broken file: a BrokenFile that
    names it.
    """
    folder = Path(folder)
    settings = read_json(folder / "config.json")
    kind = settings.get("model_type")
    if kind not in ARCHITECTURES:
        raise BrokenFile(f"{folder / 'config.json'}: the architecture {kind!r} is not known here; known are "
                         f"{', '.join(ARCHITECTURES)}")
    try:
        config = ARCHITECTURES[kind].config(settings)
    except KeyError as error:
        raise BrokenFile(f"{folder / 'config.json'} says nothing about {error}, which {kind} needs") from None
    except ValueError as error:
        raise BrokenFile(f"{folder / 'config.json'}: {error}") from None
    files = tensor_files(folder)
    body = with_prefix(files, ARCHITECTURES[kind].prefix)
    model = BERT(config, rng=Undrawn(), head=any("predictions" in name for name in files)) if kind == "bert" else \
        GPT(config, rng=Undrawn())
    fill(model.to(dtype), ARCHITECTURES[kind], body, folder)
    return model


def load_tokenizer(folder, model):
    """The tokenizer that lies in `folder` (tokenizer.json, or vocab.json and merges.txt, or vocab.txt), if it is the model's."""
    tokenizer = tokenizer_json.load(folder)
    check_vocabulary(tokenizer, model.config, folder)
    return tokenizer


def check_vocabulary(tokenizer, config, where="this model"):
    """Refuse a tokenizer that has ids without an embedding, or far fewer: publishers round the embedding up to numbers that
    GPUs like, by up to 2 %."""
    V, rows = len(tokenizer), config.vocab_size
    if not V <= rows <= 1.02 * V:
        raise BrokenFile(f"{where}: the tokenizer has {V:,} tokens, and the model's embedding {rows:,}: they do not belong "
                         "together")


def with_prefix(files, prefix):
    """A model saved without its head has names that lack the prefix: here they get it."""
    if any(name.startswith(prefix) for name in files):
        return {name: (path, name) for name, path in files.items()}
    return {prefix + name: (path, name) for name, path in files.items()}


def fill(model, architecture, files, folder, *, read=read_tensor, said="config.json"):
    """Read every tensor into its parameter; refuse what does not fit, naming all of it, before the first is read.

    files {name: arguments of `read`, the file first}; `said` is where the shapes were said.
    """
    own = dict(model.named_parameters())
    places = [place for place in architecture.places(model) if place.ours in own]
    needed = [name for place in places for name in place.theirs]
    surplus = [name for name in files if name not in needed and not architecture.ignored(name, model.config)]
    wrong = [f"  missing: {name}" for name in needed if name not in files] + [f"  unknown: {name}" for name in surplus]
    if wrong:
        raise BrokenFile(f"the tensors in {folder} are not those of its {said}:\n" + "\n".join(wrong))
    for place in places:
        p = own[place.ours]
        tensors = [read(*files[name]) for name in place.theirs]
        for name, tensor, shape in zip(place.theirs, tensors, [x.shape for x in place.how.split(p.data, model.config)]):
            if tensor.shape != shape:
                raise BrokenFile(f"{files[name][0]}: the tensor {name} has shape {tensor.shape}, and by {said} it has "
                                 f"{shape}")
        p.data[...] = place.how.join(tensors, model.config)


def save_pretrained(model, folder):
    """Write the model so that `from_pretrained`, and Hugging Face's transformers, read it: atomically, file by file."""
    from safetensors.numpy import save
    refuse_adapters(model, "this layout has no place for them")
    kind = architecture_of(model)
    own, tensors = dict(model.named_parameters()), {}
    for place in ARCHITECTURES[kind].places(model):
        if place.ours in own:
            tensors |= dict(zip(place.theirs, place.how.split(own[place.ours].numpy(), model.config)))
    tensors = {name: np.ascontiguousarray(x) for name, x in tensors.items()}
    folder = Path(folder)
    settings = {"model_type": kind, "dtype": str(model.wte.weight.dtype)} | ARCHITECTURES[kind].settings(model)
    replace(folder / "config.json", json.dumps(settings, indent=2).encode() + b"\n")
    replace(folder / WEIGHTS, save(tensors, metadata={"format": "pt"}))


def architecture_of(model):
    """The name of the architecture that has this model's shape."""
    kind = next((k for k, a in ARCHITECTURES.items() if a.fits(model)), None)
    if kind is None:
        raise ValueError(f"none of {', '.join(ARCHITECTURES)} has this model's shape: {model.config}")
    return kind


class Undrawn(NamedTuple):
    """In place of a generator, for weights that are read in a moment: memory, and no numbers drawn."""

    def uniform(self, low, high, shape):
        return np.empty(shape, np.float32)

    def normal(self, mean, std, shape):
        return 0

    def standard_normal(self, shape, dtype=np.float32):
        return np.empty(shape, dtype)
