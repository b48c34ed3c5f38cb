"""What a run must remember to go on exactly where it was: one safetensors file, replaced as a whole or not at all."""
import json
import os
from pathlib import Path

import numpy as np

from .backend import to_host

FORMAT = "tinygrad_lm 1"


class CheckpointError(Exception):
    """A checkpoint that is missing, broken, or not what it should be; the message is one line and names the file."""


def save(path, tensors, meta):
    """Write {name: array} and `meta` (anything JSON can hold) so that a crash leaves the old file or the new one whole."""
    from safetensors.numpy import save as to_bytes
    path = Path(path)
    data = to_bytes({name: np.asarray(to_host(a), order="C") for name, a in tensors.items()},
                    metadata={"format": FORMAT, "meta": json.dumps(meta, ensure_ascii=False)})
    write(path, data)


def write(path, data):
    """`replace`, for a person: what keeps the file from being written is a CheckpointError that names it."""
    try:
        replace(path, data)
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {error.strerror}") from error


def replace(path, data):
    """Write bytes as the file `path`, all of them or none: a crash leaves the old file or the new one whole."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(unfinished, "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())                        # on the disk before it takes the old one's name
    os.replace(unfinished, path)


def load(path):
    """(tensors, meta) of a file that `save` wrote."""
    from safetensors import SafetensorError, safe_open
    if Path(path).is_dir():
        raise CheckpointError(f"{path} is a folder, not a checkpoint")
    try:
        with safe_open(path, framework="numpy") as f:
            head = f.metadata() or {}
            if head.get("format") != FORMAT:
                raise CheckpointError(f"{path} is a safetensors file, but not a checkpoint of {FORMAT.split()[0]}")
            return {name: f.get_tensor(name) for name in f.keys()}, json.loads(head["meta"])
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist") from None
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except (SafetensorError, json.JSONDecodeError, KeyError) as error:
        raise CheckpointError(f"{path} is no checkpoint, or is broken or cut short: {error}") from None


def one_line(error):
    """The first two lines of an error's message as one, and how many more there are."""
    head, *rest = str(error).splitlines()
    more = f" (and {len(rest) - 1} more)" if len(rest) > 1 else ""
    return " ".join([head, *(line.strip() for line in rest[:1])]) + more


def pack(objects):
    """The state of {name: Module, Optimizer or random Generator} as (tensors, states of the generators)."""
    tensors = {f"{name}/{key}": a for name, x in objects.items() if hasattr(x, "state_dict")
               for key, a in x.state_dict().items()}
    return tensors, {name: rng.bit_generator.state for name, rng in _generators(objects)}


def unpack(objects, tensors, generators):
    """Put the state that `pack` took back into the same objects."""
    for name, x in objects.items():
        if hasattr(x, "load_state_dict"):
            x.load_state_dict(part(tensors, name))
    for name, rng in _generators(objects):
        rng.bit_generator.state = generators[name]


def _generators(objects):
    """(name, generator): the ones given, and those from which the modules' dropout draws."""
    for name, x in objects.items():
        if hasattr(x, "bit_generator"):
            yield name, x
        elif hasattr(x, "modules"):
            yield from ((f"{name}/{i}", m.rng) for i, m in enumerate(x.modules()) if hasattr(m, "rng"))


def part(tensors, name):
    """The tensors of one object, under their own names."""
    return {key.removeprefix(f"{name}/"): a for key, a in tensors.items() if key.startswith(f"{name}/")}
