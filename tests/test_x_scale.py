"""x_scale changes the metric of the step, and nothing else."""

import math

import naive
import numpy as np
import problems
import pytest
import scipy.sparse as sps

from plsolve import Status, least_squares, root, solve
from plsolve._linalg import column_lengths

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


def test_trilateration_ends_in_the_best_minimum():
    """Three squared distances in the plane, from the centroid: columns of comparable size are not rescaled unasked."""
    missed = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        B, t = rng.uniform(-10, 10, (3, 2)), rng.uniform(-10, 10, 2)
        d2 = ((B - t) ** 2).sum(axis=1)
        missed += least_squares(lambda p, B=B, d2=d2: ((p - B) ** 2).sum(axis=1) - d2, B.mean(axis=0)).cost > 1e-10
    assert missed == 0


@pytest.mark.parametrize("size", [1e-8, 1e-6, 1e-4, 1e5])
def test_root_gives_the_digits_of_small_unknowns(size):
    sol = root(lambda w: np.array([np.sin(w[0] / size + w[1]) - 0.5, w[1] - 0.1]), [0.0, 0.0])
    assert sol.success
    assert sol.x == pytest.approx([(np.arcsin(0.5) - 0.1) * size, 0.1], rel=1e-8, abs=0.0)


@pytest.mark.parametrize("method", ["hybr", "lm"])
def test_solar_cell(method):
    Isc, Voc, Imp, Vmp, vt = 8.21, 32.9, 7.61, 26.3, 0.0257 * 54

    def cell(p):
        Iph, I0, n, Rs, Rp = p

        def current(V, amps):
            return Iph - I0 * np.expm1((V + amps * Rs) / (n * vt)) - (V + amps * Rs) / Rp - amps

        def slope(V, amps):
            e = I0 / (n * vt) * np.exp((V + amps * Rs) / (n * vt))
            return -(e + 1 / Rp) / (1 + Rs * e + Rs / Rp)

        currents = [current(0, Isc), current(Voc, 0), current(Vmp, Imp)]
        return [*currents, slope(Vmp, Imp) * Vmp + Imp, slope(0, Isc) + 1 / Rp]

    sol = root(cell, [8.21, 1e-7, 1.3, 0.2, 400.0], method=method)
    assert sol.success, sol.message
    assert sol.x == pytest.approx([8.21187313, 1.71066325e-07, 1.34067476, 0.217152147, 951.926966], rel=1e-6)


@pytest.mark.parametrize("C0", [1e-11, 1e-9, 1e-8])
def test_solve_for_unknowns_in_any_units(C0):
    """Windkessel, more equations than unknowns: a pressure of 3e4 and a compliance of 1e-10."""
    t, R, truth = np.linspace(0, 1.15384, 20), 9785025352.0, np.array([3.18787051e4, 1.193165e-10])

    def pressure(z):
        return z[0] * np.exp(-t / (R * z[1]))

    sol = solve(pressure, None, [3e4, C0], pressure(truth))
    assert sol.success, sol.message
    assert sol.x == pytest.approx(truth, rel=1e-7)


@pytest.mark.parametrize("spread", [6, 10, 20, 50, 150])
@pytest.mark.parametrize("n", [3, 5])
def test_any_given_scale_solves_what_is_easy(n, spread):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        B, w = rng.standard_normal((n, 3)), 0.3 * rng.standard_normal(3)
        y, scale = np.tanh(B @ w) + B @ w, 10.0 ** rng.uniform(-spread, spread, 3)
        sol = least_squares(lambda v, B=B, y=y: np.tanh(B @ v) + B @ v - y, np.zeros(3), x_scale=scale)
        assert sol.success
        np.testing.assert_allclose(sol.x, w, atol=1e-7)
