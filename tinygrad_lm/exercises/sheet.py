"""The file that a learner is given: what is to be known, and the function without its body."""
import ast
import inspect
import re
import textwrap

from ..museum import exhibit
from . import exercise, find, is_test, names

KEY = r"\[[A-Z][A-Z0-9]+\]"               # of a paper, as [PPO]
UNFILLED = 'raise NotImplementedError("write me")'


def title(name):
    """One line: what it is about."""
    return exhibit(name.removeprefix("test_")).TITLE if is_test(name) else exercise(name).__doc__.splitlines()[0].rstrip(".")


def file_name(name):
    return f"{find(name)[0]:02}_{name}.py"


def sheet(name):
    """The text of the file."""
    return sheet_of_test(name) if is_test(name) else sheet_of_function(name)


def sheet_of_function(name):
    module, number = exercise(name), find(name)[0]
    text = module.__doc__.strip()
    papers = "".join(f"{key} is a paper: docs/references.md has it.\n" for key in dict.fromkeys(re.findall(KEY, text)))
    head = f'"""{number:02} · {text}\n\n{papers}When you have written it: tinygrad-lm exercise check {number}\n"""\n'
    if isinstance(module.ANSWER, str):
        return head + f'\nKERNEL = r"""\n{module.STUB}"""\n'
    return head + f"import numpy as np\n\n\n{without_body(module.ANSWER)}"


def without_body(function):
    """Its source with a body that is to be written: signature and docstring stay."""
    source = textwrap.dedent(inspect.getsource(function))
    node = ast.parse(source).body[0]
    kept = source.splitlines()[:node.body[0].end_lineno]                 # the docstring is the first statement
    return "\n".join([*kept, f"    {UNFILLED}"]) + "\n"


def sheet_of_test(name):
    bug, number = name.removeprefix("test_"), find(name)[0]
    room = exhibit(bug)
    where = f"{room.right.__module__}.{room.right.__qualname__}"
    return f'''"""{number:02} · Write the test: {room.TITLE}.

{room.__doc__.strip()}

The function is {where}. Write a test that passes as it is, and
would fail with that bug in it. It may be any function whose name begins with test_, and use all of tinygrad_lm.

When you have written it: tinygrad-lm exercise check {number}
"""
import numpy as np

from {room.right.__module__} import {room.right.__qualname__.split(".")[0]}


def test_it():
    {UNFILLED}
'''


def solution(name):
    """The reference's source."""
    if is_test(name):
        return inspect.getsource(exhibit(name.removeprefix("test_")).test)
    answer = exercise(name).ANSWER
    return answer if isinstance(answer, str) else inspect.getsource(answer)


def hints(name):
    """In steps, the last nearly the answer."""
    if not is_test(name):
        return exercise(name).HINTS
    room = exhibit(name.removeprefix("test_"))
    return (f"What is true of every right {room.right.__name__}, whatever it is given? Say it in one sentence without the "
            "bug in it.",
            f"The bug shows as this, watched while a model learns: {room.SHOWN}. On which smallest input would one number "
            "already be another?",
            f"Here is the wrong function; find an input on which it differs:\n\n{inspect.getsource(room.wrong)}",
            f"A test that notices says: {room.test.__doc__}")


def following(name):
    """The next exercise's name, or None."""
    rest = names()[find(name)[0]:]
    return rest[0] if rest else None
