"""What a good teacher says of an answer: which property it lacks, the smallest input that shows it, what came out and what
should have, and what kind of mistake that looks like."""
import numpy as np

from ..emulator import KernelError
from .trial import UNFINISHED, difference


def told(broken, signature=None):
    """The lines about a Broken property; `signature` is the answer's, where it is a function."""
    outcome = broken.outcome
    lines = [f"This does not hold: {broken.property.says}.", "", "The smallest input that breaks it:"]
    lines += [f"    {name} = " + shown(value).replace("\n", "\n" + " " * (len(name) + 7))
              for name, value in named(given(outcome, signature) or broken.inputs)]
    if outcome.error is not None:
        lines += ["", *of_error(outcome)]
    elif outcome.changed is not None:
        lines += ["", f"Your answer changes its argument number {outcome.changed + 1} in place: whoever gave it may need it "
                      "again. Work on a copy."]
    else:
        lines += ["", "Returned:", *indented(outcome.returned), "Expected:", *indented(outcome.expected)]
        what = difference(outcome.returned, outcome.expected)
        if what not in ("other numbers", "another value"):           # which is plain to see
            lines += ["", f"That is {what}."]
    if outcome.fickle:
        lines += ["", "Asked again with the same input, your answer did something else: nothing in it may be drawn at "
                      "random, or kept from call to call."]
    elif broken.mistake is not None:
        lines += ["", f"The kind of mistake: {broken.mistake.says}."]
    return lines


def given(outcome, signature):
    """{name: value} of what the answer was called with, where it was called once and the call fits it."""
    if signature is None or len(outcome.calls) != 1:
        return None
    args, named_args, _ = outcome.calls[0]
    try:
        return dict(signature.bind(*args, **named_args).arguments)
    except TypeError:
        return None


def of_error(outcome):
    """An exception: of the answer's own line, of a call that it does not take, of a kernel, or of what became of its
    result."""
    error, name = first_line(outcome.error), type(outcome.error).__name__
    if outcome.line:
        return [f"On it line {outcome.line} raises {name}: {error}"]
    if isinstance(outcome.error, KernelError):
        return [f"On it your kernel ends with {name}: {error}"]
    result = outcome.calls[-1][2] if outcome.calls else UNFINISHED
    if result is UNFINISHED:
        return [f"It cannot be called with that: {error}. Its arguments have to stay as they were."]
    if result is None:
        return ["It returned None: is there a return?"]
    return ["Returned:", *indented(result), "", f"With that nothing can be done: {name}: {error}"]


def named(inputs):
    """(name, value) of each; a tuple is told part by part."""
    for name, value in inputs.items():
        if isinstance(value, tuple) and any(isinstance(v, np.ndarray) for v in value):
            yield from ((f"{name}[{i}]", v) for i, v in enumerate(value))
        else:
            yield name, value


def shown(value):
    """A value on one line where it is small, with the shape of an array."""
    if isinstance(value, np.ndarray):
        if not value.ndim:
            return shown(value.item())
        text = np.array2string(value, separator=", ", precision=6, threshold=60, max_line_width=100)
        return f"{text}    shape {value.shape}"
    if isinstance(value, (tuple, list)):
        inside = ", ".join(map(shown, value))
        return f"({inside}{',' * (len(value) == 1)})" if isinstance(value, tuple) else f"[{inside}]"
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= 500 else text[:500] + " …"


def indented(value):
    return ["    " + line for line in shown(value).splitlines()]


def first_line(error):
    return (str(error).strip().splitlines() or ["(without a word)"])[0][:300]
