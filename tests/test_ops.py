"""No operation is forgotten: every public function of functional.py has a test of its name, and so has every method."""
import ast
import inspect
from importlib import import_module
from pathlib import Path

import numpy as np

from tinygrad_lm import Tensor, backend, functional as F

from .checks import check_same

HELPERS = {"raw", "check_ids", "check_probability", "check_replayed", "op"} | vars(backend).keys()
HERE = Path(__file__).parent


def public_functions():
    return {name for name, f in vars(F).items()
            if callable(f) and not inspect.isclass(f) and not name.startswith("_")} - HELPERS


def names_of_tests():
    """Functions `def test_x` and assignments `test_x = holds(…)` in the files test_ops_*.py."""
    for file in HERE.glob("test_ops_*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            yield from [node.name] if isinstance(node, ast.FunctionDef) else \
                [t.id for t in node.targets if isinstance(t, ast.Name)] if isinstance(node, ast.Assign) else []


def test_every_function_has_a_property():
    missing = {f"test_{name}" for name in public_functions()} - set(names_of_tests())
    assert not missing, f"functions of functional.py without a test of their own in tests/test_ops_*.py: {sorted(missing)}"


def test_every_property_runs_on_a_device():
    for file in HERE.glob("test_ops_*.py"):
        marks = getattr(import_module(f"tests.{file.stem}"), "pytestmark", None)
        assert marks and "device" in marks.args, f"{file.name} does not ask for the fixture `device` of conftest.py"


def test_every_method_is_the_function_of_its_name():
    x = np.random.default_rng(0).uniform(0.5, 2, (2, 3, 1))
    arguments = dict(clip=(0.7, 1.5), masked_fill=(x > 1, 0.0), astype=("f8",), reshape=(3, 2), permute=(2, 0, 1),
                     swapaxes=(0, 1), broadcast_to=(2, 3, 4), unsqueeze=(0,), repeat=(2, 1, 2), gather=(1, np.array([[[2]]])),
                     take=(np.array([1, 1]),), split=(1,))
    options = dict(take=dict(axis=1), cumsum=dict(axis=1))
    methods = [name for name in public_functions() if vars(Tensor).get(name) is getattr(F, name)]
    assert len(methods) > 30
    for name in methods:
        def last(y):
            return y[-1] if isinstance(y, list) else y
        a, o = arguments.get(name, ()), options.get(name, {})
        if name not in ("astype", "to"):                    # float64 asked for is no float32
            check_same(lambda x: last(getattr(x, name)(*a, **o)), lambda x: last(getattr(F, name)(x, *a, **o)), x)
