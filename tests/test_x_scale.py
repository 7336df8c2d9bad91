"""x_scale changes the metric of the step, and nothing else."""

import math

import naive
import numpy as np
import problems
import pytest
import scipy.sparse as sps

from plsolve import Status, solve
from plsolve.linalg import column_lengths

A, Y, W0 = problems.matrix(4, 9), problems.vector(4), problems.vector(9)
SCALE = np.geomspace(0.5, 2, 9)


def F(w):
    return A @ w


@pytest.mark.parametrize("method", ["gauss-newton", "gd", "sgd"])
@pytest.mark.parametrize("form", ["C", "csr_array", "operator", "gram_operator"])
def test_least_scaled_norm(method, form):
    J = problems.FORMS[form](A)
    sol = solve(F, lambda w: J, W0, Y, method=method, x_scale=SCALE, tol=1e-9, rng=0)
    assert sol.success, sol.message
    w = naive.least_norm(A, Y, W0, SCALE)
    assert np.linalg.norm(w - naive.least_norm(A, Y, W0)) > 0.05
    np.testing.assert_allclose(sol.x, w, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-6, 0.5, 7, np.full(9, 1e5), [2.0] * 9])
def test_one_scale_for_all_changes_nothing(scale):
    sol = solve(F, lambda w: A, W0, Y, x_scale=scale, method="gauss-newton")
    np.testing.assert_allclose(sol.x, naive.least_norm(A, Y, W0), atol=1e-8)


def test_result_stays_in_the_units_of_w():
    sol = solve(F, lambda w: A, W0, Y, x_scale=SCALE, max_iter=0)
    np.testing.assert_allclose(sol.jac, A)
    np.testing.assert_allclose(sol.grad, A.T @ (A @ W0 - Y))


def test_equals_the_change_of_variables():
    """p(w) with x_scale = s takes the steps of p(s v) in v."""
    p = problems.tanh_system(5, 20)
    s = np.geomspace(0.5, 2, 20)
    scaled = solve(p.F, p.jac, p.w0, x_scale=s, method="gauss-newton", tol=1e-12)
    changed = solve(lambda v: p.F(s * v), lambda v: p.jac(s * v) * s, p.w0 / s, method="gauss-newton", tol=1e-12)
    np.testing.assert_allclose(scaled.x, s * changed.x, rtol=1e-6, atol=1e-8)


def test_within_bounds():
    lb, ub = np.full(9, -0.6), np.full(9, 0.6)
    w0 = np.zeros(9)
    record = naive.Recorded(F, lb, ub)
    y = A @ np.linspace(-0.59, 0.59, 9)
    for scale in (1.0, SCALE):
        sol = solve(record, lambda w: A, w0, y, x_scale=scale, bounds=(lb, ub), method="gauss-newton")
        assert sol.status == Status.RESIDUAL, sol.message


def test_by_the_columns_of_the_jacobian():
    """'jac' (scipy's): parameters in units 1e-6 and 1e6 are no harder than in natural ones."""
    p = problems.exponential_fit()
    units = np.array([1e-6, 1e6, 1e3, 1.0])
    sol = solve(lambda v: p.F(units * v), lambda v: p.jac(units * v) * units, p.w0 / units, x_scale="jac", max_iter=100)
    np.testing.assert_allclose(sol.cost, p.cost, rtol=1e-6)


def test_scale_is_not_modified():
    s = SCALE.copy()
    solve(F, lambda w: A, W0, Y, x_scale=s)
    np.testing.assert_array_equal(s, SCALE)


@pytest.mark.parametrize("form", [np.asarray, np.asfortranarray, sps.csr_array])
@pytest.mark.parametrize("m", [5, 300])
def test_lengths_of_columns_of_any_size(m, form):
    rng = np.random.default_rng(0)
    J = rng.standard_normal((4, m)) * 10.0 ** rng.uniform(-200, 200, m)
    J[:, 2] = 0.0
    expected = [math.hypot(*column) for column in J.T]
    np.testing.assert_allclose(column_lengths(form(J)), expected, rtol=1e-14)
