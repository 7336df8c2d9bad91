"""`Result.uncertainty`: for linear F it is Bayes' rule, for others the same of the linearised F."""

import copy
import pickle

import numpy as np
import pytest
import scipy.sparse as sps
from scipy.sparse.linalg import aslinearoperator

from plsolve import Uncertainty, least_squares, root, solve
from plsolve.networks import WideNetwork


def linear(n=4, m=9, seed=0):
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((n, m))
    return A, rng.standard_normal(m), rng.standard_normal(n)


def solved(n=4, m=9, noise=0.1, prior=None, seed=0):
    A, w0, y = linear(n, m, seed)
    sol = solve(lambda w: A @ w, lambda w: A, w0, y)
    return A, sol, sol.uncertainty(noise, prior)


def bayes(A, R, C):
    K = C @ A.T @ np.linalg.inv(A @ C @ A.T + R)
    return C - K @ A @ C, K


PRIORS = {"one": None, "number": 2.0, "std": np.linspace(0.5, 2.0, 9)}


@pytest.mark.parametrize("prior", list(PRIORS))
@pytest.mark.parametrize("n", [4, 9])
def test_bayes_rule(prior, n):
    given = PRIORS[prior]
    A, sol, u = solved(n, prior=given)
    C = np.diag(np.broadcast_to(1.0 if given is None else given, 9) ** 2.0)
    cov, K = bayes(A, 0.01 * np.eye(n), C)
    same = {"rtol": 1e-10, "atol": 1e-11}
    np.testing.assert_allclose(u.std(), np.sqrt(np.diag(cov)), **same)
    np.testing.assert_allclose(u.std([2, 0]), np.sqrt(np.diag(cov)[[2, 0]]), **same)
    np.testing.assert_allclose(u.std(-1), np.sqrt(np.diag(cov)[[8]]), **same)
    np.testing.assert_allclose(u.covariance(slice(2, 5)), cov[2:5, 2:5], **same)
    np.testing.assert_allclose(u.covariance(np.arange(9) > 6), cov[7:, 7:], **same)
    np.testing.assert_allclose(u.resolution([1, 3]), (K @ A)[[1, 3]], **same)
    np.testing.assert_allclose(u.degrees_of_freedom, np.trace(K @ A), **same)
    J_new = np.random.default_rng(1).standard_normal((3, 9))
    expected = np.sqrt(np.diag(J_new @ cov @ J_new.T))
    for kind in (J_new, sps.csr_array(J_new), aslinearoperator(J_new), J_new.tolist()):
        np.testing.assert_allclose(u.predict(kind), expected, **same)
    assert u.chi2 == pytest.approx(sol.fun @ sol.fun / 0.01)
    assert u.nonlinearity < 1e-10
    assert isinstance(u, Uncertainty)
    assert repr(u) == f"Uncertainty(n={n}, m=9, rank={u.rank})"


def test_rank_counts_what_the_data_tell_beyond_the_prior():
    """Singular values 100, 1 and 0.01 in units of the noise: only the first halves a standard deviation of 1."""
    J = np.zeros((3, 6))
    J[[0, 1, 2], [0, 1, 2]] = [100.0, 1.0, 0.01]
    sol = solve(lambda w: J @ w, lambda w: J, np.zeros(6), np.zeros(3))
    assert sol.uncertainty(1.0).rank == 1
    assert sol.uncertainty(1.0, prior=1.8).rank == 2
    assert sol.uncertainty(1.0, prior=1000.0).rank == 3
    assert sol.uncertainty(1000.0).rank == 0
    np.testing.assert_allclose(sol.uncertainty(1.0).eigenvalues, [1e-4, 1.0, 1e4], rtol=1e-10)


@pytest.mark.parametrize("prior", [None, 2.0, "matrix"])
def test_null_space_is_not_seen(prior):
    rng = np.random.default_rng(3)
    A = rng.standard_normal((9, 9))
    J, _sol, u = solved(3, noise=1e-3, prior=A @ A.T + np.eye(9) if prior == "matrix" else prior)
    assert u.rank == 3
    N = u.null_space()
    assert N.shape == (9, 6)
    np.testing.assert_allclose(N.T @ N, np.eye(6), atol=1e-12)
    np.testing.assert_allclose(J @ N, 0.0, atol=1e-10)
    assert (u.null_space(2) == u.null_space(2)).all()
    np.testing.assert_allclose(J @ u.null_space(2), 0.0, atol=1e-10)
    for k in (0, 7):
        with pytest.raises(ValueError, match="`k` must be"):
            u.null_space(k)


@pytest.mark.parametrize("shape", [(2, 5), (5, 2)])
@pytest.mark.parametrize("prior", ["number", "matrix", "operator", "precision"])
def test_samples_have_the_covariance(shape, prior):
    n, m = shape
    rng = np.random.default_rng(0)
    L = np.eye(m) + 0.3 * np.tril(rng.standard_normal((m, m)))
    C = np.eye(m) if prior == "number" else L @ L.T
    given = {"matrix": C, "operator": aslinearoperator(C), "precision": sps.csr_array(np.linalg.inv(C))}.get(prior, 1.0)
    A, sol, u = solved(n, m, noise=0.5, prior=given)
    cov, _ = bayes(A, 0.25 * np.eye(n), C)
    draws = u.sample(2000 if prior == "operator" else 100_000, rng=1)
    tol = 0.1 if prior == "operator" else 1e-2
    np.testing.assert_allclose(draws.mean(0), sol.x, atol=5 * tol)
    np.testing.assert_allclose(np.cov(draws.T), cov, atol=tol * np.abs(cov).max())
    assert (u.sample(3, 7) == u.sample(3, 7)).all()
    assert u.sample().shape == (1, m)


