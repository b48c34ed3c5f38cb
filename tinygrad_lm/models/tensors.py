"""Tensors of a safetensors file one at a time, as float arrays: bfloat16, which NumPy does not know, too."""
import json
import math
from pathlib import Path

import numpy as np

TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
         "U8": "u1", "BOOL": "?"}
INDEX = "model.safetensors.index.json"


class BrokenFile(ValueError):
    """A file that is not what its name says: which, and what is wrong with it."""


def tensor_files(folder):
    """{name of a tensor: the file that holds it}: of model.safetensors, or of the parts that its index names."""
    folder = Path(folder)
    if (folder / INDEX).exists():
        places = read_json(folder / INDEX).get("weight_map")
        if not isinstance(places, dict):
            raise BrokenFile(f"{folder / INDEX} has no weight_map, which says what lies where")
        missing = sorted({file for file in places.values() if not (folder / file).exists()})
        if missing:
            raise BrokenFile(f"{folder / INDEX} names parts that are not there: {', '.join(missing)}")
        return {name: folder / file for name, file in places.items()}
    path = folder / "model.safetensors"
    if not path.exists():
        raise BrokenFile(f"{folder} has neither model.safetensors nor {INDEX}")
    return {name: path for name in header(path)[0]}


def read_tensor(path, name):
    """The tensor `name` of the file: an array of its shape, whose memory is its own; bfloat16 comes as float32."""
    entries, start = header(path)
    if name not in entries:
        raise BrokenFile(f"{path} has no tensor {name!r}, though its index says so")
    kind, shape, (begin, end) = (entries[name][key] for key in ("dtype", "shape", "data_offsets"))
    if kind not in TYPES:
        raise BrokenFile(f"{path}: the tensor {name!r} is of type {kind}, and known are {', '.join(TYPES)}")
    dtype = np.dtype(TYPES[kind])
    if end - begin != math.prod(shape) * dtype.itemsize or start + end > path.stat().st_size:
        raise BrokenFile(f"{path}: the tensor {name!r} of shape {tuple(shape)} and type {kind} needs "
                         f"{math.prod(shape) * dtype.itemsize:,} bytes and the file has "
                         f"{max(0, min(end, path.stat().st_size - start) - begin):,}: it is broken off, or was not fully copied")
    x = np.fromfile(path, dtype, math.prod(shape), offset=start + begin).reshape(shape)
    return (x.astype(np.uint32) << 16).view(np.float32) if kind == "BF16" else x


def header(path):
    """({name: dtype, shape, data_offsets}, where the data starts)"""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if not 2 <= size <= min(path.stat().st_size, 100 << 20):
            raise BrokenFile(f"{path} is no safetensors file: its first 8 bytes, the length of its header, say {size:,}, and "
                             f"it has {path.stat().st_size:,} bytes")
        try:
            entries = json.loads(file.read(size))
        except ValueError:
            raise BrokenFile(f"{path} is no safetensors file: its header is not JSON") from None
    entries.pop("__metadata__", None)
    return entries, 8 + size


def read_json(path):
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BrokenFile(f"{path} is not there") from None
    except ValueError as error:
        raise BrokenFile(f"{path} is not JSON: {error}") from None
