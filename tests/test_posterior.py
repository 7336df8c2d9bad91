"""The linearised posterior against dense m x m formulas: every kind of J, of prior and of noise."""

import numpy as np
import pytest
import scipy.sparse as sps
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from plsolve._inference.noise import as_noise
from plsolve._inference.posterior import flat_posterior, posterior
from plsolve._inference.prior import as_prior
from plsolve._tangent import LinearSolver

SHAPES = [(4, 9), (6, 6), (9, 4), (1, 3), (3, 1)]
PRIORS = ["none", "number", "std", "matrix", "operator", "precision"]
NOISES = ["number", "std", "matrix"]
KINDS = ["dense", "sparse", "operator", "gram"]
SOLVERS = ["auto", "cholesky", "qr", "cg"]


def spd(rng, k, spread=1.0):
    A = rng.standard_normal((k, k))
    return A @ A.T / k + spread * np.diag(rng.uniform(0.5, 2.0, k))


def given_prior(kind, rng, m):
    """The argument, and the covariance that it stands for."""
    C = spd(rng, m)
    std = rng.uniform(0.3, 3.0, m)
    return {
        "none": lambda: (None, np.eye(m)),
        "number": lambda: (1.7, 1.7**2 * np.eye(m)),
        "std": lambda: (std, np.diag(std**2)),
        "matrix": lambda: (C, C),
        "operator": lambda: (aslinearoperator(C), C),
        "precision": lambda: (sps.csr_array(np.linalg.inv(C)), C),
    }[kind]()


def given_noise(kind, rng, n):
    R = 0.1 * spd(rng, n)
    std = rng.uniform(0.1, 1.0, n)
    return {
        "number": (0.3, 0.09 * np.eye(n)),
        "std": (std, np.diag(std**2)),
        "matrix": (R, R),
    }[kind]


class Gram(LinearOperator):
    """An operator that has its own kernel, with weights."""

    def __init__(self, J):
        self.J = J
        super().__init__(np.float64, J.shape)

    def _matvec(self, v):
        return self.J @ v

    def _rmatvec(self, z):
        return self.J.T @ z

    def gram(self, d2=None):
        return self.J @ self.J.T if d2 is None else self.J * d2 @ self.J.T


def as_kind(J, kind):
    return {"dense": lambda: J, "sparse": lambda: sps.csr_array(J), "operator": lambda: aslinearoperator(J)}.get(
        kind, lambda: Gram(J)
    )()


def case(seed, shape, prior, noise, kind="dense", solver="auto"):
    n, m = shape
    rng = np.random.default_rng([seed, n, m])
    J = rng.standard_normal((n, m))
    (given, C), (sigma, R) = given_prior(prior, rng, m), given_noise(noise, rng, n)
    P = posterior(as_kind(J, kind), as_noise(sigma, n), as_prior(given, m), LinearSolver(solver))
    return P, J, C, R, rng


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("prior", PRIORS)
def test_formulas_of_bayes(shape, noise, prior):
    P, J, C, R, rng = case(1, shape, prior, noise)
    check(P, J, C, R, rng)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prior", ["number", "std", "operator"])
@pytest.mark.parametrize("shape", [(4, 9), (9, 4)])
def test_kinds_of_jacobian_and_solver(shape, prior, kind, solver):
    P, J, C, R, rng = case(2, shape, prior, "std", kind, solver)
    check(P, J, C, R, rng, whole=solver != "cg")


