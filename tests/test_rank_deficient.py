"""Jacobians without full rank end well: solved where the equations agree, STATIONARY where they do not."""

import naive
import numpy as np
import problems
import pytest

from plsolve import Status, solve

FORMS = ["C", "csr_array", "operator", "gram_operator"]


def repeated(n, m, times=2):
    A = problems.matrix(n, m)
    return np.vstack([A] * times)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("n", "m"), [(4, 15), (4, 8), (4, 5), (4, 4), (1, 3)])
def test_repeated_equations_that_agree(n, m, form):
    A = repeated(n, m)
    y, w0 = A @ problems.vector(m, seed=3), problems.vector(m, seed=4)
    J = problems.FORMS[form](A)
    sol = solve(lambda w: A @ w, lambda w: J, w0, y, method="gauss-newton")
    assert sol.status == Status.RESIDUAL, sol.message
    np.testing.assert_allclose(sol.x, naive.least_norm(A, y, w0), atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("n", "m"), [(4, 15), (4, 8), (4, 5), (4, 4), (1, 3)])
def test_repeated_equations_that_contradict_each_other(n, m, form):
    A = repeated(n, m)
    y, w0 = problems.vector(2 * n), problems.vector(m, seed=4)
    J = problems.FORMS[form](A)
    sol = solve(lambda w: A @ w, lambda w: J, w0, y, method="gauss-newton")
    assert sol.status == Status.STATIONARY, sol.message
    w = naive.least_norm(A, y, w0)
    np.testing.assert_allclose(sol.cost, naive.loss(A @ w - y), rtol=1e-8)
    np.testing.assert_allclose(sol.x, w, atol=1e-5)


@pytest.mark.parametrize("times", [2, 3])
def test_repeated_nonlinear_equations_that_agree(times):
    p = problems.tanh_system(5, 30)
    sol = solve(lambda w: np.tile(p.F(w), times), lambda w: np.tile(p.jac(w), (times, 1)), p.w0, method="gauss-newton")
    assert sol.status == Status.RESIDUAL, sol.message
    assert sol.njev <= 15
    once = solve(p.F, p.jac, p.w0, method="gauss-newton")
    assert np.linalg.norm(sol.x - p.w0) <= 1.5 * np.linalg.norm(once.x - p.w0)


def test_repeated_nonlinear_equations_that_contradict_each_other():
    """F(w) = +0.1 and F(w) = -0.1 at once: the best is F(w) = 0, with loss 0.01 an equation."""
    p = problems.tanh_system(5, 30)
    y = np.repeat([0.1, -0.1], 5)
    sol = solve(lambda w: np.tile(p.F(w), 2), lambda w: np.tile(p.jac(w), (2, 1)), p.w0, y, method="gauss-newton")
    assert sol.status == Status.STATIONARY, sol.message
    np.testing.assert_allclose(sol.cost, 0.05, rtol=1e-8)
    np.testing.assert_allclose(p.F(sol.x), 0, atol=1e-5)


@pytest.mark.parametrize("method", ["gauss-newton", "gd"])
def test_rank_of_a_product(method):
    """A 12 x 12 matrix of rank 7, consistent and not."""
    A = problems.matrix(12, 12, rank=7)
    w0 = problems.vector(12, seed=4)
    for y, status in [(A @ problems.vector(12), Status.RESIDUAL), (problems.vector(12), Status.STATIONARY)]:
        sol = solve(lambda w: A @ w, lambda w: A, w0, y, method=method)
        assert sol.status == status, sol.message
        np.testing.assert_allclose(sol.x, naive.least_norm(A, y, w0), atol=1e-5)


@pytest.mark.parametrize("method", ["gauss-newton", "gd"])
def test_rank_one_tall(method):
    A = np.outer(np.arange(1.0, 9), [1.0, -2.0, 0.5])
    sol = solve(lambda w: A @ w, lambda w: A, np.ones(3), np.ones(8), method=method)
    assert sol.status == Status.STATIONARY, sol.message
    np.testing.assert_allclose(sol.x, naive.least_norm(A, np.ones(8), np.ones(3)), atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", ["gauss-newton", "gd"])
def test_parameter_without_effect_stays(method, form):
    A = problems.matrix(5, 12)
    A[:, 3] = 0
    y, w0 = problems.vector(5), problems.vector(12)
    J = problems.FORMS[form](A)
    sol = solve(lambda w: A @ w, lambda w: J, w0, y, method=method)
    assert sol.success, sol.message
    np.testing.assert_allclose(sol.x[3], w0[3], rtol=1e-12)
    np.testing.assert_allclose(sol.x, naive.least_norm(A, y, w0), atol=1e-7)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", ["gauss-newton", "gd"])
@pytest.mark.parametrize("left", [0.0, 0.7])
def test_equation_without_parameters(left, method, form):
    """Row 2 of J is zero: its residual `left` cannot change."""
    A = problems.matrix(5, 12)
    A[2] = 0
    y = problems.vector(5)
    y[2] = -left
    J = problems.FORMS[form](A)
    sol = solve(lambda w: A @ w, lambda w: J, np.zeros(12), y, method=method)
    assert sol.status == (Status.STATIONARY if left else Status.RESIDUAL), sol.message
    np.testing.assert_allclose(sol.fun, [0, 0, left, 0, 0], atol=1e-7)
    np.testing.assert_allclose(sol.x, naive.least_norm(A, y, np.zeros(12)), atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", ["gauss-newton", "gd", "sgd"])
@pytest.mark.parametrize(("n", "m"), [(2, 6), (4, 4), (6, 2)])
def test_jacobian_zero_everywhere(n, m, method, form):
    J = problems.FORMS[form](np.zeros((n, m)))
    sol = solve(lambda w: np.ones(n), lambda w: J, np.ones(m), method=method, rng=0)
    assert sol.status == Status.STATIONARY, sol.message
    np.testing.assert_array_equal(sol.x, np.ones(m))
    assert sol.optimality == 0


def test_singular_at_the_start_only():
    """Row 1 of J vanishes at w0, but the other equation leads away from there."""

    def F(w):
        return np.array([w[0] + w[1] - 3, w[0] * w[1] - 2])

    def jac(w):
        return np.array([[1, 1], [w[1], w[0]]])

    sol = solve(F, jac, np.zeros(2), method="gauss-newton")
    np.testing.assert_array_less(sol.cost, naive.loss(F(np.zeros(2))))
    assert sol.status in {Status.RESIDUAL, Status.STATIONARY}
    start = np.array([0.0, 1e-3])  # just beside the symmetric line, where the way to a solution exists
    sol = solve(F, jac, start, method="gauss-newton")
    assert sol.status == Status.RESIDUAL, sol.message
    np.testing.assert_allclose(np.sort(sol.x), [1, 2], rtol=1e-8)


@pytest.mark.parametrize("scale", [1e-8, 1e8])
@pytest.mark.parametrize("consistent", [True, False])
def test_rank_is_judged_relative_to_the_scale(scale, consistent):
    A = scale * repeated(4, 10)
    y = A @ problems.vector(10) if consistent else scale * problems.vector(8)
    sol = solve(lambda w: A @ w, lambda w: A, np.zeros(10), y, method="gauss-newton")
    assert sol.status == (Status.RESIDUAL if consistent else Status.STATIONARY), sol.message
    np.testing.assert_allclose(sol.x, naive.least_norm(A, y, np.zeros(10)), atol=1e-5)
