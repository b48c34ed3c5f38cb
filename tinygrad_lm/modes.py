"""How operations behave for now, on this thread: without a graph (no_grad), or checked for NaN (detect_anomaly)."""
import inspect
import sys
import threading

SUSPENDABLE = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


class _Local(threading.local):
    """Each thread has its own."""
    no_grad = ()                        # the blocks that are open
    anomaly = 0                         # how many blocks are open


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
    for block in _local.no_grad:
        if block.generator is None or block.generator.f_back:       # a suspended generator's frame has no caller
            return False
    return True


class detect_anomaly:
    """with detect_anomaly(): the first operation that produces NaN or infinity, forward or backward, raises and is
    named. Every result is checked, so it is slow: for finding a fault, not for running."""

    def __enter__(self):
        _local.anomaly += 1

    def __exit__(self, *error):
        _local.anomaly -= 1


def anomaly_detection():
    return _local.anomaly > 0
