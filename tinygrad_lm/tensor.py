"""The engine: a Tensor is an array that remembers how it was made, and backward() walks that memory in reverse."""
import inspect
from itertools import count
from operator import attrgetter

import numpy as np

from .backend import array_module, beside, check_one_device, cuda_loaded, device_of, to_device, to_host
from .modes import anomaly_detection, grad_enabled

FLOAT = np.float32                      # what Python numbers and lists become


class Tensor:
    """An array, and, where `requires_grad`, a place in the graph that backward() walks.

    `data` is an array of NumPy, or of CuPy on a GPU, and is shared, not copied; a list or a number becomes float32;
    device="cuda" moves it to the GPU. A leaf (a tensor that no operation made) receives its gradient in `.grad`, a plain
    array of its own shape, dtype and device; gradients of several backward() calls add up until you set `.grad = None`.
    """
    __slots__ = ("data", "grad", "requires_grad", "node", "grad_buffer", "__weakref__")
    __array_ufunc__ = None              # so that `array * tensor` asks Tensor.__rmul__

    def __init__(self, data, requires_grad=False, *, dtype=None, device=None):
        if type(data) is not np.ndarray:
            data = _as_array(data, dtype)
        if dtype is not None:
            data = data.astype(dtype, copy=False)
        if device is not None:
            data = to_device(data, device)
        if data.dtype.kind not in "fiub":
            raise TypeError(f"a tensor holds numbers, not {data.dtype}: {data!r}"[:200])
        if requires_grad and data.dtype.kind != "f":
            raise TypeError(f"only floating-point tensors have gradients and this one is {data.dtype}: "
                            f"give it as float32 or float64, e.g. Tensor(x, True, dtype=np.float32)")
        self.data, self.requires_grad = data, requires_grad
        self.grad = None
        self.node = None                # the operation that made it; None for a leaf
        self.grad_buffer = None         # where an optimizer wants .grad to lie, if it does

    shape = property(lambda self: self.data.shape)
    dtype = property(lambda self: self.data.dtype)
    ndim = property(lambda self: self.data.ndim)
    size = property(lambda self: self.data.size)
    device = property(lambda self: device_of(self.data))

    def numpy(self):
        """The values as a NumPy array on the host (shared, not copied, when they are there already)."""
        return to_host(self.data)

    def item(self):
        """The value of a tensor of one element, as a Python number."""
        if self.size != 1:
            raise ValueError(f"item() is for one element and this tensor has shape {self.shape}: index it first")
        return self.data.item()

    def detach(self):
        """The same array outside the graph: no gradient flows through it."""
        return Tensor(self.data)

    def __len__(self):
        if not self.shape:
            raise TypeError("len() of a tensor without axes")
        return self.shape[0]

    def __bool__(self):
        return bool(self.item())

    def __repr__(self):
        values = np.array2string(self.numpy(), precision=4, threshold=20, separator=", ")
        made = f", made by {self.node.name}" if self.node else ", requires_grad=True" if self.requires_grad else ""
        return f"Tensor({values}, shape={self.shape}, {self.dtype}{made})"

    def backward(self, grad=None, *, retain_graph=False):
        """Add d(self)/d(leaf) to `.grad` of every leaf that requires a gradient.

        `grad`, of self's shape, is the gradient of what you want with respect to self; an array is moved to self's
        device. It may be left out for a tensor of one element, where it is 1. The graph is freed on the way, so that memory
        falls while it runs; `retain_graph=True` keeps it for a second call.
        """
        if not self.requires_grad:
            raise RuntimeError("backward() on a tensor that requires no gradient: none of the tensors it was computed "
                               "from has requires_grad=True, or it was computed under no_grad")
        if grad is None:
            if self.size != 1:
                raise RuntimeError(f"backward() on shape {self.shape} needs a seed gradient of that shape: pass one, "
                                   "or reduce to a scalar first, e.g. with .sum() or .mean()")
            grad = array_module(self.data).ones_like(self.data)
        grad = beside(grad.data if isinstance(grad, Tensor) else grad, self.data)
        if grad.shape != self.shape:
            raise ValueError(f"the seed gradient has shape {grad.shape}, the tensor {self.shape}: they must be equal")
        _backpropagate(self.node or self, grad.astype(self.dtype, copy=False), retain_graph)


def _as_array(data, dtype):
    """What a tensor is made of, where that is no NumPy array yet."""
    if isinstance(data, Tensor):
        return data.data
    if isinstance(data, np.generic):
        return np.asarray(data)
    if hasattr(data, "dtype"):                                                  # an array of another kind
        return data
    data = np.asarray(data, dtype)
    return data.astype(FLOAT) if data.dtype == np.float64 and dtype is None else data


class Node:
    """One operation in the graph: how to send a gradient back, and to whom.

    `inputs` are the nodes that made the inputs, or leaf tensors, or None where no gradient is wanted: never the
    intermediate tensors, whose arrays live on only where `saved` needs them. Nothing points from here to the result,
    so that reference counting alone frees a graph.
    """
    __slots__ = ("name", "backward", "inputs", "saved", "shape", "dtype", "number")
    numbers = count()                   # a node is younger, and its number larger, than all that it depends on
    watch = None                        # watch(node, result) is told of every new node: see train/graph_picture.py

    def __init__(self, name, backward, inputs, saved, result):
        self.name, self.backward, self.inputs, self.saved = name, backward, inputs, saved
        self.shape, self.dtype = result.shape, result.dtype
        self.number = next(Node.numbers)
        if Node.watch:
            Node.watch(self, result)