def check(P, J, C, R, rng, whole=True):
    n, m = J.shape
    post = np.linalg.inv(np.linalg.inv(C) + J.T @ np.linalg.solve(R, J))
    K = C @ J.T @ np.linalg.inv(J @ C @ J.T + R)
    same = {"rtol": 1e-10, "atol": 1e-11}
    B, x = rng.standard_normal((m, 3)), rng.standard_normal(n)
    np.testing.assert_allclose(P.covariance(B), B.T @ post @ B, **same)
    np.testing.assert_allclose(P.variances(B), np.diag(B.T @ post @ B), **same)
    np.testing.assert_allclose(P.gain(x), K @ x, **same)
    np.testing.assert_allclose(P.gain(np.column_stack([x, 2 * x])), K @ np.column_stack([x, 2 * x]), **same)
    np.testing.assert_allclose(P.pull(x), np.linalg.solve(C, K @ x), **same)
    for damping in (0.0, 0.7):
        q0 = rng.standard_normal(m)
        p, q = P.step(x, C @ q0, q0, damping)
        H = J.T @ np.linalg.solve(R, J) + (1 + damping) * np.linalg.inv(C)
        step = -np.linalg.solve(H, J.T @ np.linalg.solve(R, x) + q0)
        np.testing.assert_allclose(p, step, **(same if whole else {"rtol": 1e-6, "atol": 1e-6}))
        np.testing.assert_allclose(C @ q, p, **same)
    if whole:
        np.testing.assert_allclose(P.every_variance(), np.diag(post), **same)
        W = np.linalg.inv(np.linalg.cholesky(R))
        values = np.linalg.eigvalsh(W @ J @ C @ J.T @ W.T)[-min(n, m) :]
        np.testing.assert_allclose(P.eigenvalues[-min(n, m) :], values, **same)
        least = values[0] * (1 - 1e-9)
        D = P.directions(least)
        np.testing.assert_allclose(D.T @ C @ D, np.eye(D.shape[1]), atol=1e-9)
        seen = np.linalg.norm(W @ J @ C @ D, axis=0)
        np.testing.assert_allclose(seen, np.sqrt(values), rtol=1e-8)


@pytest.mark.parametrize("prior", ["number", "std", "matrix", "operator", "precision"])
def test_vague_priors_leave_the_digits_of_what_is_determined(prior):
    """Unknowns that the data determine 1e8 times better than the prior, among others that they do not see."""
    rng = np.random.default_rng(0)
    n, m = 5, 12
    J = np.zeros((n, m))
    J[:, :n] = rng.standard_normal((n, n)) + 3 * np.eye(n)
    scale = {"number": 1e6, "std": np.full(m, 1e6) * rng.uniform(1, 2, m)}.get(prior)
    C = spd(rng, m) * 1e12
    given = {
        "matrix": C,
        "operator": aslinearoperator(C),
        "precision": sps.csr_array(np.linalg.inv(C)),
    }.get(prior, scale)
    P = posterior(J, as_noise(0.01, n), as_prior(given, m), LinearSolver())
    expected = 1e-4 * np.diag(np.linalg.inv(J[:, :n].T @ J[:, :n]))
    rtol = 1e-6 if prior in ("number", "std") else 1e-3
    np.testing.assert_allclose(P.every_variance()[:n], expected, rtol=rtol)
    np.testing.assert_allclose(P.variances(np.eye(m)[:, :n]), expected, rtol=rtol)


def test_kernel_without_digits():
    """Rows of J that are almost the same, and hardly any noise."""
    rng = np.random.default_rng(0)
    J = rng.standard_normal((5, 9))
    J[1] = J[0] + 1e-9 * J[1]
    for noise in (1e-9, 1e-12):
        P = posterior(J, as_noise(noise, 5), as_prior(1.0, 9), LinearSolver())
        U, s, Vt = np.linalg.svd(J, full_matrices=False)
        x = rng.standard_normal(5)
        expected = Vt.T @ (s / (s * s + noise * noise) * (U.T @ x))
        assert np.linalg.norm(P.gain(x) - expected) <= 1e-5 * np.linalg.norm(expected)
        assert P.every_variance().min() > -1e-12


