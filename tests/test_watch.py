"""The watchdog's decisions, on numbers alone: what follows a step, and the same in compiled code."""

import math

import numpy as np
import pytest

from plsolve import Status
from plsolve._stopping import RUNNING
from plsolve.methods import watch
from plsolve.methods.tuning import TUNING

STALLED, STATIONARY, RESIDUAL = int(Status.STALLED), int(Status.STATIONARY), int(Status.RESIDUAL)
STEEP, SLOPING, FLAT = 2.0, 0.5, 0.01


def begun(plan=watch.PHASES, **fields):
    return watch.Watch(**{"plan": plan, "root": True, "mark": 1.0, "own": 0, "level": 0.0, **fields})


def crawl(k, steps, steep):
    """What follows so many steps that leave the residual as it is."""
    return [watch.after_monotone(k, RUNNING, 1.0, steep, nit) for nit in range(1, steps + 1)]


@pytest.mark.parametrize("plan", [watch.PHASES, watch.KICKS, watch.HAND_OVER, watch.ALONE])
def test_monotone_steps_go_on_while_the_residual_falls(plan):
    k, size = begun(plan), 1.0
    for nit in range(1, 40):
        size *= 0.65
        assert watch.after_monotone(k, RUNNING, size, STEEP, nit) == (RUNNING, watch.MONOTONE)
    assert (k.mark, k.slow, k.own) == (size, 0, 39)


@pytest.mark.parametrize(
    ("plan", "steep", "patience", "end"),
    [
        (watch.PHASES, STEEP, TUNING.patience, (RUNNING, watch.UNDAMPED)),
        (watch.PHASES, SLOPING, TUNING.patience, (RUNNING, watch.MONOTONE)),
        (watch.PHASES, SLOPING, TUNING.patience_long, (RUNNING, watch.UNDAMPED)),
        (watch.PHASES, FLAT, TUNING.patience_long, (RUNNING, watch.MONOTONE)),
        (watch.KICKS, STEEP, TUNING.patience, (STALLED, watch.KICKED)),
        (watch.HAND_OVER, STEEP, TUNING.patience_hand_over, (STALLED, watch.MONOTONE)),
        (watch.ALONE, STEEP, TUNING.patience, (RUNNING, watch.MONOTONE)),
    ],
)
def test_a_crawl_ends_by_what_is_planned(plan, steep, patience, end):
    *before, last = crawl(begun(plan), patience, steep)
    assert set(before) <= {(RUNNING, watch.MONOTONE)}
    assert last == end


def test_patience_is_longer_after_a_phase_that_failed():
    assert crawl(begun(failed=True), TUNING.patience, STEEP)[-1] == (RUNNING, watch.MONOTONE)
    assert crawl(begun(failed=True), TUNING.patience_long, STEEP)[-1] == (RUNNING, watch.UNDAMPED)


@pytest.mark.parametrize(
    ("status", "root", "phase"), [(STALLED, False, 2), (STATIONARY, True, 2), (STATIONARY, False, 0)]
)
def test_kicks_follow_the_end_of_monotone_steps(status, root, phase):
    k = begun(own=5)
    k.root = root
    assert watch.after_monotone(k, status, 0.9, FLAT, 6) == (status, phase)


def test_nothing_follows_once_the_allowance_is_spent():
    k = begun(own=5, level=1.0, allowance=2, kicks=4)
    assert watch.spare(k, 11) == 0
    assert watch.after_monotone(k, RUNNING, 0.9, STEEP, 11) == (STALLED, watch.MONOTONE)


@pytest.mark.parametrize(("status", "allowance"), [(RUNNING, TUNING.allowance), (STATIONARY, 0)])
def test_a_kick_whose_residual_is_near_falls_back(status, allowance):
    """No other follows where the gradient is zero."""
    k = begun(own=50, level=1.0, allowance=TUNING.allowance, left=9, near=0.25)
    assert watch.after_kicked(k, status, 1.1, 60, 1.0, STALLED, 0.2) == watch.FELL_BACK
    assert k.allowance == allowance
    k = begun(own=50, level=1.0, allowance=TUNING.allowance, left=9, near=0.25)
    assert watch.after_kicked(k, RUNNING, 1.1, 60, 1.0, STALLED, 0.3) == watch.UNDER_WAY


def test_a_kick_arrives_where_it_is_well_below_a_minimum():
    led = {}
    for size in (0.95, 0.85):
        k = begun(own=50, level=1.0, allowance=TUNING.allowance, left=9)
        led[size] = watch.after_kicked(k, RUNNING, size, 60, 1.0, STALLED, 2.0)
    assert led == {0.95: watch.UNDER_WAY, 0.85: watch.ARRIVED}
    k = begun(own=50, level=1.0, allowance=TUNING.allowance, left=1)
    assert watch.after_kicked(k, RUNNING, 0.95, 60, 1.0, STALLED, 2.0) == watch.FELL_LOWER


def test_compiled_code_decides_alike():
    """The record of a system has the fields of a Watch."""
    numba = pytest.importorskip("numba")
    from plsolve._compiled.memory import State

    @numba.njit
    def both(s, status, size, steep, nit, apart):
        first = watch.after_monotone(s[0], status, size, steep, nit)
        return first, watch.after_kicked(s[0], status, size, nit, s[0].mark, STALLED, apart)

    rng, dtype = np.random.default_rng(0), np.dtype(State)
    for _ in range(300):
        k = begun(
            int(rng.integers(4)), own=int(rng.integers(30)), level=float(rng.choice([0.0, 1.0])),
            slow=int(rng.integers(20)), left=int(rng.integers(3)), allowance=int(rng.integers(9)),
            near=float(rng.random()), failed=bool(rng.integers(2)),
        )  # fmt: skip
        s = np.zeros(1, dtype)
        for name in watch.Watch.__slots__:
            s[name] = getattr(k, name)
        status = int(rng.choice([RUNNING, STALLED, STATIONARY, RESIDUAL]))
        size, steep, nit, apart = 2.0 * rng.random(), 2.0 * rng.random(), int(rng.integers(100)), rng.random()
        first = watch.after_monotone(k, status, size, steep, nit)
        second = watch.after_kicked(k, status, size, nit, k.mark, STALLED, apart)
        assert both(s, status, size, steep, nit, apart) == (first, second)
        assert all(math.isclose(s[name][0], getattr(k, name)) for name in watch.Watch.__slots__)