def _backpropagate(root, grad, retain_graph):
    """Hand each node the sum of its results' gradients, once, from the root down to the leaves."""
    if isinstance(root, Tensor):
        return _receive(root, grad)
    pending, owned, checked = {root: grad}, set(), anomaly_detection()
    for node in _from_the_root(root):
        inputs = node.inputs
        wanted = tuple([t is not None for t in inputs]) if None in inputs else (True,) * len(inputs)
        for t, g in zip(inputs, node.backward(pending.pop(node), node.saved, wanted)):
            if t is None:
                continue
            if checked and not array_module(g).isfinite(g).all():
                raise FloatingPointError(f"backward of `{node.name}` produced NaN or infinity (shape {g.shape})")
            like = t if type(t) is Node else t.data
            if g.shape != like.shape:
                g = unbroadcast(g, like.shape)
            if g.dtype is not like.dtype:
                g = g.astype(like.dtype)
            if like is not t:
                _receive(t, g)
            elif t not in pending:
                pending[t] = g                      # perhaps another node holds it too: read only
            elif t in owned:
                pending[t] += g
            else:
                pending[t] = pending[t] + g         # a new array, which is ours to add to
                owned.add(t)
        if not retain_graph:
            node.saved = node.inputs = None


def _from_the_root(root):
    """Every node under `root`, each before the nodes that it depends on: the youngest first."""
    seen, stack = {root}, [root]
    while stack:
        node = stack.pop()
        if node.inputs is None:
            raise RuntimeError(f"backward() a second time through `{node.name}`, whose graph was freed by the first: "
                               "call the first with retain_graph=True, or compute the result anew")
        for t in node.inputs:
            if type(t) is Node and t not in seen:
                seen.add(t)
                stack.append(t)
    return sorted(seen, key=attrgetter("number"), reverse=True)


def _receive(leaf, g):
    """Add `g` to a leaf's gradient, in memory that belongs to the leaf alone."""
    if leaf.grad is not None:
        leaf.grad += g
    elif leaf.grad_buffer is not None:
        leaf.grad_buffer[...] = g
        leaf.grad = leaf.grad_buffer
    else:
        leaf.grad = array_module(leaf.data).array(g)


def unbroadcast(g, shape):
    """The transpose of broadcasting: sum `g` over the axes along which an array of `shape` was repeated."""
    new = g.ndim - len(shape)
    repeated = tuple(range(new)) + tuple(new + i for i, n in enumerate(shape) if n == 1 and g.shape[new + i] != 1)
    return g.sum(repeated).reshape(shape)


def op(forward, backward):
    """A differentiable function on tensors, from a pair of functions on arrays.

    `forward(*arrays, **options)` returns the result and what the backward will need; `backward(dy, saved)` returns a
    gradient an input, and takes `needs`, a bool an input, where it can spare itself work that nobody asked for.
    """
    name = forward.__name__.removesuffix("_forward")
    if "needs" not in inspect.signature(backward).parameters:
        plain, backward = backward, lambda dy, saved, needs: plain(dy, saved)

    def apply(*inputs, **options):
        operands, sources, dtypes = [], [], []
        for t in inputs:
            if isinstance(t, Tensor):
                operands.append(t.data)
                dtypes.append(t.data.dtype)
                sources.append((t.node or t) if t.requires_grad else None)
            else:
                sources.append(None)
        if dtypes.count(dtypes[0] if dtypes else None) < len(inputs):           # not tensors of one type, the usual case
            operands = _mixed_operands(inputs)
        for key, value in options.items():
            if isinstance(value, np.generic):
                options[key] = value.item()
        if cuda_loaded():
            check_one_device(name, (*operands, *options.values()))
        try:
            y, saved = forward(*operands, **options)
        except ValueError as error:
            shapes = " and ".join(str(np.shape(t)) for t in inputs)
            raise ValueError(f"{name} of shapes {shapes}: {error}") from None
        result = Tensor(y)
        if anomaly_detection() and not array_module(y).isfinite(y).all():
            raise FloatingPointError(f"`{name}` produced NaN or infinity (shape {result.shape})")
        if sources.count(None) < len(sources) and grad_enabled():
            result.requires_grad, result.node = True, Node(name, backward, sources, saved, result.data)
        return result

    apply.__name__ = apply.__qualname__ = name
    return apply


def _mixed_operands(inputs):
    """The inputs' arrays. Python and NumPy numbers stay Python numbers, so that they turn no float32 into float64."""
    raw = [t.data if isinstance(t, Tensor) else t.item() if isinstance(t, np.generic) else t for t in inputs]
    floats = [t.dtype for t in raw if hasattr(t, "dtype") and t.dtype.kind == "f"]
    dtype = floats[0] if floats else FLOAT
    xp = array_module(next((t for t in raw if hasattr(t, "dtype")), None))       # a list joins the arrays it meets
    raw = [t if hasattr(t, "dtype") or isinstance(t, (int, float)) else xp.asarray(t, dtype) for t in raw]
    if not any(hasattr(t, "dtype") for t in raw):
        return [np.asarray(t, FLOAT) for t in raw]
    floats = floats or any(isinstance(t, float) for t in raw)
    return [t.astype(dtype) if floats and hasattr(t, "dtype") and t.dtype.kind in "iu" else t for t in raw]
