"""A GPT or BERT whose weights take 8 or 4 bits: the same network to read and write with, in a fraction of the memory."""
from ..backend import beside
from ..functional import check_ids, raw
from ..modes import grad_enabled
from ..nn import Linear, Module, Parameter
from ..ops import quantise as q
from ..tensor import Tensor
from .bert import BERT
from .lora import refuse_adapters
from .transformer import GPT

KINDS = ("int8", "int4")


class Quantised(Module):
    """y = x Wᵀ + b with W in few bits. No gradient flows through it: train first, quantise then."""

    def forward(self, x, add_to=None):
        """x (..., in) -> (..., out), plus the tensor `add_to` of that shape, if there is one."""
        if grad_enabled() and (x.requires_grad or add_to is not None and add_to.requires_grad):
            raise RuntimeError("a quantised layer has no gradient, and what it reads asks for one: train in float32 and "
                               "quantise what was learned, or read within no_grad()")
        y = self.product(x.data.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)
        if self.bias is not None:
            y += self.bias.data
        return Tensor(y if add_to is None else y + add_to.data)


class Int8Linear(Quantised):
    """A whole number of −127 … 127 for each weight, and a scale for each row: weight int8 (out, in), scale (out,)."""

    def __init__(self, weight, bias=None):
        codes, scale = q.int8_rows(weight)
        self.weight, self.scale = (Parameter(a, False) for a in (codes, scale))
        self.bias = bias

    def product(self, x):
        return q.int8_product(x, self.weight.data, self.scale.data)


class Int4Linear(Quantised):
    """Four bits for each weight, and a scale and a lowest value for each group of 32: shapes as in ops/quantise.py."""

    def __init__(self, weight, bias=None):
        self.weight, self.scale, self.low = (Parameter(a, False) for a in q.int4_groups(weight))
        self.bias = bias

    def product(self, x):
        return q.int4_product(x, self.weight.data, self.scale.data, self.low.data)


class Int8Embedding(Module):
    """The table of an Int8Linear, read by rows: with a tied head both are the same memory."""

    def __init__(self, table):
        self.weight, self.scale = table.weight, table.scale

    def forward(self, idx):
        """idx int (...) -> (..., C)"""
        idx = raw(idx)
        check_ids(idx, len(self.weight), "token id")
        idx = beside(idx, self.weight.data)
        return Tensor(q.int8_weight(self.weight.data[idx], self.scale.data[idx]))


LINEAR = {"int8": Int8Linear, "int4": Int4Linear}


def quantise(model, how):
    """Replace the linear layers of a GPT or BERT, in place, by such of `how`, "int8" or "int4"; returns the model, frozen.

    Its embedding and a GPT's head become int8 in either case: they are read by rows, and the head's errors reach the scores
    directly. Norms, biases and learned positions stay, in float32, and so does a BERT's head that guesses tokens, with the
    embedding that it shares.
    """
    if how not in KINDS:
        raise ValueError(f"weights are quantised to {' or '.join(KINDS)}, not {how!r}")
    if not isinstance(model, (GPT, BERT)):
        raise TypeError(f"a GPT or a BERT can be quantised, not a {type(model).__name__}")
    if kind(model) is not None:
        raise ValueError(f"the model is quantised to {kind(model)} already: quantise the one that was trained")
    refuse_adapters(model, "they would be lost")
    for name, layer in list(layers(model)):
        replaced(model, name, lambda: LINEAR[how](layer.weight.data.astype("f4"), layer.bias))
    if isinstance(model, GPT) or model.head is None:
        table = replaced(model, "wte", lambda: Int8Linear(model.wte.weight.data.astype("f4")))
        model.wte = Int8Embedding(table)
    if isinstance(model, GPT):
        model.head = table if model.head is None else replaced(
            model, "head", lambda: Int8Linear(model.head.weight.data.astype("f4"), model.head.bias))
    for p in model.parameters():
        if p.dtype == "f8":
            p.data = p.data.astype("f4")
    return model.requires_grad_(False).eval()


def layers(model):
    """(name, layer) of the linear layers within the blocks."""
    for i, block in enumerate(model.blocks):
        for part in ("attn", "mlp"):
            for name, layer in vars(getattr(block, part)).items():
                if isinstance(layer, (Linear, Quantised)):
                    yield f"blocks.{i}.{part}.{name}", layer


def replaced(model, name, make):
    """Put what make() gives in the place called `name`; an error says which place it was."""
    *path, last = name.split(".")
    owner = model
    for step in path:
        owner = owner[int(step)] if step.isdigit() else getattr(owner, step)
    try:
        layer = make()
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    setattr(owner, last, layer)
    return layer


def kind(model):
    """"int8" or "int4"; None for a model that is not quantised."""
    layer = next((layer for _, layer in layers(model)), None) if isinstance(model, (GPT, BERT)) else None
    return next((how for how, cls in LINEAR.items() if isinstance(layer, cls)), None)


def memory(model):
    """Bytes of the weights by part of the network: {"embedding": …, "blocks": …, …}; a tied head takes none."""
    names = {"wte": "embedding", "wpe": "positions", "wse": "segments", "ln": "norm", "ln_f": "norm"}
    parts = {}
    for name, p in model.named_parameters():
        part = names.get(name.split(".")[0], name.split(".")[0])
        parts[part] = parts.get(part, 0) + p.data.nbytes
    return parts
