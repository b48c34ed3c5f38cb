"""Low-rank adapters (Hu et al. 2022 [LORA]): the weights stay as they are, and beside each matrix two thin ones learn.

    y = x Wᵀ + b + (α / r) (x Aᵀ) Bᵀ,   W (out, in) frozen, A (r, in) and B (out, r) trained

A starts random and B at zero, so that the model is at first what it was. The product B A has rank r at most: what a task
changes in a large model is assumed to have few directions. Gradients and the optimizer's moments are needed of r (in + out)
numbers a matrix instead of in · out.
"""
import numpy as np

from .. import functional as F
from ..backend import beside
from ..nn import Linear, Module, Parameter


class LoRA(Module):
    """What one linear layer is given: A (rank, in), B (out, rank), arrays; their product counts (alpha / rank) times."""

    def __init__(self, A, B, alpha, *, like):
        self.A, self.B = (Parameter(x, dtype=like.dtype, device=like.device) for x in (A, B))
        self.alpha = alpha
        self.original = None                             # the layer's own weight, while the product is merged into it

    rank = property(lambda self: self.A.shape[0])
    scale = property(lambda self: self.alpha / self.rank)

    def forward(self, x, y):
        """y plus the adapter's share: x (..., in), y (..., out), which is x Wᵀ and what else it is added to."""
        if self.original is not None:
            return y
        return F.linear_add(y, F.linear(x, self.A) * self.scale, self.B)

    def added_to(self, weight):
        """W + (α / r) B A, an array (out, in); of a merged adapter, the weight as it is."""
        return weight if self.original is not None else weight + self.scale * (self.B.data @ self.A.data)


# ---- which layers ----------------------------------------------------------------------------------------------------

def linears(module, prefix=""):
    """(name, Linear) of every linear layer, e.g. ("blocks.0.attn.qkv", …)."""
    for name, child in module.children():
        if isinstance(child, Linear):
            yield prefix + name, child
        elif isinstance(child, Module):
            yield from linears(child, f"{prefix}{name}.")


def adapted(model):
    """[(name, Linear)] of the layers that have an adapter."""
    return [(name, layer) for name, layer in linears(model) if layer.adapter is not None]


def adapters(model):
    """{name of a layer: its LoRA}"""
    return {name: layer.adapter for name, layer in adapted(model)}


def meant(model, where):
    """The layers whose dotted names have one of `where` in them, as whole words: "blocks", "attn", "mlp.fc", "blocks.0"."""
    names = dict(linears(model))
    for word in where:
        if not any(f".{word}." in f".{name}." for name in names):
            raise ValueError(f"no linear layer of this {type(model).__name__} has {word!r} in its name; there are "
                             f"{', '.join(names) or 'none that could be adapted'}")
    return [(name, layer) for name, layer in names.items() if any(f".{word}." in f".{name}." for word in where)]


# ---- adding and taking away ------------------------------------------------------------------------------------------

def add_adapters(model, rank, *, alpha=16, where=("blocks",), rng):
    """Freeze the model and give the layers that `where` means (see `meant`; by default all of the blocks) an adapter of this
    rank; returns the model.

    Only the adapters train from now on: make the optimizer afterwards. A is uniform in ±1/√in, as a Linear is, drawn from
    `rng`; B is 0. `alpha` stays the same for every rank, so that the learning rate may ([LORA], sec. 4.1). What is new to
    the task has to train whole, and is thawed afterwards, as in model.wte.weight.requires_grad = True for tokens that the
    model has never seen. Of a reward model give the `body`: its head stays as it is, and trains.
    """
    if rank < 1:
        raise ValueError(f"the rank of an adapter is at least 1, not {rank}")
    chosen = meant(model, where)
    refuse_adapters(model, "more of them cannot be added")
    model.requires_grad_(False)
    for _, layer in chosen:
        n_out, n_in = layer.weight.shape
        bound = n_in ** -0.5
        layer.adapter = LoRA(rng.uniform(-bound, bound, (rank, n_in)), np.zeros((n_out, rank)), alpha, like=layer.weight)
    return model


def merge(model):
    """Put each adapter's product into its layer's weight: the same outputs, but for rounding, at the cost of none. Merged
    adapters do not train. The weights as they were are kept, so that `unmerge` brings the very same back."""
    for _, layer in adapted(model):
        merged = layer.whole()
        if layer.adapter.original is None:
            layer.adapter.original, layer.weight.data = layer.weight.data, merged
    return model


def unmerge(model):
    """Undo `merge`, to the bit."""
    for _, layer in adapted(model):
        if layer.adapter.original is not None:
            original = beside(layer.adapter.original, layer.weight.data)            # the model may have moved since
            layer.weight.data, layer.adapter.original = original.astype(layer.weight.dtype, copy=False), None
    return model


def remove_adapters(model):
    """Take the adapters away. What was merged stays in the weights; what was not is gone. The weights stay frozen until
    model.requires_grad_() thaws them."""
    for _, layer in adapted(model):
        layer.adapter = None
    return model


def refuse_adapters(model, what):
    """An error where the model has adapters: `what` cannot be done."""
    found = adapters(model)
    if found:
        raise ValueError(f"this {type(model).__name__} has adapters, on {next(iter(found))} and {len(found) - 1} more "
                         f"layers: {what}. merge(model) and remove_adapters(model) of models/lora.py make it a plain one")


# ---- in a checkpoint -------------------------------------------------------------------------------------------------

def describe_adapters(model):
    """{name of a layer: (rank, alpha)}, as a checkpoint keeps it beside the weights."""
    if any(a.original is not None for a in adapters(model).values()):
        raise ValueError("the adapters are merged, and a checkpoint would add them a second time: unmerge(model) or "
                         "remove_adapters(model) first")
    return {name: (a.rank, a.alpha) for name, a in adapters(model).items()}


def rebuild_adapters(model, described):
    """The adapters that `describe_adapters` described, of zeros: their numbers are read in a moment."""
    if not described:
        return
    layers = dict(linears(model))
    model.requires_grad_(False)
    for name, (rank, alpha) in described.items():
        n_out, n_in = layers[name].weight.shape
        layers[name].adapter = LoRA(np.zeros((rank, n_in)), np.zeros((n_out, rank)), alpha, like=layers[name].weight)
