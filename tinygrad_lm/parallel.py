"""Data parallelism: the batch is cut into parts, every worker computes the gradient of its part with a graph of its own
over the same parameters, and the sum over the parts is the whole batch's gradient.

Workers are threads of this process, and the processes that mpirun starts (mpi.py): each of these takes its rows of the
batch, which all of them draw alike, and cuts them again for its threads.
"""
import copy
import functools
import os
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager

import numpy as np

from . import mpi
from .modes import anomaly_detection

SMALL = 7e8                         # multiplications and additions below which threads cost more than they give


def backward(model, opt, *batch, workers):
    """The loss of the whole batch (a float) and, in `.grad` of the model's parameters, its gradient, from `workers`
    threads, of every rank where mpirun has started several.

    `batch` is idx and targets, int (B, T), and the documents of packed rows where there are any. A worker's part is some
    rows of each; its mean loss counts by its share of the targets that
    are not −100. NumPy and BLAS let the other threads run while they compute. The parts are always cut, and summed, in
    the same order: the same number of workers gives the same bits.
    """
    if workers < 1:
        raise ValueError(f"workers={workers}: at least 1, or None for as many as the work is worth")
    if anomaly_detection() or opt.device == "cuda":                              # the first belongs to this thread, and a
        workers = 1                                                              # GPU shares a batch out by itself
    rank, ranks = mpi.place()
    if ranks > 1 and opt.device == "cuda":
        raise RuntimeError(f"{ranks} ranks of MPI train on the CPU only, and the model is on the GPU: start one process, "
                           'or use model.to("cpu")')
    if workers == ranks == 1:
        return plain_backward(model, opt, batch)
    if ranks > 1 and opt.scaler:
        raise ValueError(f"{ranks} ranks and a model in float16: ranks sum their gradients in the type of the parameters, "
                         "which would overflow: train in float32")
    counts = (batch[1] != -100).sum(-1)
    rows = np.array_split(np.arange(len(counts)), ranks)[rank]
    parts = [part for part in np.array_split(rows, workers) if counts[part].any()]
    if ranks == 1 and len(parts) < 2 or not counts.any():
        return plain_backward(model, opt, batch)
    if ranks == 1:
        return sum_of_parts(model, opt, batch, parts, counts)
    if opt.step_count == 0:
        opt.flat[...] = mpi.of_rank_0(opt.flat)                                  # all start from the same weights
    with dropout_of(model, rank):
        loss = sum_of_parts(model, opt, batch, parts, counts)
    return sum_over_ranks(opt, loss, batch=zlib.crc32(b"".join(a.tobytes() for a in batch)))


def plain_backward(model, opt, batch):
    loss = model.loss(*batch)
    loss.backward(np.asarray(opt.loss_scale))
    return loss.item()


def sum_of_parts(model, opt, batch, parts, counts):
    """The loss and gradient of these parts, each from a thread of its own."""
    if not parts:
        return 0.0
    others = replicas(model, opt, len(parts) - 1)

    def work(model, rows):
        share = counts[rows].sum() / counts.sum()
        loss = model.loss(*(a[rows] for a in batch))
        loss.backward(np.asarray(share * opt.loss_scale))
        return loss.item() * share

    losses = on_threads(work, zip([model, *(other.model for other in others)], parts))
    share_out(add_gradients, list(zip(*(other.parameters for other in others))), len(parts))
    return float(sum(losses))


def add_gradients(*pairs):
    """p.grad += q.grad for each pair of a parameter and its replica."""
    for p, q in pairs:
        if p.grad is None and q.grad is not None:
            p.grad = q.grad
        elif q.grad is not None:
            p.grad += q.grad


def on_threads(work, jobs):
    """[work(*job) for job in jobs], the first on this thread and each other on one of its own. An exception of any job
    arrives here, when all have ended: nobody writes on when we have left."""
    first, *others = jobs
    futures = [pool().submit(work, *job) for job in others]
    try:
        return [work(*first)] + [future.result() for future in futures]
    finally:
        wait(futures)


