"""Linear systems: the limit is the least-squares point nearest to w0, for any shape, form of J and method."""

import naive
import numpy as np
import problems
import pytest
from scipy import sparse

from plsolve import Status, solve

SHAPES = [(6, 15), (8, 8), (15, 6), (1, 4), (4, 1), (1, 1)]
IDS = [f"{n}x{m}" for n, m in SHAPES]


def system(n, m):
    """A, y and a start. For n > m the equations contradict each other, and a residual stays."""
    return problems.matrix(n, m), problems.vector(n), problems.vector(m, seed=5)


def check(sol, A, y, w0, rtol=1e-8):
    w = naive.least_norm(A, y, w0)
    np.testing.assert_allclose(sol.x, w, rtol=rtol, atol=rtol * np.linalg.norm(w))
    consistent = np.linalg.norm(A @ w - y) < 1e-12 * np.linalg.norm(y)
    assert sol.status == (Status.RESIDUAL if consistent else Status.STATIONARY), sol.message


@pytest.mark.parametrize("form", problems.FORMS)
@pytest.mark.parametrize(("n", "m"), SHAPES, ids=IDS)
def test_every_form_of_jacobian(n, m, form):
    A, y, w0 = system(n, m)
    J = problems.FORMS[form](A)
    check(solve(lambda w: A @ w, lambda w: J, w0, y, tol=1e-12), A, y, w0)


@pytest.mark.parametrize("form", ["C", "csr_array", "coo_matrix", "operator", "gram_operator"])
@pytest.mark.parametrize("method", ["gauss-newton", "gd"])
@pytest.mark.parametrize(("n", "m"), SHAPES, ids=IDS)
def test_both_full_methods_on_every_kind(n, m, method, form):
    A, y, w0 = system(n, m)
    J = problems.FORMS[form](A)
    check(solve(lambda w: A @ w, lambda w: J, w0, y, method=method, tol=1e-11), A, y, w0, rtol=1e-6)


@pytest.mark.parametrize("form", ["C", "csr_array", "coo_matrix", "operator"])
@pytest.mark.parametrize(("n", "m"), [(6, 15), (8, 8)], ids=["6x15", "8x8"])
def test_sgd_where_the_equations_agree(n, m, form):
    A, y, w0 = system(n, m)
    J = problems.FORMS[form](A)
    check(solve(lambda w: A @ w, lambda w: J, w0, y, method="sgd", rng=0), A, y, w0, rtol=1e-7)


def test_one_full_step_is_enough():
    A, y, w0 = system(6, 15)
    sol = solve(lambda w: A @ w, lambda w: A, w0, y, method="gauss-newton")
    assert sol.nit <= 2
    assert sol.njev <= 3


def test_the_operators_own_gram_is_used():
    A, y, w0 = system(6, 15)
    before = problems.GramOperator.grams
    check(solve(lambda w: A @ w, lambda w: problems.GramOperator(A), w0, y, method="gauss-newton"), A, y, w0)
    assert problems.GramOperator.grams > before


@pytest.mark.parametrize(("n", "m"), SHAPES, ids=IDS)
def test_function_that_returns_both(n, m):
    A, y, w0 = system(n, m)
    check(solve(lambda w: (A @ w, A), True, w0, y, tol=1e-12), A, y, w0)


@pytest.mark.parametrize("method", ["gauss-newton", "gd"])
@pytest.mark.parametrize("mode", [None, "2-point", "3-point", "cs"])
@pytest.mark.parametrize(("n", "m"), SHAPES, ids=IDS)
def test_differences(n, m, mode, method):
    A, y, w0 = system(n, m)
    sol = solve(lambda w: A @ w, mode, w0, y, method=method, tol=1e-9)
    w = naive.least_norm(A, y, w0)
    np.testing.assert_allclose(sol.x, w, atol=2e-6 * np.linalg.norm(w))
    if n <= m:
        assert sol.success, sol.message


@pytest.mark.parametrize("jac_of", [lambda w, A, b: A, None, "cs"], ids=["analytic", "None", "cs"])
def test_args_reach_every_call(jac_of):
    A, y, w0 = system(6, 15)
    b = np.ones(6)
    sol = solve(lambda w, A, b: A @ w + b, jac_of, w0, y, args=(A, b), tol=1e-9)
    np.testing.assert_allclose(sol.x, naive.least_norm(A, y - b, w0), atol=1e-6)


def test_args_with_both_from_one_function():
    A, y, w0 = system(6, 15)
    check(solve(lambda w, A: (A @ w, A), True, w0, y, args=(A,)), A, y, w0, rtol=1e-7)


def test_target_none_is_zero():
    A, y, w0 = system(6, 15)
    left = solve(lambda w: A @ w - y, lambda w: A, w0)
    right = solve(lambda w: A @ w - y, lambda w: A, w0, np.zeros(6))
    np.testing.assert_array_equal(left.x, right.x)
    np.testing.assert_allclose(left.x, naive.least_norm(A, y, w0), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("spread", [1e3, 1e5, 1e7])
@pytest.mark.parametrize(("n", "m"), [(6, 15), (8, 8)], ids=["6x15", "8x8"])
def test_badly_conditioned_jacobians_lose_nothing(n, m, spread):
    """kappa(K) = spread^2: beyond 1e10 the Cholesky factor of K has no digits left, J still has."""
    A = problems.matrix(n, m, spread=spread)
    w_true = problems.vector(m, seed=8)
    y, w0 = A @ w_true, np.zeros(m)
    sol = solve(lambda w: A @ w, lambda w: A, w0, y, method="gauss-newton")
    assert sol.status == Status.RESIDUAL, sol.message
    assert np.linalg.norm(A @ sol.x - y) <= 1e-10 * np.linalg.norm(y)
    assert sol.nit <= 6
    np.testing.assert_allclose(sol.x, naive.least_norm(A, y, w0), atol=1e-9 * spread * np.linalg.norm(w_true))


def test_large_sparse_system_stays_sparse():
    """20 000 x 20 000 dense would be 3.2 GB."""
    m = 20_000
    J = sparse.diags_array([np.full(m, 2.0), np.full(m - 1, 0.5)], offsets=[0, 1], format="csr")
    y = np.cos(np.arange(m))
    sol = solve(lambda w: J @ w, lambda w: J, np.zeros(m), y)
    assert sol.success, sol.message
    assert np.linalg.norm(J @ sol.x - y) <= 1e-10 * np.linalg.norm(y)


def test_wide_sparse_kernel_moves_least():
    rng = np.random.default_rng(3)
    J = sparse.random_array((40, 3000), density=0.01, format="csr", rng=rng)
    y, w0 = rng.normal(size=40), rng.normal(size=3000)
    sol = solve(lambda w: J @ w, lambda w: J, w0, y, tol=1e-12)
    np.testing.assert_allclose(sol.x, naive.least_norm(J.toarray(), y, w0), rtol=1e-8, atol=1e-9)
