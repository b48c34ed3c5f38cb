"""How operations behave for now, on this thread: without a graph (no_grad), checked for NaN (detect_anomaly), or to be
repeated (recompute.py)."""
import inspect
import sys
import threading
from contextlib import contextmanager

SUSPENDABLE = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


class _Local(threading.local):
    """Each thread has its own."""
    no_grad = ()                        # the blocks that are open, those of gradients_on among them
    anomaly = 0                         # how many blocks are open
    replayed = None                     # inside a checkpoint: the generators that it sets back


_local = _Local()


class no_grad:
    """with no_grad(): operations inside build no graph. It ends where the block ends, also for a generator that yields
    inside it: while the generator is suspended, the caller's gradients are on."""

    def __enter__(self):
        frame = sys._getframe(1)
        while frame and not frame.f_code.co_flags & SUSPENDABLE:
            frame = frame.f_back
        self.generator = frame                                  # the innermost one that runs us, if any
        _local.no_grad += (self,)

    def __exit__(self, *error):
        _local.no_grad = tuple(block for block in _local.no_grad if block is not self)
        self.generator = None


def grad_enabled():
    """Do operations on this thread build a graph now?"""
    for block in reversed(_local.no_grad):
        if type(block) is gradients_on:
            return True
        if block.generator is None or block.generator.f_back:       # a suspended generator's frame has no caller
            return False
    return True


class gradients_on:
    """with gradients_on(): operations build a graph, also where backward, which needs none, is called under no_grad."""

    def __enter__(self):
        _local.no_grad += (self,)

    def __exit__(self, *error):
        _local.no_grad = tuple(block for block in _local.no_grad if block is not self)


class detect_anomaly:
    """with detect_anomaly(): the first operation that produces NaN or infinity, forward or backward, raises and is
    named. Every result is checked, so it is slow: for finding a fault, not for running."""

    def __enter__(self):
        _local.anomaly += 1

    def __exit__(self, *error):
        _local.anomaly -= 1


def anomaly_detection():
    return _local.anomaly > 0


@contextmanager
def replaying(rngs):
    """with replaying(rngs): what is drawn inside will be drawn again, and these generators set back for it."""
    before, _local.replayed = _local.replayed, rngs
    try:
        yield
    finally:
        _local.replayed = before


def check_replayed(rng):
    """Refuse a generator that the checkpoint around us, if there is one, would not set back."""
    if _local.replayed is not None and not any(rng is known for known in _local.replayed):
        raise RuntimeError("dropout in a checkpointed function draws from a generator that the checkpoint does not know, and "
                           "would drop others the second time: checkpoint(f, ..., rngs=[rng])")
