"""Launch overhead: a GPU's work is recorded once, as a CUDA graph, and from then on launched as a whole.

A small model's step is hundreds of kernels, each of which takes Python and the driver longer to launch than the GPU to run.
What is recorded are the launches with the addresses that they read and write: whatever changes from one replay to the next
(a batch, a learning rate) must lie in an array that is made before the recording and written before each replay.
"""
from .backend import cuda


class CannotRecord(Exception):
    """This work cannot be replayed, and why."""


class Recording:
    """work(), recorded. Calling it does the work and returns what work() returned: the same arrays each time, with their
    new values.

    work() must have run once before, so that kernels are compiled and constants made; while it is recorded, nothing is
    done. It must not read a value (float(x), x.item(), an `if` on an array): the host would have to wait for numbers
    that do not exist yet.
    """

    def __init__(self, work):
        cupy = cuda()
        self.pool = cupy.cuda.MemoryPool()          # the replay's temporaries: nobody else is ever given their memory
        stream = cupy.cuda.Stream(non_blocking=True)
        with stream, cupy.cuda.using_allocator(self.pool.malloc):
            stream.begin_capture()
            try:
                self.result = work()
            except Exception as error:
                _abandon(stream)
                raise CannotRecord(f"{type(error).__name__}: {error}") from error
            try:
                self.graph = stream.end_capture()
            except RuntimeError as error:
                raise CannotRecord(str(error)) from error

    def __call__(self):
        self.graph.launch()                         # on the current stream: after all that it was given so far
        return self.result


def _abandon(stream):
    try:
        stream.end_capture()
    except RuntimeError:                            # the driver had given the recording up already
        pass
