"""GGUF, the file in which llama.cpp's models are published: metadata and tensors, some with only four bits a weight.

A quantised tensor is cut into blocks of 32 weights along its rows. A block has a scale d, in some types a smallest value m,
and small integers q; its weights are d q + m. The types whose names end in K have blocks of 256 with parts of 16 or 32, and
the parts' scales are small integers themselves.

The package `gguf` reads the format, too, and the tests hold this file equal to it. It keeps every value of the metadata as
an array of its own: SmolLM2's header, with 49,152 tokens and 48,900 merges, takes it 2.6 s and 160 MB, and 0.08 s and 10 MB
here; all tensors turned back 1.1 s, and 0.5 s here. Hence this file. (One core of an AMD EPYC, 24 November 2026, gguf 0.19.)
"""
import math
import os
import struct
from typing import NamedTuple

import numpy as np

from .tensors import BrokenFile

# Types of metadata, by number; 8 is a string, 9 a list.
NUMBERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, LIST = 8, 9


class Type(NamedTuple):
    """How a tensor lies in the file: blocks of `weights` weights, each block a record."""
    name: str
    weights: int
    record: np.dtype
    values: object                                       # records (N,) -> their weights, N · weights numbers


def halves(q):
    """Four-bit integers, two a byte: the low halves of a part's 16 bytes, or 32, come first. uint8 (N, …, n) -> (N, …, 2n)"""
    return np.concatenate([q & 15, q >> 4], axis=-1)


def fifth(block):
    """A fifth bit for each of 32 weights: uint8 (N, 4) -> (N, 32), 0 or 16"""
    return np.unpackbits(block["h"], axis=-1, bitorder="little") << 4


def scale(block, name="d"):
    return block[name].astype(np.float32)[:, None]       # (N, 1)


def parts(block):
    """Scale and smallest value of the 8 parts, 32 weights each, of a block of 256: float32 (N, 8, 1), (N, 8, 1).

    They are whole numbers of 6 bits times the block's d and m. Of 12 bytes the first four hold the scales of parts 0 … 3, the
    next four the smallest values, and the last four the low four bits of parts 4 … 7, whose upper two are the upper two of the
    first eight bytes.
    """
    first, second, low = np.split(block["s"], 3, axis=1)                           # (N, 4) each
    d = np.concatenate([first & 63, low & 15 | first >> 6 << 4], axis=1)
    m = np.concatenate([second & 63, low >> 4 | second >> 6 << 4], axis=1)
    return (scale(block) * d)[..., None], (scale(block, "m") * m)[..., None]


def q4_k(block):
    d, m = parts(block)
    return d * halves(block["q"].reshape(-1, 4, 32)).reshape(-1, 8, 32) - m


def q5_k(block):
    """As Q4_K; bit i of byte j is the fifth of part i's weight j."""
    d, m = parts(block)
    fifths = (block["h"][:, None] >> np.arange(8, dtype=np.uint8)[:, None] & 1) << 4                     # (N, 8, 32)
    return d * (halves(block["q"].reshape(-1, 4, 32)).reshape(-1, 8, 32) | fifths) - m


def q6_k(block):
    """Two halves of 128 weights: 4 low bits, two weights a byte, 2 high bits, four a byte; a scale of 8 bits for 16 weights."""
    low = halves(block["q"].reshape(-1, 2, 64)).reshape(-1, 2, 4, 32)
    high = block["h"].reshape(-1, 2, 1, 32) >> np.array([0, 2, 4, 6], np.uint8)[:, None] & 3             # (N, 2, 4, 32)
    q = (low | high << 4).reshape(-1, 16, 16).astype(np.float32) - 32
    return (scale(block) * block["s"])[..., None] * q


TYPES = {0: Type("F32", 1, np.dtype("<f4"), lambda x: x),
         1: Type("F16", 1, np.dtype("<f2"), lambda x: x),
         28: Type("F64", 1, np.dtype("<f8"), lambda x: x),
         30: Type("BF16", 1, np.dtype("<u2"), lambda x: (x.astype(np.uint32) << 16).view(np.float32)),
         2: Type("Q4_0", 32, np.dtype([("d", "<f2"), ("q", "u1", 16)]),
                 lambda b: scale(b) * (halves(b["q"]).astype(np.float32) - 8)),
         3: Type("Q4_1", 32, np.dtype([("d", "<f2"), ("m", "<f2"), ("q", "u1", 16)]),
                 lambda b: scale(b) * halves(b["q"]) + scale(b, "m")),
         6: Type("Q5_0", 32, np.dtype([("d", "<f2"), ("h", "u1", 4), ("q", "u1", 16)]),
                 lambda b: scale(b) * ((halves(b["q"]) | fifth(b)).astype(np.float32) - 16)),
         7: Type("Q5_1", 32, np.dtype([("d", "<f2"), ("m", "<f2"), ("h", "u1", 4), ("q", "u1", 16)]),
                 lambda b: scale(b) * (halves(b["q"]) | fifth(b)) + scale(b, "m")),
         8: Type("Q8_0", 32, np.dtype([("d", "<f2"), ("q", "i1", 32)]), lambda b: scale(b) * b["q"]),
         12: Type("Q4_K", 256, np.dtype([("d", "<f2"), ("m", "<f2"), ("s", "u1", 12), ("q", "u1", 128)]), q4_k),
         13: Type("Q5_K", 256, np.dtype([("d", "<f2"), ("m", "<f2"), ("s", "u1", 12), ("h", "u1", 32), ("q", "u1", 128)]), q5_k),
         14: Type("Q6_K", 256, np.dtype([("q", "u1", 128), ("h", "u1", 64), ("s", "i1", 16), ("d", "<f2")]), q6_k)}


