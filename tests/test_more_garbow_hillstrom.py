"""The classical least-squares problems: minima as published, and far starts."""

import numpy as np
import pytest

from plsolve import least_squares
from plsolve.testing.more_garbow_hillstrom import problems

PROBLEMS = problems()
# From ten times the start: ends in another minimum that the source does not list, or in a valley without end.
ELSEWHERE = {"Beale", "Jennrich and Sampson", "Box", "Osborne 2", "trigonometric", "Powell badly scaled"}


def is_minimum(p, cost):
    return any(abs(2 * cost - low) <= 1e-5 * low + 1e-12 for low in p.minima)


@pytest.mark.parametrize("p", PROBLEMS, ids=lambda p: p.name)
def test_jacobian(p):
    w = p.start + 0.01 * np.arange(1, p.start.size + 1)
    h = 1e-6
    differences = np.array([(p.F(w + h * e) - p.F(w - h * e)) / (2 * h) for e in np.eye(w.size)]).T
    assert p.jac(w) == pytest.approx(differences, rel=1e-5, abs=1e-6 * np.abs(differences).max())


@pytest.mark.parametrize("p", PROBLEMS, ids=lambda p: p.name)
def test_minimum_from_the_standard_start(p):
    with np.errstate(all="ignore"):
        res = least_squares(p.F, p.start, p.jac)
    assert res.success
    assert is_minimum(p, res.cost)


def test_minima_from_ten_times_the_start():
    with np.errstate(all="ignore"):
        missed = {p.name for p in PROBLEMS if not is_minimum(p, least_squares(p.F, p.scaled(10.0), p.jac).cost)}
    assert len(missed - ELSEWHERE) <= 3


@pytest.mark.parametrize("name", ["Brown and Dennis", "Freudenstein and Roth", "Kowalik and Osborne", "Meyer"])
def test_large_residuals_converge_fast(name):
    p = next(p for p in PROBLEMS if p.name == name)
    with np.errstate(all="ignore"):
        res = least_squares(p.F, p.start, p.jac, max_nfev=150)
    assert res.success
    assert is_minimum(p, res.cost)
