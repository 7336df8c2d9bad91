"""J^+ by each of options={'linear_solver': ...}: the same answers, and what cannot be done is said."""

import numpy as np
import pytest
import scipy.sparse as sps
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from plsolve import Status, solve
from plsolve import _tangent as tangent
from plsolve._tangent import LinearSolver, dense, operator, sparse

KINDS = ["auto", "cholesky", "qr", "cg"]
rng = np.random.default_rng(0)
A = rng.standard_normal((30, 80)) * np.logspace(0, -2, 80)
Y = rng.standard_normal(30)
FORMS = {"dense": np.asarray, "sparse": sps.csr_array, "operator": aslinearoperator}


class WithGram(LinearOperator):
    def __init__(self, J):
        self.J, self.calls, self.products = J, 0, 0
        super().__init__(np.float64, J.shape)

    def _matvec(self, v):
        return self.J @ v

    def _rmatvec(self, z):
        self.products += 1
        return self.J.T @ z

    def gram(self):
        self.calls += 1
        return self.J @ self.J.T


def system(form):
    def F(w):
        return A @ (w + 0.1 * np.sin(w))

    def jac(w):
        return FORMS[form](A * (1.0 + 0.1 * np.cos(w)))

    return F, jac


@pytest.mark.parametrize("orthogonal", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scaled", [False, True])
def test_inverses_and_steps_against_the_pseudo_inverse(form, scaled, orthogonal):
    scale = np.linspace(0.5, 2.0, 80) if scaled else np.zeros(0)
    D = scale if scaled else np.ones(80)
    T = tangent.tangent(FORMS[form](A), scale, LinearSolver())
    H = T.inverse(np.zeros(0, bool), orthogonal)
    x = rng.standard_normal(30)
    q = np.linalg.pinv(A * D) @ x
    np.testing.assert_allclose(H.solve(x), D * q, rtol=1e-6, atol=1e-6 * np.abs(q).max())
    np.testing.assert_allclose(H.length(x), np.linalg.norm(q), rtol=1e-6)
    np.testing.assert_allclose(H.slope(x), np.linalg.norm(A.T @ x), rtol=1e-12)
    np.testing.assert_allclose(T.moved(q, x), q + D * D * (A.T @ x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scaled", [False, True])
def test_same_solution_by_every_solver(form, kind, scaled):
    F, jac = system(form)
    x_scale = np.linspace(0.5, 2.0, 80) if scaled else 1.0
    sol = solve(F, jac, np.zeros(80), Y, x_scale=x_scale, options={"linear_solver": kind})
    assert sol.status == Status.RESIDUAL
    exact = solve(F, system("dense")[1], np.zeros(80), Y, x_scale=x_scale)
    np.testing.assert_allclose(sol.x, exact.x, atol=2e-2 * np.linalg.norm(exact.x))


@pytest.mark.parametrize("form", FORMS)
def test_cg_in_a_box(form):
    F, jac = system(form)
    sol = solve(F, jac, np.zeros(80), 0.1 * Y, bounds=(-2.0, 2.0), options={"linear_solver": "cg"})
    assert sol.success
    assert np.abs(sol.x).max() <= 2.0


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_more_equations_than_unknowns(form, kind):
    G = FORMS[form]
    w = np.linspace(-1, 1, 20)
    sol = solve(
        lambda w: A[:, :20] @ w, lambda w: G(A[:, :20]), np.zeros(20), A[:, :20] @ w, options={"linear_solver": kind}
    )
    assert sol.success
    np.testing.assert_allclose(sol.x, w, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_contradicting_equations(kind):
    B = np.vstack([A, A[3]])
    sol = solve(
        lambda w: B @ w,
        lambda w: aslinearoperator(B),
        np.zeros(80),
        np.append(Y, Y[3] + 1.0),
        options={"linear_solver": kind},
    )
    assert sol.status == Status.STATIONARY
    np.testing.assert_allclose(sol.cost, 0.25, rtol=1e-6)


def test_cg_makes_no_kernel(monkeypatch):
    def refuse(*args):
        raise AssertionError("an n x n matrix was made")

    for room, name in ((dense, "cholesky"), (dense, "gram"), (operator, "cholesky"), (sparse, "cholesky")):
        monkeypatch.setattr(room, name, refuse)
    for form in FORMS:
        assert solve(*system(form), np.zeros(80), Y, options={"linear_solver": "cg"}).success


def test_auto_takes_cg_where_the_kernel_does_not_fit(monkeypatch):
    monkeypatch.setattr(operator, "KERNEL_ROWS", 20)
    monkeypatch.setattr(operator, "_GRAM_ROWS", 20)
    monkeypatch.setattr(operator, "_DENSE_ENTRIES", 100)
    J = WithGram(A)
    assert solve(lambda w: A @ w, lambda w: J, np.zeros(80), Y).success
    assert J.calls == 0
    assert solve(lambda w: A @ w, lambda w: J, np.zeros(80), Y, options={"linear_solver": "cholesky"}).success
    assert J.calls > 0


def test_kernel_from_blocks_of_products(monkeypatch):
    monkeypatch.setattr(operator, "_DENSE_ENTRIES", 100)
    monkeypatch.setattr(operator, "_BLOCK_NUMBERS", 7 * 80)
    T = tangent.tangent(aslinearoperator(A), np.zeros(0))
    np.testing.assert_allclose(T._gram(np.zeros(0)), A @ A.T, rtol=1e-12, atol=1e-14)
    d2 = np.linspace(1, 2, 80)
    np.testing.assert_allclose(T._gram(d2), (A * d2) @ A.T, rtol=1e-12, atol=1e-14)


def test_a_user_s_operator_with_gram_is_all_that_is_needed():
    J = WithGram(A)
    sol = solve(lambda w: A @ w, lambda w: J, np.zeros(80), Y)
    assert sol.success
    assert J.calls == sol.njev
    np.testing.assert_allclose(sol.x, np.linalg.lstsq(A, Y)[0], atol=1e-8)


def test_shares_of_one_direction_are_one_product():
    J = WithGram(A)
    H = tangent.tangent(J, np.zeros(0)).inverse(np.zeros(0, bool), False)
    u = H.coordinates(Y)[0]
    for share in (1.0, 0.5, 0.25):
        np.testing.assert_allclose(H.multiple(u, share), share * np.linalg.lstsq(A, Y)[0], atol=1e-8)
    assert J.products == 1
    np.testing.assert_allclose(H.multiple(2.0 * u, 0.5), np.linalg.lstsq(A, Y)[0], atol=1e-8)


@pytest.mark.parametrize("options", [{"linear_solver": "lu"}, {"linear_solver": None}])
def test_unknown_solver(options):
    with pytest.raises(ValueError, match="linear_solver"):
        solve(*system("dense"), np.zeros(80), Y, options=options)


# -- sparse: K or the augmented system ---------------------------------------------------------------------------------


def bordered(n):
    """A tridiagonal J with one column of ones: K is full, J is not."""
    D = sps.diags_array([1.0, -4.0, 1.0], offsets=[-1, 0, 1], shape=(n, n))
    return sps.hstack([D, np.full((n, 1), 0.5), sps.eye_array(n)], format="csr")


def test_a_dense_column_does_not_fill_the_kernel(monkeypatch):
    n = 2000
    J = bordered(n)
    assert sparse.fills(J)
    T = tangent.tangent(J, np.zeros(0), LinearSolver())
    monkeypatch.setattr(sparse, "cholesky", None)  # would be called with a full K
    H = T.inverse(np.empty(0, np.bool_), False)
    x = np.random.default_rng(5).standard_normal(n)
    p = H.solve(x)
    np.testing.assert_allclose(J @ p, x, atol=1e-10)
    z = np.linalg.solve((J @ J.T).toarray(), x)
    np.testing.assert_allclose(p, J.T @ z, atol=1e-10)
    w = np.random.default_rng(6).standard_normal(2 * n + 1)
    sol = solve(lambda w: J @ np.sinh(w), lambda w: J @ sps.diags_array(np.cosh(w)), np.zeros(2 * n + 1), J @ w)
    assert sol.success


def test_banded_systems_keep_to_the_kernel():
    D = sps.diags_array([1.0, -2.0, 1.0], offsets=[-1, 0, 1], shape=(2000, 2000))
    assert not sparse.fills(sps.hstack([D, sps.eye_array(2000)], format="csr"))


def test_a_singular_augmented_system_is_left_to_others():
    J = sps.vstack([bordered(700), bordered(700)[:1]], format="csr")
    y = np.ones(701)
    y[-1] = 2.0
    sol = solve(lambda w: J @ w, lambda w: J, np.zeros(1401), y)
    assert sol.status == Status.STATIONARY
    np.testing.assert_allclose(sol.cost, 0.25, rtol=1e-6)
