"""A script of examples/ is a notebook, too: what its options are there, and where its pictures go."""
import sys

from ..checkpoint import replace
from .report import png


def in_a_notebook():
    return "ipykernel" in sys.modules


def given(parser):
    """What the command line gives an ArgumentParser; in a notebook, whose command line is the kernel's, the defaults."""
    return parser.parse_args([] if in_a_notebook() else None)


def keep(figure, path):
    """The figure as the file `path`, PNG, in a folder that is made if need be; a notebook shows it, too."""
    data = png(figure)
    replace(path, data)
    if in_a_notebook():
        from IPython.display import Image, display
        display(Image(data))
