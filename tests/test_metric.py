"""A covariance as `x_scale`: steps and the nearest solution in its metric."""

import numpy as np
import pytest
import scipy.sparse as sps
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from plsolve import solve
from tests.test_posterior import as_kind, spd

GIVEN = {
    "matrix": lambda C: C,
    "operator": aslinearoperator,
    "precision": lambda C: sps.csr_array(np.linalg.inv(C)),
}


def case(seed=0, n=4, m=9):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, m)), rng.standard_normal(m), rng.standard_normal(n), spd(rng, m, 0.1)


@pytest.mark.parametrize("kind", ["dense", "sparse", "operator", "gram"])
@pytest.mark.parametrize("metric", list(GIVEN))
@pytest.mark.parametrize("linear_solver", ["auto", "cg"])
def test_the_step_of_least_norm(metric, kind, linear_solver):
    A, w0, y, C = case()
    J = as_kind(A, kind)
    options = {"linear_solver": linear_solver}
    sol = solve(lambda w: A @ w, lambda w: J, w0, y, x_scale=GIVEN[metric](C), options=options)
    assert sol.success
    x = w0 + C @ A.T @ np.linalg.solve(A @ C @ A.T, y - A @ w0)
    np.testing.assert_allclose(sol.x, x, atol=1e-8)
    np.testing.assert_allclose(sol.fun, A @ sol.x - y, atol=1e-12)
    assert np.shape(sol.jac) == A.shape
    assert sol.certificate.exists
    np.testing.assert_allclose(sol.kernel.eigenvalues, np.linalg.eigvalsh(A @ A.T), rtol=1e-9)


@pytest.mark.parametrize("metric", list(GIVEN))
@pytest.mark.parametrize("jac", ["given", None, True])
def test_the_nearest_solution(metric, jac):
    """x - w0 = C J^T z at the nearest one."""
    A, w0, y, C = case(3)
    F, J = (lambda w: A @ w + 0.3 * np.sin(A @ w)), (lambda w: A * (1 + 0.3 * np.cos(A @ w))[:, None])
    function, derivative = {"given": (F, J), None: (F, None), True: (lambda w: (F(w), J(w)), True)}[jac]
    sol = solve(function, derivative, w0, y, x_scale=GIVEN[metric](C), options={"nearest": True})
    assert sol.success
    way = C @ J(sol.x).T
    z = np.linalg.lstsq(way, sol.x - w0)[0]
    np.testing.assert_allclose(way @ z, sol.x - w0, atol=1e-6)


def test_a_diagonal_covariance_is_a_scale():
    A, w0, y, _ = case()
    std = np.linspace(0.5, 2.0, 9)
    by_scale = solve(lambda w: A @ w, lambda w: A, w0, y, x_scale=std)
    by_matrix = solve(lambda w: A @ w, lambda w: A, w0, y, x_scale=np.diag(std**2))
    np.testing.assert_allclose(by_matrix.x, by_scale.x, atol=1e-12)


@pytest.mark.parametrize("whole", [True, False])
def test_callbacks_and_exceptions_speak_of_w(whole):
    A, w0, y, C = case()
    F, J = (lambda w: A @ w + 0.3 * np.sin(A @ w)), (lambda w: A * (1 + 0.3 * np.cos(A @ w))[:, None])
    seen = []

    def of_state(intermediate_result):
        seen.append(intermediate_result.x)
        np.testing.assert_allclose(F(intermediate_result.x) - y, intermediate_result.fun, atol=1e-9)

    def of_w(w):
        seen.append(w)

    sol = solve(F, J, w0, y, x_scale=C, callback=of_state if whole else of_w)
    np.testing.assert_allclose(seen[-1], sol.x, atol=1e-12)

    def interrupts(w):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        solve(F, J, w0, y, x_scale=C, callback=interrupts)
    np.testing.assert_allclose(caught.value.best, seen[0], atol=1e-12)


def test_args_and_inputs():
    A, w0, y, C = case()
    before = w0.copy(), C.copy()
    sol = solve(lambda w, a: a @ w, lambda w, a: a, w0, y, args=(A,), x_scale=C)
    assert sol.success
    assert np.array_equal(w0, before[0])
    assert np.array_equal(C, before[1])
    assert sol.uncertainty(0.1).std().shape == (9,)
    assert "status" in sol.report()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"x_scale": -np.eye(9)}, "`x_scale` must be positive definite"),
        ({"x_scale": np.eye(8)}, "`x_scale` must be a number, or have shape"),
        ({"x_scale": np.triu(np.ones((9, 9)))}, "`x_scale` must be symmetric"),
        ({"x_scale": aslinearoperator(np.eye(8))}, "`x_scale` must have shape"),
        ({"x_scale": sps.diags_array(-np.ones(9))}, "`x_scale` must be a positive definite precision"),
        ({"x_scale": np.eye(9), "bounds": (-9, 9)}, "`bounds` cannot be combined"),
        ({"x_scale": np.eye(9), "method": "newton"}, "`method` must be one of"),
        ({"x_scale": np.eye(9), "callback": 3}, "`callback` must be callable"),
    ],
)
def test_bad_input_is_named(given, message):
    A, w0, y, _ = case()
    with pytest.raises((TypeError, ValueError), match=message):
        solve(lambda w: A @ w, lambda w: A, w0, y, **given)


def test_only_products_with_an_operator():
    A, w0, y, C = case()

    class Covariance(LinearOperator):
        def _matvec(self, v):
            return C @ v

    sol = solve(lambda w: A @ w, lambda w: A, w0, y, x_scale=Covariance(np.float64, (9, 9)))
    np.testing.assert_allclose(A @ sol.x, y, atol=1e-9)