def test_sensitivity_is_the_derivative_of_the_solution():
    """F depends on a parameter t: x(t) is solved for at t + h."""

    def at(t):
        return solve(lambda w: [w @ w, w[0] * w[1] + t * w[2]], None, [1.0, 2.0, 0.5], [5.0, 2.0 + t], tol=1e-13)

    sol = at(0.3)
    dF = np.array([0.0, sol.x[2] - 1.0])
    dx = sol.uncertainty(0.1).sensitivity(dF)
    J = sol.jac
    np.testing.assert_allclose(J @ dx, -dF, atol=1e-9)
    np.testing.assert_allclose(dx, -np.linalg.pinv(J) @ dF, atol=1e-9)
    np.testing.assert_allclose(sol.uncertainty(0.1).sensitivity(np.column_stack([dF, 2 * dF]))[:, 1], 2 * dx, atol=1e-9)
    with pytest.raises(ValueError, match="`dF` must have shape"):
        sol.uncertainty(0.1).sensitivity([1.0])


def test_nonlinearity_shows_how_far_one_standard_deviation_is_from_straight():
    def at(curvature):
        sol = solve(lambda w: [w[0] + curvature * w[0] ** 2], lambda w: [[1 + 2 * curvature * w[0], 0.0]], [0.0, 0.0])
        return sol.uncertainty(0.1).nonlinearity

    s2 = 1.0 / (1.0 + 100.0)  # the variance of w[0]
    for curvature in (0.0, 0.1, 3.0):
        assert at(curvature) == pytest.approx(curvature * s2 / 0.1, abs=1e-9)


def test_draws_move_what_the_data_do_not_see():
    """w[1] is seen only where w[0] is not zero, as it is in draws."""
    sol = solve(lambda w: [w[0] + w[0] * w[1]], lambda w: [[1 + w[1], w[0]]], [0.0, 0.0], [0.0])
    u = sol.uncertainty(0.1)
    assert u.nonlinearity < 1e-9
    v = u.sample(1, 0)[0] - sol.x
    assert u.nonlinearity_of_draws == pytest.approx(abs(v[0] * v[1]) / 0.1)


def test_nonlinearity_stays_within_bounds():
    def F(w):
        assert w.min() >= 0.0
        return [w[0] + w[1] ** 2]

    sol = solve(F, lambda w: [[1.0, 2 * w[1]]], [1.0, 0.1], [0.05], bounds=(0.0, np.inf))
    assert np.isfinite(sol.uncertainty(0.3).nonlinearity)


def test_of_every_kind_of_result():
    A, w0, y = linear(12, 5)
    cov, _ = bayes(A, 0.01 * np.eye(12), np.eye(5))
    for sol in (
        least_squares(lambda w: A @ w - y, w0, jac=lambda w: A),
        least_squares(lambda w: A @ w - y, w0),
        solve(lambda w: A @ w, lambda w: sps.csr_array(A), w0, y),
    ):
        np.testing.assert_allclose(sol.uncertainty(0.1).std(), np.sqrt(np.diag(cov)), rtol=1e-6)
    res = root(lambda w: A[:5] @ w - y[:5], w0)
    assert (res.uncertainty(0.1).std() > 0.0).all()


def test_copies_and_pickles():
    _, sol, u = solved()
    assert (copy.copy(sol).uncertainty(0.1).std() == u.std()).all()
    back = pickle.loads(pickle.dumps(sol))  # J was computed for it
    assert (back.uncertainty(0.1).std() == u.std()).all()
    with pytest.raises(ValueError, match="unpickled"):
        _ = back.uncertainty(0.1).nonlinearity


def test_bad_input_is_named():
    _, sol, u = solved()
    with pytest.raises(ValueError, match="`noise` must be given"):
        sol.uncertainty()
    with pytest.raises(ValueError, match="`noise` must be positive"):
        sol.uncertainty(0.0)
    with pytest.raises(ValueError, match="`prior` must be positive"):
        sol.uncertainty(0.1, prior=-1.0)
    with pytest.raises(ValueError, match="`index` must be numbers of parameters"):
        u.std(9)
    with pytest.raises(ValueError, match=r"`J_new` must have shape"):
        u.predict(np.ones((2, 3)))
    with pytest.raises((TypeError, ValueError), match="`k` must be"):
        u.sample(0)


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("prior", [None, 2.0, "std"])
def test_predictions_of_networks(outputs, prior):
    """Their operators know the kernel between old and new inputs."""
    rng = np.random.default_rng(0)
    X, X_new = rng.standard_normal((6, 3)), rng.standard_normal((4, 3))
    net, new = (WideNetwork(inputs, [8, 9], outputs=outputs, rng=0) for inputs in (X, X_new))
    w0 = net.init(0)
    sol = solve(net.F, net.jac, w0, rng.standard_normal(6 * outputs))
    given = np.linspace(0.5, 1.0, net.m) if prior == "std" else prior
    C = np.diag(np.broadcast_to(1.0 if given is None else given, net.m) ** 2.0)
    A, B = net.jac(sol.x) @ np.eye(net.m), new.jac(sol.x) @ np.eye(net.m)
    cov, _ = bayes(A, 0.01 * np.eye(len(A)), C)
    expected = np.sqrt(np.diag(B @ cov @ B.T))
    np.testing.assert_allclose(sol.uncertainty(0.1, given).predict(new.jac(sol.x)), expected, rtol=1e-9)
    np.testing.assert_allclose(net.jac(sol.x).cross(new.jac(sol.x)), A @ B.T, rtol=1e-10, atol=1e-12)
