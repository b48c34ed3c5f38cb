"""What a good teacher says of an answer: which property it lacks, the smallest input that shows it, what came out and what should
have, and what kind of mistake that looks like."""
import numpy as np

from ..emulator import KernelError
from .trial import difference


def told(broken):
    """The lines about a Broken property."""
    outcome = broken.outcome
    lines = [f"This does not hold: {broken.property.says}.", "", "The smallest input that breaks it:"]
    lines += [f"    {name} = " + shown(value).replace("\n", "\n" + " " * (len(name) + 7)) for name, value in named(broken.inputs)]
    if outcome.error is not None:
        where = (f"line {outcome.line} raises" if outcome.line else "your kernel ends with"
                 if isinstance(outcome.error, KernelError) else "with what your answer returned, there was")
        lines += ["", f"On it {where} {type(outcome.error).__name__}: {first_line(outcome.error)}"]
    elif outcome.changed is not None:
        lines += ["", f"Your answer changes its argument number {outcome.changed + 1} in place: whoever gave it may need it again. "
                      "Work on a copy."]
    else:
        lines += ["", "Returned:", *indented(outcome.returned), "Expected:", *indented(outcome.expected)]
        what = difference(outcome.returned, outcome.expected)
        if what not in ("other numbers", "another value"):           # which is plain to see
            lines += ["", f"That is {what}."]
    if broken.mistake is not None:
        lines += ["", f"The kind of mistake: {broken.mistake.says}."]
    return lines


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
        text = np.array2string(value, separator=", ", precision=6, threshold=60, max_line_width=100)
        return f"{text}    shape {value.shape}" if value.ndim else text
    if isinstance(value, (tuple, list)):
        inside = ", ".join(map(shown, value))
        return f"({inside}{',' * (len(value) == 1)})" if isinstance(value, tuple) else f"[{inside}]"
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= 500 else text[:500] + " …"


def indented(value):
    return ["    " + line for line in shown(value).splitlines()]


def first_line(error):
    return (str(error).strip().splitlines() or ["(without a word)"])[0][:300]
