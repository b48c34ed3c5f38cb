"""How many examples a property is tried on: always the same ones, so that a failure comes back when it is run again."""
import os
from functools import cache

import pytest
from hypothesis import HealthCheck, Phase, settings

from tinygrad_lm import emulator, kernels

from . import checks
from .nvrtc import instances
from .strict_cupy import strict_cupy

# The tests run in several processes: BLAS threads of all of them would only wait for one another.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

always = dict(derandomize=True, deadline=None, print_blob=True, suppress_health_check=list(HealthCheck))
settings.register_profile("default", max_examples=60, **always)
settings.register_profile("thorough", max_examples=400, **always)
settings.register_profile("mutation", max_examples=12, database=None, phases=(Phase.explicit, Phase.generate), **always)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(autouse=True, scope="session")
def launched_kernels_are_named():
    """What a test launches is what tests/test_nvrtc.py compiles: the source names it in a line `// instances: …`."""
    compiled = kernels.function

    @cache
    def named(path):
        return set(instances(path.read_text(encoding="utf-8")))

    def function(xp, file, kernel):
        assert kernel in named(kernels.FOLDER / file), \
            f"{file} does not name {kernel}: add it to its lines `// instances: …`"
        return compiled(xp, file, kernel)
    function.cache_clear = compiled.cache_clear
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "function", function)
        yield


@pytest.fixture(scope="session")
def xp():
    """CuPy, for tests marked `gpu`, on a machine with a GPU."""
    from tinygrad_lm import backend
    if backend.why_no_cuda():
        pytest.skip(backend.why_no_cuda())
    return backend.cuda()


@pytest.fixture(params=["host", "stand-in", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request):
    """Where tests/checks.py makes tensors: a test that asks for this fixture runs on the host, over the strict stand-in for
    CuPy, whose kernels are the emulator's, and (marked `gpu`) on the GPU."""
    if request.param == "host":
        yield
    elif request.param == "gpu":
        request.getfixturevalue("xp")
        with checks.on("cuda"):
            yield
    elif not emulator.available():
        pytest.skip("no C++ compiler")
    else:
        with strict_cupy() as cupy, checks.on("cuda"):
            before = cupy.allocations
            yield
            assert cupy.allocations > before, "nothing is on the device in this test: it need not ask for the fixture"
