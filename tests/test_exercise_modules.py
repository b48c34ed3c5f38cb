"""Each exercise's reference has the properties that it asks for, and each mistake lacks the one that must notice it."""
import importlib
import pkgutil

import numpy as np
import pytest
from hypothesis import Phase, given, settings

from tinygrad_lm import emulator, exercises

MODULES = [importlib.import_module(f"tinygrad_lm.exercises.{name}") for _, name, _ in pkgutil.iter_modules(exercises.__path__)]
EXERCISES = {module.__name__.rsplit(".")[-1]: module for module in MODULES if hasattr(module, "PROPERTIES")}
needs_compiler = pytest.mark.skipif(not emulator.available(), reason="no C++ compiler: kernels cannot be run on the CPU")


def each(pick=lambda module: (None,)):
    """A parameter (name, item) for each of what an exercise has; kernels where there is a compiler."""
    return [pytest.param(name, item, id=f"{name}-{i}", marks=needs_compiler if isinstance(module.ANSWER, str) else ())
            for name, module in EXERCISES.items() for i, item in enumerate(pick(module))]


def has(answer, property):
    """Does the answer have the property?"""
    def check(**inputs):
        with np.errstate(all="ignore"):
            returned, expected = property.experiment(answer, **inputs)
        np.testing.assert_allclose(returned, expected, rtol=1e-6, atol=1e-9)
    once = settings(phases=[Phase.explicit, Phase.generate], deadline=None, database=None, derandomize=True)
    try:
        once(given(**property.drawn)(check))()
    except (AssertionError, ArithmeticError, ValueError, emulator.KernelError):
        return False
    return True


@pytest.mark.parametrize("name, property", each(lambda module: module.PROPERTIES))
def test_the_reference_has_every_property(name, property):
    assert has(EXERCISES[name].ANSWER, property), property.says


@pytest.mark.parametrize("name, mistake", each(lambda module: module.MISTAKES))
def test_a_mistake_lacks_the_property_that_must_notice_it(name, mistake):
    assert mistake.caught_by in EXERCISES[name].PROPERTIES
    assert not has(mistake.answer, mistake.caught_by), mistake.says


@pytest.mark.parametrize("name, _", each())
def test_an_exercise_has_all_its_parts(name, _):
    module = EXERCISES[name]
    title, blank, *text = module.__doc__.splitlines()
    assert title.endswith((".", "?")) and not blank and text
    assert len(module.PROPERTIES) >= 2 and len(module.HINTS) >= 3 and len(module.MISTAKES) >= 3
    assert isinstance(module.ANSWER, str) and module.STUB or module.ANSWER.__doc__
