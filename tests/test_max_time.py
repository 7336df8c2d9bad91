"""`max_time` bounds the whole call, constants before and forecast after included, to within 10 % and a step."""

import pytest

from benchmarks.checks import max_time
from plsolve import Status

CASES = [(method, options) for method, variants in max_time.METHODS.items() for options in variants]


@pytest.mark.parametrize(("method", "options"), CASES, ids=str)
@pytest.mark.parametrize("kind", ["dense", "operator"])
@pytest.mark.parametrize("limit", [0.003, 0.1])
def test_a_call_ends_in_time(method, options, kind, limit):
    shape = (60, 200)
    sol, excess = max_time.timed(method, options, shape, kind, limit)
    assert sol.status == Status.MAX_TIME or sol.nit > 0
    assert excess <= max_time.step(options, shape, kind)


@pytest.mark.parametrize("kind", ["sparse", "differences"])
@pytest.mark.parametrize("shape", [(150, 40), (50, 50)])
@pytest.mark.parametrize("method", ["auto", "gd"])
def test_whatever_the_shape_and_the_jacobian(method, shape, kind):
    assert max_time.timed(method, {}, shape, kind, 0.03)[1] <= max_time.STEP