def share_out(work, items, workers):
    """[work(*item) for item in items], neighbouring items on the same of `workers` threads."""
    if workers == 1:
        return [work(*item) for item in items]
    ends = [len(items) * i // workers for i in range(workers + 1)]
    done = on_threads(lambda own: [work(*item) for item in own], [(items[a:b],) for a, b in zip(ends, ends[1:])])
    return [result for own in done for result in own]


def sum_over_ranks(opt, loss, batch):
    """The loss summed over the ranks, and in the optimizer's flat buffer their gradients'. A parameter that no rank has a
    gradient for stays without. `batch` is a number by which ranks see that they all have the same batch."""
    has_grad = [p.grad is not None for p in opt.params]
    loss, batches, *has_grad = mpi.totals(loss, batch, *has_grad)
    if batches != batch * mpi.place()[1]:
        raise ValueError("the ranks have different batches: give each of them the whole batch, drawn from the same seed; "
                         "each takes its own rows of it")
    for p, has in zip(opt.params, has_grad):
        if p.grad is not p.grad_buffer:
            p.grad_buffer[...] = 0 if p.grad is None else p.grad
        p.grad = p.grad_buffer if has else None
    mpi.add(opt.flat_grad)
    return loss


@contextmanager
def dropout_of(model, rank):
    """with dropout_of(model, rank): dropout draws from a generator of this rank's. The model's own generators, which all
    ranks hold alike, move by the same number of draws on all of them."""
    rng = np.random.default_rng([rank, *model_seeds(model)])
    before = [(m, m.rng) for m in model.modules() if hasattr(m, "rng")]
    for m, _ in before:
        m.rng = rng
    try:
        yield
    finally:
        for m, own in before:
            m.rng = own


class Replica:
    """The model once more: the same parameters' arrays, gradients of its own."""

    def __init__(self, model):
        shared = {id(p.data): p.data for p in model.parameters()}                # what deepcopy finds here, it keeps
        own = {id(a): None for p in model.parameters() for a in (p.grad, p.grad_buffer) if a is not None}
        self.model = copy.deepcopy(model, shared | own)
        self.modules = list(zip(model.modules(), self.model.modules()))
        self.parameters = list(zip(model.parameters(), self.model.parameters()))

    def follow(self, rng):
        """Be as the model is now, without gradients; dropout draws from `rng`, one for all layers, so that no two drop
        alike."""
        for a, b in self.modules:
            b.training = a.training
            if hasattr(b, "rng"):
                b.rng = rng
            if hasattr(a, "checkpoint_blocks"):
                b.checkpoint_blocks = a.checkpoint_blocks
        for p, q in self.parameters:
            q.data, q.grad, q.requires_grad = p.data, None, p.requires_grad


def replicas(model, opt, n):
    """n replicas of the model, ready for a step; the optimizer keeps them for the next."""
    while len(opt.replicas) < n:
        opt.replicas.append(Replica(model))
    seeds = model_seeds(model)
    for i, replica in enumerate(opt.replicas[:n]):
        replica.follow(np.random.default_rng([i, *seeds]))
    return opt.replicas[:n]


def model_seeds(model):
    """Fresh numbers for the dropout of others, drawn from the model's own generators, which checkpoints keep."""
    generators = {id(m.rng): m.rng for m in model.modules() if hasattr(m, "rng") and m.p and m.training}
    return [int(rng.integers(2**32)) for rng in generators.values()]


def choose_workers(n_parameters, idx):
    """As many workers as there are processors and rows; one where the step is so small that threads only delay it."""
    available, (_, ranks) = processors(), mpi.place()
    work = 6 * n_parameters * idx.size / ranks               # forward 2, backward 4 a parameter and token
    return 1 if work < SMALL else min(available, -(-len(idx) // ranks))


@functools.cache
def processors():
    """How many processors this process may use; those that ranks of one machine share are divided among them."""
    usable = _usable()
    users = mpi.on_this_machine(usable)
    share = sum(1 / sum(cpu in theirs for theirs in users) for cpu in usable)
    return max(1, int(share + 1e-9))                         # 3 × ⅓ is 1


def _usable():
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


@functools.cache
def pool():
    return ThreadPoolExecutor(len(_usable()), thread_name_prefix="worker")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=pool.cache_clear)     # a forked process has the pool, but none of its threads


@functools.cache
def _blas():
    """The BLAS libraries of this process, each with get_num_threads and set_num_threads."""
    from threadpoolctl import ThreadpoolController
    return ThreadpoolController().select(user_api="blas").lib_controllers


_blas_lock, _open_blocks, _blas_before = threading.Lock(), [0], []    # how many blocks are open; threads before the first


class one_blas_thread:
    """with one_blas_thread(): each matrix product runs on the thread that asks for it: right for small products, whose
    parts would wait for one another, and for workers that share the processors already. Blocks of several threads may
    overlap: the last to end gives BLAS its threads back."""

    def __enter__(self):
        with _blas_lock:
            if not _open_blocks[0]:
                _blas_before[:] = [blas.get_num_threads() for blas in _blas()]
                set_blas_threads([1] * len(_blas_before))
            _open_blocks[0] += 1

    def __exit__(self, *error):
        with _blas_lock:
            _open_blocks[0] -= 1
            if not _open_blocks[0]:
                set_blas_threads(_blas_before)


def set_blas_threads(numbers):
    for blas, n in zip(_blas(), numbers):
        blas.set_num_threads(n)
