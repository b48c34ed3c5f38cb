"""Gradient checkpointing: what a block computes on the way is not kept for backward but computed a second time, so that
memory is paid for with time (Chen et al. 2016 [SUBLIN])."""
from contextlib import contextmanager

from .modes import check_replayed, grad_enabled, gradients_on, replaying
from .tensor import Node, Tensor


def checkpoint(f, *inputs, rngs=None):
    """f(*inputs), one tensor, of which backward keeps nothing but the inputs: it calls f again. PyTorch calls it
    torch.utils.checkpoint.

    Tensors among the inputs get their gradients, and so do the parameters that f uses; inputs of other kinds are passed on
    as they are. A tensor that was computed outside and that f sees without being given it is refused. `rngs` are the NumPy
    generators that f draws from, so that dropout drops the same both times; where they are left out, those of f and of all
    modules below it, if f is a Module. Checkpoints nest, and with retain_graph each backward calls f anew. Under no_grad
    this is f(*inputs).
    """
    if not grad_enabled():
        return f(*inputs)
    rngs = _generators(f) if rngs is None else list(rngs)
    for rng in rngs:
        check_replayed(rng)                                 # a checkpoint around this one has to set it back as well
    states = [rng.bit_generator.state for rng in rngs]
    oldest = next(Node.numbers)                             # what f makes is younger
    y, leaves = _alone(f, inputs, rngs)
    result = Tensor(y.data)
    if y.requires_grad:
        used = _leaves_under(y, oldest)
        sources = [(t.node or t) if isinstance(t, Tensor) and leaf in used else None for t, leaf in zip(inputs, leaves)]
        result.requires_grad = True
        result.node = Node("checkpoint", _backward, sources, (f, leaves, rngs, states, y.shape, y.dtype), y.data)
    return result


def _backward(dy, saved, needs):
    """f once more and back through it. The parameters in it receive their gradients here, in the order in which they
    would without a checkpoint: to the bit the same."""
    f, leaves, rngs, states, shape, dtype = saved
    with gradients_on(), _set_back(rngs, states):
        y, leaves = _alone(f, leaves, rngs)
    if (y.shape, y.dtype) != (shape, dtype) or not y.requires_grad:
        raise RuntimeError(f"a checkpointed function gave shape {shape} and {dtype} the first time, and {y.shape} and "
                           f"{y.dtype}{'' if y.requires_grad else ' without a gradient'} when backward called it again: it "
                           "depends on its inputs, its parameters and `rngs` alone")
    y.backward(dy)
    return tuple(leaf.grad if need else None for leaf, need in zip(leaves, needs))


def _alone(f, inputs, rngs):
    """(f(*inputs), inputs) in a graph of its own: new leaves stand for the tensors among the inputs."""
    inputs = [Tensor(t.data, t.requires_grad) if isinstance(t, Tensor) else t for t in inputs]
    with replaying(rngs):
        y = f(*inputs)
    if not isinstance(y, Tensor):
        raise TypeError(f"a checkpointed function returns one tensor, not {type(y).__name__}: join several with "
                        "concat or stack")
    return y, inputs


def _leaves_under(y, oldest):
    """The leaf tensors that y was computed from; a node older than f's call came in by the back door."""
    seen, stack = set(), [y.node or y]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if type(node) is Node:
            if node.number < oldest:
                raise RuntimeError(f"a checkpointed function uses the result of `{node.name}`, of shape {node.shape}, which "
                                   "was computed outside and is none of its inputs: give it as an input")
            stack.extend(node.inputs)
    return {leaf for leaf in seen if type(leaf) is not Node}


def _generators(f):
    """What the dropout in a module, and in all below it, draws from; nothing for another function."""
    modules = f.modules() if hasattr(f, "modules") else ()
    return list({id(m.rng): m.rng for m in modules if hasattr(m, "rng") and m.p and m.training}.values())


@contextmanager
def _set_back(rngs, states):
    """with _set_back(rngs, states): the generators draw once more what they drew then; afterwards they go on from now."""
    now = [rng.bit_generator.state for rng in rngs]
    for rng, state in zip(rngs, states):
        rng.bit_generator.state = state
    try:
        yield
    finally:
        for rng, state in zip(rngs, now):
            rng.bit_generator.state = state
