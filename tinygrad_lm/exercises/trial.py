"""An answer under experiment: the first property that fails, on the smallest input that breaks it, and what kind of mistake
that is."""
import traceback
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np

EXAMPLES = 100                          # of each property; a module may say EXAMPLES of its own
OTHERS = 12                             # further inputs on which a known mistake must agree with the answer


class Outcome(NamedTuple):
    """What an answer did in one experiment: a result and what was expected, or an error and where."""
    returned: Any = None
    expected: Any = None
    error: Any = None                   # the exception
    line: Any = None                    # in the learner's file, where the exception came from it
    calls: Any = ()                     # [(arguments, named arguments, result or UNFINISHED)] of every call of the answer
    changed: Any = None                 # number of the argument that was changed in place
    fickle: bool = False                # did it give something else the second time?

    def is_right(self):
        return self.error is None and self.changed is None and difference(self.returned, self.expected) is None


UNFINISHED = object()


class Broken(NamedTuple):
    """A property that an answer lacks, the inputs that show it, what happened, and the known mistake, or None."""
    property: Any
    inputs: dict
    outcome: Outcome
    mistake: Any


class Found(Exception):
    """The experiment has failed."""


def trial(module, answer, file=None):
    """The first Broken property of `answer`, or None where all hold; `file` is where the answer's lines are."""
    for property in module.PROPERTIES:
        found = smallest(property, answer, file, getattr(module, "EXAMPLES", EXAMPLES))
        if found is not None:
            inputs, outcome = found
            return Broken(property, inputs, outcome, known_mistake(module, property, answer, inputs))
    return None


def smallest(property, answer, file, examples):
    """(inputs, Outcome) of the smallest input that breaks the answer, as hypothesis shrinks it, or None."""
    found = []

    def experiment(**inputs):
        kept, outcome = deepcopy(inputs), attempt(property, answer, inputs, file)
        if not outcome.is_right():
            found[:] = [(kept, outcome)]
            raise Found
    explore(property, experiment, examples)
    if not found:
        return None
    inputs, outcome = found[0]
    return inputs, outcome._replace(fickle=not alike(outcome, attempt(property, answer, deepcopy(inputs), file)))


def explore(property, experiment, examples):
    """Run the experiment on inputs that hypothesis draws, the same each time; the last that is Found is the smallest."""
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis.errors import Flaky
    quietly = settings(max_examples=examples, derandomize=True, database=None, deadline=None, report_multiple_bugs=False,
                       print_blob=False, suppress_health_check=list(HealthCheck), phases=(Phase.generate, Phase.shrink))
    try:
        quietly(given(**property.drawn)(experiment))()
    except (Found, Flaky):              # Flaky: an answer that draws at random failed once, and then did not
        pass


def attempt(property, answer, inputs, file=None):
    """One experiment -> Outcome. What the answer does (raise, change its arguments) is told from what is done with what it
    returns."""
    calls, changed = [], []

    def watched(*args, **named):
        before = deepcopy((args, named))
        calls.append((*before, UNFINISHED))
        result = answer(*args, **named)
        calls[-1] = (*before, result)
        for i, (old, new) in enumerate(zip([*before[0], *before[1].values()], [*args, *named.values()])):
            if difference(new, old) is not None:
                changed.append(i)
        return result
    try:
        with np.errstate(all="ignore"):
            returned, expected = property.experiment(watched if callable(answer) else answer, **inputs)
    except Exception as error:          # noqa: BLE001  (a learner's code may raise anything)
        return Outcome(error=error, line=line_in(file, error), calls=calls)
    return Outcome(returned, expected, calls=calls, changed=changed[0] if changed else None)


def line_in(file, error):
    """The number of the line of `file` that the error came through last, or None."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return lines[-1] if lines else None


def difference(returned, expected):
    """What is not as it should be, in a few words, or None: numbers to a millionth, whole numbers and truths exactly."""
    if isinstance(expected, (tuple, list)):
        if not isinstance(returned, (tuple, list)):
            return f"a {type(returned).__name__} in place of a {type(expected).__name__} of {len(expected)}"
        if len(returned) != len(expected):
            return f"{len(returned)} in place of {len(expected)} values"
        return next((d for d in map(difference, returned, expected) if d), None)
    if not isinstance(expected, (np.ndarray, np.generic, int, float)):
        return None if type(returned) is type(expected) and returned == expected else "another value"
    if returned is None:
        return "None: is there a return?"
    try:
        returned = np.asarray(returned)
        if returned.dtype.kind not in "fiub":
            return f"a {returned.dtype} in place of numbers"
    except ValueError:
        return "rows of different lengths"
    expected = np.asarray(expected)
    if returned.ndim and returned.dtype.kind == expected.dtype.kind == "f" and returned.dtype != expected.dtype:
        return f"{returned.dtype} in place of {expected.dtype}"
    if returned.shape != expected.shape:
        return f"shape {returned.shape} in place of {expected.shape}"
    exact = expected.dtype.kind in "iub"
    with np.errstate(all="ignore"):
        same = np.array_equal(returned, expected) if exact else \
            np.allclose(returned, expected, rtol=1e-6, atol=1e-9, equal_nan=True)
    return None if same else "other numbers"


def known_mistake(module, property, answer, inputs):
    """The mistake, of those that this property is to notice, that gives what the answer gives on all inputs; or None."""
    others = [(property, inputs), *((p, i) for p in module.PROPERTIES for i in few_of(p))]
    given = [attempt(p, answer, deepcopy(i)) for p, i in others]
    for mistake in module.MISTAKES:
        told = (attempt(p, mistake.answer, deepcopy(i)) for p, i in others)
        if mistake.caught_by is property and all(map(alike, given, told)):
            return mistake
    return None


def few_of(property):
    """Some inputs of a property, always the same."""
    found = []

    def note(**inputs):
        found.append(deepcopy(inputs))
    explore(property, note, OTHERS)
    return found


def alike(a, b):
    """Did two answers do the same?"""
    if a.error is not None or b.error is not None:
        return type(a.error) is type(b.error)
    return a.changed == b.changed and difference(a.returned, b.returned) is None