@pytest.mark.parametrize("shape", [(12, 4), (5, 5), (4, 12)])
def test_flat_prior(shape):
    n, m = shape
    rng = np.random.default_rng(3)
    J = rng.standard_normal((n, m)) * 10.0 ** rng.uniform(-6, 6, m)
    P = flat_posterior(J, as_noise(0.2, n), 0.0)
    cov = P.covariance(np.eye(m))
    if n >= m:
        expected = 0.04 * np.linalg.inv((J / np.linalg.norm(J, axis=0)).T @ (J / np.linalg.norm(J, axis=0)))
        size = np.linalg.norm(J, axis=0)
        np.testing.assert_allclose(cov * np.outer(size, size), expected, rtol=1e-8)
    else:
        assert np.isinf(cov).all()
        row = P.covariance(J.T / np.linalg.norm(J, axis=1))
        np.testing.assert_allclose(row, 0.04 / np.outer(*2 * [np.linalg.norm(J, axis=1)]) * np.eye(n), atol=1e-12)


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        (0.0, "`prior` must be positive"),
        (-1.0, "`prior` must be positive"),
        (np.nan, "`prior` must be positive"),
        (np.inf, "`prior` must be positive"),
        (np.array([1.0, 0.0, 1.0]), "`prior` must be positive"),
        (np.ones(2), "`prior` must be a number, or have shape"),
        (np.ones((2, 3)), "`prior` must be a number, or have shape"),
        (np.diag([1.0, -1.0, 1.0]), "`prior` must be positive definite"),
        (np.triu(np.ones((3, 3))), "`prior` must be symmetric"),
        (np.full((3, 3), np.nan), "`prior` must be finite"),
        (sps.eye_array(2), "`prior` must have shape"),
        (sps.diags_array([1.0, -1.0, 1.0]), "positive definite precision"),
        (sps.diags_array([1.0, 0.0, 1.0]), "positive definite precision"),
        (sps.csr_array(np.triu(np.ones((3, 3)))), "`prior` must be symmetric"),
        (aslinearoperator(np.eye(2)), "`prior` must have shape"),
        (aslinearoperator(-np.eye(3)), "`prior` must be positive definite"),
        (aslinearoperator(np.eye(3) + np.triu(np.ones((3, 3)))), "`prior` must be symmetric"),
        (aslinearoperator(np.full((3, 3), np.nan)), "must be finite"),
        ("wide", "`prior` must be real numbers"),
    ],
)
def test_bad_priors(prior, message):
    with pytest.raises((ValueError, TypeError), match=message):
        as_prior(prior, 3)


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        (0.0, "`noise` must be positive"),
        (-0.1, "`noise` must be positive"),
        (np.inf, "`noise` must be positive"),
        (None, "`noise` must be real numbers"),
        (np.ones(3), "`noise` must be a number, or have shape"),
        ([0.1, -0.1], "`noise` must be positive"),
        (np.diag([1.0, -1.0]), "`noise` must be positive definite"),
        (np.array([[1.0, 1.0], [0.0, 1.0]]), "`noise` must be symmetric"),
        (sps.eye_array(2), "`noise` must be an array"),
    ],
)
def test_bad_noise(noise, message):
    with pytest.raises((ValueError, TypeError), match=message):
        as_noise(noise, 2)


@pytest.mark.parametrize("prior", ["matrix", "operator", "precision", "std"])
def test_root_has_the_covariance(prior):
    rng = np.random.default_rng(5)
    given, C = given_prior(prior, rng, 6)
    P = as_prior(given, 6)
    L = P.root(np.eye(6))
    np.testing.assert_allclose(L @ L.T, C, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(P.root_adjoint(np.eye(6)), L.T, atol=1e-9)
    np.testing.assert_allclose(P.variances(), np.diag(C), rtol=1e-10)


def test_an_operator_may_know_its_variances():
    class Known(LinearOperator):
        def _matvec(self, v):
            assert np.count_nonzero(v) > 1, "no unit vector need be asked for"
            return 4.0 * v

        def diagonal(self):
            return np.full(5, 4.0)

    assert (as_prior(Known(np.float64, (5, 5)), 5).variances() == 4.0).all()
