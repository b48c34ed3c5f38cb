"""The bug museum: kinds of bug that code for RLHF is known for. Each runs, each learns, and none raises an error.

An exhibit is a module of this package. It says what goes wrong (`TITLE`, its docstring), puts the wrong function in the place
of the right one (`patch`), shows what that does beside the right run (`run`), and has the test that notices (`test`). Write
your own test before you read that one: `tinygrad-lm museum check NAME FILE` says whether it kills the bug.
"""
from importlib import import_module

NAMES = ("future", "prompt", "second_turn", "padding", "temperature", "dropout", "whitening", "penalty", "recomputed",
         "twice_divided", "used_twice", "shifted_mask")


def exhibit(name):
    """The exhibit of this name."""
    if name not in NAMES:
        raise ValueError(f"the museum has no exhibit {name!r}; it has {', '.join(NAMES)}")
    return import_module(f".{name}", __package__)


def symptom(name):
    """What `run` gives with the right function and with the wrong one: ((watched, shown), (watched, shown)), lists of numbers.

    watched: what one looks at while it trains, the exhibit's WATCHED, and it improves either way. shown: what gives the bug
    away, its SHOWN, at the places of its AXIS.
    """
    room = exhibit(name)
    right = room.run()
    with room.patch():
        return right, room.run()


def improves(name, watched):
    """Does what one watches go the way that one hopes for, from the first tenth of the run to the last?"""
    n = max(1, len(watched) // 10)
    first, last = sum(watched[:n]) / n, sum(watched[-n:]) / n
    return last < first if exhibit(name).WATCHED.startswith("loss") else last > first
