"""Nonlinear systems whose answers are in the literature."""

import naive
import numpy as np
import problems
import pytest
from scipy.optimize import least_squares

from plsolve import Status, solve


@pytest.mark.parametrize("method", ["auto", "gauss-newton"])
@pytest.mark.parametrize("p", problems.SOLVABLE, ids=str)
def test_solved(p, method):
    sol = solve(p.F, p.jac, p.w0, method=method)
    assert sol.status == Status.RESIDUAL, sol.message
    assert np.linalg.norm(p.F(sol.x)) <= 1e-10 * np.linalg.norm(p.F(p.w0))
    if p.x is not None:
        np.testing.assert_allclose(sol.x, p.x, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("mode", [None, "2-point", "3-point"])
@pytest.mark.parametrize("p", [p for p in problems.SOLVABLE if "sparse" not in p.name], ids=str)
def test_solved_by_differences(p, mode):
    sol = solve(p.F, mode, p.w0, tol=1e-8)
    assert sol.success, sol.message
    assert np.linalg.norm(p.F(sol.x)) <= 1e-8 * np.linalg.norm(p.F(p.w0))


@pytest.mark.parametrize("jac", ["analytic", None, "3-point"])
@pytest.mark.parametrize("p", problems.WITH_RESIDUAL, ids=str)
def test_least_squares_with_a_residual(p, jac):
    sol = solve(p.F, p.jac if jac == "analytic" else jac, p.w0, method="gauss-newton")
    assert not sol.success
    np.testing.assert_allclose(sol.cost, p.cost, rtol=1e-5)
    if jac == "analytic":
        assert sol.status == Status.STATIONARY, sol.message
        J, r = p.jac(sol.x), p.F(sol.x)
        assert np.linalg.norm(J.T @ r) <= 1e-4 * np.linalg.norm(J, 2) * np.linalg.norm(r)
    if p.x is not None:
        np.testing.assert_allclose(sol.x, p.x, rtol=p.x_rtol)


def test_the_other_start_of_freudenstein_and_roth_gets_out_of_the_known_local_minimum():
    """Descent ends there, at (11.4128, -0.896805) with a loss of 24.49; the watchdog's kicks find the solution."""
    p = problems.freudenstein_roth()
    sol = solve(p.F, p.jac, np.array([0.5, -2.0]), method="gauss-newton")
    assert np.abs(sol.history.loss - 48.98425 / 2).min() < 0.01
    assert sol.success, sol.message
    np.testing.assert_allclose(sol.x, [5.0, 4.0], rtol=1e-8)


def test_seven_joints_reach_many_targets():
    p = problems.planar_arm()
    angles = np.linspace(0, 2 * np.pi, 25)[:-1]
    missed = []
    for a in angles:
        target = 4.0 * np.array([np.cos(a), np.sin(a)]) - np.array([2.0, 3.0])
        sol = solve(p.F, p.jac, p.w0, target, method="gauss-newton")
        assert sol.success == (np.linalg.norm(p.F(sol.x) - target) <= 1e-9)
        missed += [] if sol.success else [a]
    assert len(missed) <= 2, missed


@pytest.mark.parametrize("kappa", [1e0, 1e2, 1e4, 1e6, 1e8])
def test_iterations_do_not_grow_with_the_condition_number(kappa):
    """F = A (w + 0.3 sin w) with sigma(A) spread over sqrt(kappa): at most six outer steps at every kappa."""
    A = problems.matrix(50, 200, spread=np.sqrt(kappa))
    w_true = 0.5 * problems.vector(200)
    y = A @ (w_true + 0.3 * np.sin(w_true))
    sol = solve(
        lambda w: A @ (w + 0.3 * np.sin(w)),
        lambda w: A * (1 + 0.3 * np.cos(w)),
        np.zeros(200),
        y,
        method="gauss-newton",
    )
    assert sol.status == Status.RESIDUAL, sol.message
    assert sol.nit <= 6


def test_far_starts_of_over_parameterized_systems_are_all_solved():
    """F = A w + sin(B w) - b with at least twice as many unknowns as equations, from ||w0|| ~ 3 sqrt(m)."""
    failed = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(1, 9))
        m = 2 * n + int(rng.integers(0, 9))
        (A, B), b, w0 = rng.normal(size=(2, n, m)), rng.normal(size=n), 3 * rng.normal(size=m)
        sol = solve(
            lambda w, A=A, B=B, b=b: A @ w + np.sin(B @ w) - b,
            lambda w, A=A, B=B: A + np.cos(B @ w)[:, None] * B,
            w0,
            method="gauss-newton",
        )
        failed += [] if sol.status == Status.RESIDUAL else [(seed, n, m, sol.message)]
    assert not failed


@pytest.mark.parametrize("p", [problems.tanh_system(20, 60), problems.tanh_system(20, 200)], ids=str)
@pytest.mark.parametrize("method", ["gd", "sgd"])
def test_first_order_methods_arrive_too(p, method):
    sol = solve(p.F, p.jac, p.w0, method=method, tol=1e-8, rng=0)
    assert sol.success, sol.message
    assert naive.loss(p.F(sol.x)) <= 1e-16 * naive.loss(p.F(p.w0))


def test_agrees_with_scipy_on_a_square_root():
    """The unique zero of w + exp(w) in every coordinate, from a far start."""
    sol = solve(lambda w: w + np.exp(w), lambda w: np.diag(1 + np.exp(w)), np.array([5.0, -20.0, 1.0]), tol=1e-13)
    np.testing.assert_allclose(sol.x, -0.5671432904097838, rtol=1e-12)


def test_far_start_of_an_exponential_fit_agrees_with_scipy():
    p = problems.exponential_fit()
    best = least_squares(p.F, [3.0, 0.5, 2.0, 2.0], p.jac, xtol=1e-15, ftol=1e-15, gtol=1e-15)
    sol = solve(p.F, p.jac, [10.0, 1.0, 10.0, 1.5], method="gauss-newton")
    np.testing.assert_allclose(sol.cost, best.cost, rtol=1e-6)
    np.testing.assert_allclose(np.sort(sol.x), np.sort(best.x), rtol=1e-3)
