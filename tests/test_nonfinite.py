"""NaN and inf: a trial with them is a rejected step, a start with them is a ValueError that says where."""

import re

import naive
import numpy as np
import problems
import pytest
from scipy import sparse

from plsolve import Status, solve

A = problems.matrix(5, 8)
BAD = [np.nan, np.inf, -np.inf]


def spoil(a, index, value):
    a = np.array(a, dtype=float)
    a[index] = value
    return a


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("where", ["w0", "y", "F", "jac", "sparse jac"])
@pytest.mark.parametrize("method", ["gauss-newton", "gd", "sgd"])
def test_start_is_refused_with_the_place(method, where, value):
    w0, y = np.ones(8), np.ones(5)
    F, J = A @ w0, A
    if where == "w0":
        w0 = spoil(w0, 3, value)
    elif where == "y":
        y = spoil(y, 3, value)
    elif where == "F":
        F = spoil(F, 3, value)
    else:
        J = spoil(A, (3, 6), value)
    if where == "sparse jac":
        J = sparse.csr_array(J)
    with pytest.raises(ValueError, match=rf"\b{where.split()[-1]}\b") as failure:
        solve(lambda w: F, lambda w: J, w0, y, method=method)
    numbers = re.findall(r"\d+", str(failure.value))
    assert "3" in numbers, failure.value
    if where == "jac":
        assert "6" in numbers, failure.value


def logarithm(w):
    with np.errstate(all="ignore"):
        return np.log(w)


@pytest.mark.parametrize("method", ["gauss-newton", "gd"])
@pytest.mark.parametrize("start", [3.0, 10.0, 200.0])
def test_logarithm_from_beyond_its_reach(start, method):
    """The full step from 10 ends at -13, where log is NaN."""
    F = naive.Recorded(logarithm)
    w0 = np.array([start, 2.0])
    sol = solve(F, lambda w: np.diag(1 / w), w0, method=method, tol=1e-8, max_iter=None if start < 200 else 100_000)
    if method == "gauss-newton":
        assert start < 3.1 or any(not np.all(np.isfinite(r)) for r in F.values), "the trap was not met"
        assert sol.success, sol.message
        np.testing.assert_allclose(sol.x, 1, rtol=1e-6)
    assert np.all(np.isfinite(sol.x))
    assert np.all(np.isfinite(sol.history.loss))
    assert sol.cost <= naive.loss(np.log(w0))


@pytest.mark.parametrize("mode", [None, "2-point", "3-point"])
def test_logarithm_by_differences(mode):
    sol = solve(logarithm, mode, np.array([10.0, 2.0]), tol=1e-8, method="gauss-newton")
    assert sol.success, sol.message
    np.testing.assert_allclose(sol.x, 1, rtol=1e-6)


@pytest.mark.parametrize("value", BAD)
def test_wall_of_non_finite_values(value):
    """F is not finite for w > 1.5; the full step from 0.1 goes to 5.05."""

    def F(w):
        return np.where(w > 1.5, value, w**2 - 1)

    sol = solve(F, lambda w: np.diag(2 * w), np.array([0.1]), method="gauss-newton")
    assert sol.success, sol.message
    np.testing.assert_allclose(sol.x, 1, rtol=1e-8)


def test_overflow_is_a_rejected_step():
    def F(w):
        with np.errstate(over="ignore"):
            return np.exp(w) - 2

    def jac(w):
        with np.errstate(over="ignore"):
            return np.diag(np.exp(w))

    sol = solve(F, jac, np.array([-20.0]), method="gauss-newton")
    assert np.isfinite(sol.cost)
    assert sol.cost <= naive.loss(F(np.array([-20.0])))
    if sol.success:
        np.testing.assert_allclose(sol.x, np.log(2), rtol=1e-8)


def test_jacobian_not_finite_at_a_trial_point():
    """F is finite everywhere, J only for w < 5; the solution is 2, the full step from 0.4 leads to 5.2."""

    def jac(w):
        return np.where(w < 5, np.diag(2 * w), np.nan)

    sol = solve(lambda w: w**2 - 4, jac, np.array([0.4]), method="gauss-newton")
    assert sol.success, sol.message
    np.testing.assert_allclose(sol.x, 2, rtol=1e-8)


@pytest.mark.parametrize("method", ["gauss-newton", "gd"])
def test_nothing_finite_but_the_start(method):
    w0 = np.ones(2)

    def F(w):
        return w + 1 if np.array_equal(w, w0) else np.full(2, np.nan)

    sol = solve(F, lambda w: np.eye(2), w0, method=method)
    assert sol.status == Status.STALLED, sol.message
    np.testing.assert_array_equal(sol.x, w0)
    np.testing.assert_array_equal(sol.fun, [2, 2])


@pytest.mark.parametrize("method", ["gd", "sgd"])
def test_divergence_ends_with_the_best_point(method):
    """A step ten times too long: the loss grows to inf, the answer is the best point and not a number from there."""
    B = problems.matrix(6, 6, spread=1.5)
    sol = solve(
        lambda w: B @ w, lambda w: B, np.zeros(6), np.ones(6), method=method, rng=0, options={"step_size": 20.0}
    )
    assert np.all(np.isfinite(sol.x))
    assert sol.cost <= 3.0
    assert sol.success == (np.linalg.norm(B @ sol.x - 1) <= 1e-9)
    np.testing.assert_allclose(sol.fun, B @ sol.x - 1)
