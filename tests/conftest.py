"""How many examples a property is tried on: always the same ones, so that a failure comes back when it is run again."""
import os

import pytest
from hypothesis import HealthCheck, Phase, settings

# The tests run in several processes: BLAS threads of all of them would only wait for one another.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

always = dict(derandomize=True, deadline=None, print_blob=True, suppress_health_check=list(HealthCheck))
settings.register_profile("default", max_examples=60, **always)
settings.register_profile("thorough", max_examples=400, **always)
settings.register_profile("mutation", max_examples=12, database=None, phases=(Phase.explicit, Phase.generate), **always)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(scope="session")
def xp():
    """CuPy, for tests marked `gpu`, on a machine with a GPU."""
    from tinygrad_lm import backend
    if backend.why_no_cuda():
        pytest.skip(backend.why_no_cuda())
    return backend.cuda()
