"""Backpropagation, in a dozen lines.

A computation is a list of steps. Each names what it makes, how, and from what:

    steps = [("c", "add", "a", "b"), ("d", "mul", "c", "a")]        # c = a + b; d = c · a

The last step makes the loss, whose gradient with respect to itself is 1. Going through the steps *backwards*, each hands the
gradient of what it made on to what it was made from: "add" as it is, "mul" times the other factor. A value that is used in
several places, as a is here, gets a gradient from each of them: they are summed (the chain rule for several paths). And since
every use of a value comes after the step that made it, going backwards one has all of its gradient before it is handed on.
"""
from hypothesis import strategies as st

from .parts import holds, mistake

HINTS = (
    "Keep a dictionary {name: gradient}, in which only the last name has 1 at first. Go through reversed(steps).",
    "For a step (made, how, x, y) look up d = gradients.get(made, 0). What do x and y get, for \"add\", and for \"mul\"?",
    "They get it in addition to what they have: gradients[x] = gradients.get(x, 0) + …; that is right also for x · x, where "
    "both are the same name.",
    "for \"mul\": gradients[x] = gradients.get(x, 0) + d * values[y]; gradients[y] = gradients.get(y, 0) + d * values[x]",
)


def backpropagate(values, steps):
    """{name: d loss / d name} of every name that the loss depends on.

    values: {name: number}, of inputs and of all that the steps made; steps: [(made, "add" or "mul", x, y)], each after those
    that made its x and y; the loss is made by the last
    """
    gradients = {steps[-1][0]: 1.0}
    for made, how, x, y in reversed(steps):
        d = gradients.get(made, 0)
        gradients[x] = gradients.get(x, 0) + (d if how == "add" else d * values[y])
        gradients[y] = gradients.get(y, 0) + (d if how == "add" else d * values[x])
    return gradients


ANSWER = backpropagate


def computed(inputs, steps):
    """All values."""
    values = dict(inputs)
    for made, how, x, y in steps:
        values[made] = values[x] + values[y] if how == "add" else values[x] * values[y]
    return values


def slopes(inputs, steps):
    """{name: d loss / d it} of the inputs, by complex numbers: f(x + ih) has h f′(x) as its imaginary part, with no
    difference taken. Here all are whole numbers."""
    return {name: float(round(computed(inputs | {name: inputs[name] + 1e-20j}, steps)[steps[-1][0]].imag / 1e-20))
            for name in inputs}


@st.composite
def computations(draw, longest=4):
    """Steps over the inputs a and b, in which every later step uses the one before it."""
    steps, names = [], ["a", "b"]
    for made in "cdefg"[:draw(st.integers(1, longest))]:
        x = names[-1] if steps else "a"
        steps.append((made, draw(st.sampled_from(("add", "mul"))), x, draw(st.sampled_from(names))))
        names.append(made)
    return steps


NUMBERS = st.fixed_dictionaries({"a": st.sampled_from((2.0, 3.0)), "b": st.sampled_from((5.0, 7.0))})


def of_inputs(answer, inputs, steps):
    given = answer(computed(inputs, steps), list(steps))
    return {name: round(float(given.get(name, 0)), 6) for name in inputs}, slopes(inputs, steps)


a_sum = holds("For c = a + b both gradients are 1", inputs=NUMBERS, steps=st.just([("c", "add", "a", "b")]))(of_inputs)
a_product = holds("For c = a · b they are b and a", inputs=NUMBERS, steps=st.just([("c", "mul", "a", "b")]))(of_inputs)
a_square = holds("For c = a · a the gradient is 2 a: a value that is used twice", inputs=NUMBERS,
                 steps=st.just([("c", "mul", "a", "a")]))(of_inputs)
a_chain = holds("For d = (a + b) · b, the gradient passes through the step between", inputs=NUMBERS,
                steps=st.just([("c", "add", "a", "b"), ("d", "mul", "c", "b")]))(of_inputs)
any_steps = holds("For any steps, they are what a small change of each input does to the loss", inputs=NUMBERS,
                  steps=computations())(of_inputs)

PROPERTIES = (a_sum, a_product, a_square, a_chain, any_steps)


def walked(values, steps, *, order=reversed, add=lambda old, new: old + new, factor=lambda d, own, other: d * other):
    """Backpropagation with slips."""
    gradients = {steps[-1][0]: 1.0}
    for made, how, x, y in order(steps):
        d = gradients.get(made, 0)
        for own, other in ((x, y), (y, x)):
            gradients[own] = add(gradients.get(own, 0), d if how == "add" else factor(d, values[own], values[other]))
    return gradients


@mistake("a gradient is overwritten, and not summed: a value that is used twice keeps that of one use", caught_by=a_square)
def overwritten(values, steps):
    return walked(values, steps, add=lambda old, new: new)


@mistake("the steps are walked forwards: a gradient is handed on before it is there", caught_by=a_chain)
def forwards(values, steps):
    return walked(values, steps, order=list)


@mistake("a product hands on d times the value itself, and not times the other factor", caught_by=a_product)
def own_factor(values, steps):
    return walked(values, steps, factor=lambda d, own, other: d * own)


@mistake("a product hands on the other factor alone: it is to be multiplied by the gradient of what was made",
         caught_by=any_steps)
def no_chain(values, steps):
    return walked(values, steps, factor=lambda d, own, other: other)


MISTAKES = (overwritten, forwards, own_factor, no_chain)