class Stored(NamedTuple):
    """A tensor that lies in a file."""
    type: Type
    shape: tuple
    start: int                                           # bytes from the beginning of the file

    @property
    def blocks(self):
        return math.prod(self.shape) // self.type.weights


def read_tensor(path, stored):
    """The tensor's weights, float32 where they were quantised."""
    records = np.fromfile(path, stored.type.record, stored.blocks, offset=stored.start)
    return stored.type.values(records).reshape(stored.shape)


def read_gguf(path):
    """({name: metadata}, {name: Stored}) of a file, whose tensors are all there: if not, a BrokenFile names the first."""
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            take = Cursor(path, file, size)
            if file.read(4) != b"GGUF":
                raise BrokenFile(f"{path} is no GGUF file: it does not begin with the letters GGUF")
            version = take.number("<I")
            if version not in (2, 3):
                raise BrokenFile(f"{path} is of GGUF version {version}; 2 and 3, with the low byte first, can be read")
            n_tensors, n_fields = take.number("<Q"), take.number("<Q")
            fields = {take.text(): take.value(take.number("<I")) for _ in range(n_fields)}
            tensors = dict(take.tensor() for _ in range(n_tensors))
            align = fields.get("general.alignment", 32)
            start = -(-file.tell() // align) * align
    except OSError as error:
        raise BrokenFile(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BrokenFile(f"{path} is broken: a name in its header is not UTF-8") from None
    return fields, {name: placed(path, size, name, *t[:-1], start + t[-1]) for name, t in tensors.items()}


def placed(path, size, name, kind, shape, start):
    """What is known of the tensor, if it can be read."""
    if kind not in TYPES:
        raise BrokenFile(f"{path}: the tensor {name} is of type {kind}, and what can be read is "
                         f"{', '.join(f'{t.name} ({i})' for i, t in TYPES.items())}")
    stored = Stored(TYPES[kind], shape, start)
    if shape and shape[-1] % stored.type.weights:
        raise BrokenFile(f"{path}: the tensor {name} has rows of {shape[-1]} weights, and {stored.type.name} keeps them in "
                         f"blocks of {stored.type.weights}")
    needed = stored.blocks * stored.type.record.itemsize
    if start + needed > size:
        raise BrokenFile(f"{path}: the tensor {name} of shape {shape} and type {stored.type.name} needs {needed:,} bytes and "
                         f"the file has {max(0, size - start):,}: it is broken off, or was not fully copied")
    return stored


class Cursor:
    """Reads what comes next in the header."""

    def __init__(self, path, file, size):
        self.path, self.file, self.size = path, file, size

    def bytes(self, n):
        data = self.file.read(n) if n <= self.size else b""
        if len(data) < n:
            raise BrokenFile(f"{self.path} is broken off within its header: it has {self.size:,} bytes")
        return data

    def number(self, kind):
        return struct.unpack(kind, self.bytes(struct.calcsize(kind)))[0]

    def text(self):
        return self.bytes(self.number("<Q")).decode()

    def value(self, kind):
        if kind == STRING:
            return self.text()
        if kind == LIST:
            kind, n = self.number("<I"), self.number("<Q")
            if kind in NUMBERS:
                data = np.frombuffer(self.bytes(n * struct.calcsize(NUMBERS[kind])), NUMBERS[kind])
                return data.tolist()
            return [self.value(kind) for _ in range(n)]
        if kind not in NUMBERS:
            raise BrokenFile(f"{self.path} is broken: its header has a value of type {kind}, which does not exist")
        return self.number(NUMBERS[kind])

    def tensor(self):
        """(name, (type, shape, bytes from where the data starts)); the file says the innermost axis first."""
        name = self.text()
        shape = tuple(self.number("<Q") for _ in range(self.number("<I")))[::-1]
        return name, (self.number("<I"), shape, self.number("<Q"))
