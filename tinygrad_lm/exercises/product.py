"""The gradient of a product.

An operation knows two things: its result, and how a gradient of the result becomes gradients of its inputs. For z = x·y:

    dx = dz · y        dy = dz · x

dz is the gradient of the loss with respect to z, and has z's shape. Here x and y have that shape, too: no broadcasting yet.
"""
from .draws import numbers, one_shape
from .parts import holds, mistake

HINTS = (
    "Move x a little, by h. By how much does x·y move? And the loss, if it moves by dz for each unit of z?",
    "x·y moves by h·y, and so the loss by dz·h·y. The gradient is that, divided by h.",
    "dx = dz * y, and y is in the same place as x: what is dy?",
)


def product_backward(dz, x, y):
    """(dx, dy) for z = x * y.

    dz, x, y: float arrays of one shape; dx and dy have it, too
    """
    return dz * y, dz * x


ANSWER = product_backward


INPUTS = {name: numbers(one_shape("product")) for name in ("dz", "x", "y")}


@holds("dx is dz times y", **INPUTS)
def dx_is_right(answer, dz, x, y):
    return answer(dz, x, y)[0], dz * y


@holds("dy is dz times x", **INPUTS)
def dy_is_right(answer, dz, x, y):
    return answer(dz, x, y)[1], dz * x


PROPERTIES = (dx_is_right, dy_is_right)


@mistake("dx and dy are exchanged: what multiplies dz is the *other* factor", caught_by=dx_is_right)
def exchanged(dz, x, y):
    return dz * x, dz * y


@mistake("the gradient dz of the result is not used: that is the derivative of the product alone", caught_by=dx_is_right)
def local(dz, x, y):
    return y + 0 * dz, x + 0 * dz


@mistake("y has a gradient, too, and it is not 0", caught_by=dy_is_right)
def first_alone(dz, x, y):
    return dz * y, 0 * dz


MISTAKES = (exchanged, local, first_alone)
