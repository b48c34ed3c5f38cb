"""What an exercise is made of: a function to write, the properties it must have, and the mistakes that people make in it."""
from typing import Any, Callable, NamedTuple


class Property(NamedTuple):
    """A sentence that is true of every right answer, and the experiment that shows it."""
    says: str                           # "Every row sums to one"
    drawn: dict[str, Any]               # the inputs of the experiment by name: hypothesis strategies
    experiment: Callable                # (the learner's answer, **inputs) -> (what was returned, what was expected)


class Mistake(NamedTuple):
    """A plausible wrong answer, what is wrong with it, and the property that must notice."""
    says: str                           # "the maximum is not subtracted, and exp overflows"
    caught_by: Property
    answer: Any                         # a function (or a text of CUDA C) in the place of the learner's


def holds(says, **drawn):
    """Make an experiment a Property: @holds("Every row sums to one", x=rows())"""
    return lambda experiment: Property(says, drawn, experiment)


def mistake(says, *, caught_by):
    """Make a wrong function a Mistake: @mistake("the maximum is not subtracted", caught_by=large_scores)"""
    return lambda answer: Mistake(says, caught_by, answer)
