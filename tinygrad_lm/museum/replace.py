"""A wrong function in the place of a right one, for everybody in this package who calls it."""
import sys
from contextlib import contextmanager

from . import NAMES

PACKAGE = __package__.partition(".")[0]


@contextmanager
def replaced(right, wrong):
    """with replaced(f, g): g stands wherever a module or a class of this package names f, but in the exhibits, whose wrong functions
    may ask the right one."""
    places = [(home, name) for home in homes() for name, value in vars(home).items() if value is right]
    if not places:
        raise ValueError(f"nothing in {PACKAGE} is {right!r}: a function is replaced as the module or class names it")
    try:
        for home, name in places:
            setattr(home, name, wrong)
        yield
    finally:
        for home, name in places:
            setattr(home, name, right)


def homes():
    """The modules of this package that are loaded, exhibits left out, and the classes that they define."""
    exhibits = {f"{__package__}.{name}" for name in NAMES}
    for name, module in list(sys.modules.items()):
        if (name == PACKAGE or name.startswith(PACKAGE + ".")) and name not in exhibits:
            yield module
            yield from (c for c in vars(module).values() if isinstance(c, type) and c.__module__ == name)
