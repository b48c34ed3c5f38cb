"""Data parallelism: the batch is cut into parts, every worker computes the gradient of its part with a graph of its own
over the same parameters, and the sum over the parts is the whole batch's gradient."""
import copy
import functools
import os
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import nullcontext
from weakref import WeakKeyDictionary

import numpy as np

from .modes import anomaly_detection

SMALL = 3e8                         # multiplications and additions in a step below which threads cost more than they give
_replicas = WeakKeyDictionary()     # optimizer -> replicas of its model, made once


def backward(model, opt, idx, targets, *, workers):
    """The loss of the whole batch (a float) and, in `.grad` of the model's parameters, its gradient, from `workers`
    threads.

    A worker's part is some rows of idx and targets, int (B, T); its mean loss counts by its share of the targets that
    are not −100. NumPy and BLAS let the other threads run while they compute. The parts are always cut, and summed, in
    the same order: the same number of workers gives the same bits.
    """
    if workers == 1 or anomaly_detection():                                      # which belongs to this thread
        return plain_backward(model, idx, targets)
    counts = (targets != -100).sum(-1)
    parts = [rows for rows in np.array_split(np.arange(len(idx)), workers) if counts[rows].any()]
    if len(parts) < 2:
        return plain_backward(model, idx, targets)
    models = [model, *replicas(model, opt, len(parts) - 1)]

    def work(model, rows):
        share = counts[rows].sum() / counts.sum()
        loss = model.loss(idx[rows], targets[rows])
        loss.backward(np.asarray(share))
        return loss.item() * share

    others = [pool().submit(work, m, rows) for m, rows in zip(models[1:], parts[1:])]
    try:
        losses = [work(model, parts[0])] + [other.result() for other in others]  # a worker's exception arrives here
    finally:
        wait(others)                                                             # nobody writes on when we have left
    for replica in models[1:]:
        add_gradients(model, replica)
    return float(sum(losses))


def plain_backward(model, idx, targets):
    loss = model.loss(idx, targets)
    loss.backward()
    return loss.item()


def replicas(model, opt, n):
    """n copies of the model that share its parameters' arrays and have gradients of their own."""
    made = _replicas.setdefault(opt, [])
    while len(made) < n:
        shared = {id(p.data): p.data for p in model.parameters()}                # what deepcopy finds here, it keeps
        own = {id(a): None for p in model.parameters() for a in (p.grad, p.grad_buffer) if a is not None}
        made.append(copy.deepcopy(model, shared | own))
    seeds = model_seeds(model, n)
    for i, replica in enumerate(made[:n]):
        rng = np.random.default_rng([i, *seeds])                                 # one for all: no two layers drop alike
        for a, b in zip(model.modules(), replica.modules()):
            b.training = a.training
            if hasattr(b, "rng"):
                b.rng = rng
        for p, q in zip(model.parameters(), replica.parameters()):
            q.data, q.grad, q.requires_grad = p.data, None, p.requires_grad
    return made[:n]


def model_seeds(model, n):
    """Fresh numbers for the replicas' dropout, drawn from the model's own generators, which checkpoints keep."""
    generators = {id(m.rng): m.rng for m in model.modules() if hasattr(m, "rng") and m.p and m.training}
    return [int(rng.integers(2**32)) for rng in generators.values()]


def add_gradients(model, replica):
    """model.grad += replica.grad, parameter by parameter."""
    for p, q in zip(model.parameters(), replica.parameters()):
        if p.grad is None and q.grad is not None:
            p.grad = q.grad
        elif q.grad is not None:
            p.grad += q.grad


def choose_workers(n_parameters, idx):
    """As many workers as there are processors and rows; one where the step is so small that threads only delay it."""
    work = 6 * n_parameters * idx.size                       # forward 2, backward 4 a parameter and token
    return 1 if work < SMALL else min(processors(), len(idx))


@functools.cache
def processors():
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def pool():
    return ThreadPoolExecutor(max(1, processors()), thread_name_prefix="worker")


@functools.cache
def _blas():
    from threadpoolctl import ThreadpoolController
    return ThreadpoolController().select(user_api="blas")


def one_blas_thread():
    """with one_blas_thread(): each matrix product runs on the thread that asks for it: right for small products, whose
    parts would wait for one another, and for workers that share the processors already."""
    return _blas().limit(limits=1) if _blas().lib_controllers else nullcontext()
