"""Ranks: copies of one program that mpirun starts, on one machine or on many, and that speak through MPI [MPI].

Every rank runs the same code from the same seed, so that all hold the same weights and draw the same batches; parallel.py
gives each its rows and sums the gradients. What only one may do, files and progress, rank 0 does. mpi4py is loaded only
where mpirun has started more than one rank, or TINYGRAD_LM_MPI=1 says that another launcher (srun, say) has.
"""
import functools
import os
import sys
import time
import traceback

import numpy as np

PLACES = (("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),        # what Open MPI's mpirun tells its processes
          ("PMI_RANK", "PMI_SIZE"))                                # and that of MPICH and its kin


class MPIError(Exception):
    """Ranks that cannot work together; the message is one line and names the remedy."""


@functools.cache
def place():
    """(which rank this is, how many there are): (0, 1) without mpirun."""
    if os.environ.get("TINYGRAD_LM_MPI") == "1":
        return comm().rank, comm().size
    for rank, size in PLACES:
        if rank in os.environ and size in os.environ:
            return int(os.environ[rank]), int(os.environ[size])
    return 0, 1


@functools.cache
def comm():
    """All ranks together. From here on, an exception that nobody catches ends them all."""
    asked = os.environ.get("TINYGRAD_LM_MPI") == "1"
    started = f"mpirun has started {place()[1]} ranks" if not asked else "TINYGRAD_LM_MPI=1 asks for MPI"
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:                   # RuntimeError: it is there, but finds no MPI library
        raise MPIError(f"{started}, which speak through mpi4py, and that cannot be loaded "
                       f"({str(error).splitlines()[0]}): python -m pip install mpi4py") from None
    if not asked and MPI.COMM_WORLD.size != place()[1]:
        raise MPIError(f"{started} and mpi4py sees {MPI.COMM_WORLD.size}: it uses another MPI than this mpirun's; build it "
                       "against this one: python -m pip install --force-reinstall --no-binary mpi4py mpi4py")
    sys.excepthook = lambda *error: end_all("".join(traceback.format_exception(*error)))
    return MPI.COMM_WORLD


def add(array):
    """array ← its sum over the ranks, in one call; every rank receives the same bits."""
    world, MPI = comm(), sys.modules["mpi4py.MPI"]
    if not isinstance(array, np.ndarray):
        raise MPIError(f"ranks add arrays in the host's memory, not a {type(array).__module__}.{type(array).__name__}: "
                       "train in one process on the GPU, or keep the model on the host")
    world.Allreduce(MPI.IN_PLACE, array)


def totals(*numbers):
    """Each number's sum over the ranks; without ranks the numbers themselves."""
    if place()[1] == 1:
        return numbers
    array = np.array(numbers, float)
    add(array)
    return array.tolist()


def of_rank_0(value):
    """Rank 0's value, on every rank."""
    return value if place()[1] == 1 else comm().bcast(value)


def on_this_machine(value):
    """The values of all ranks that run on this machine."""
    if place()[1] == 1:
        return [value]
    world, MPI = comm(), sys.modules["mpi4py.MPI"]
    return world.Split_type(MPI.COMM_TYPE_SHARED).allgather(value)


def end_all(message, code=1):
    """Say why, and end every rank now: the others would wait for this one for ever.

    An error that all ranks share is said once, by rank 0, which ends the others while they hold back.
    """
    rank, _ = place()
    try:
        abort = comm().Abort
    except MPIError:                                               # no MPI to end them by: mpirun does, when one
        abort = sys.exit                                           # leaves with a code
    time.sleep(1 if rank else 0)
    print(end="", flush=True)
    print(f"rank {rank}: {message}", file=sys.stderr, flush=True)
    abort(code)
