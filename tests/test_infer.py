"""`infer`: the most probable parameters, by closed form for linear F, by scipy on the stacked residual for others."""

import math
import pickle
from functools import partial

import numpy as np
import pytest
import scipy.sparse as sps
from scipy.optimize import least_squares as by_scipy
from scipy.optimize import lsq_linear
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from plsolve import Status, infer, least_squares, solve
from tests.test_posterior import KINDS, NOISES, PRIORS, SHAPES, SOLVERS, as_kind, given_noise, given_prior


def assumptions(seed, shape, prior, noise):
    n, m = shape
    rng = np.random.default_rng([seed, n, m])
    A, w0, y = rng.standard_normal((n, m)), rng.standard_normal(m), 3 * rng.standard_normal(n)
    (given, C), (sigma, R) = given_prior(prior, rng, m), given_noise(noise, rng, n)
    return A, w0, y, given, C, sigma, R


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("prior", PRIORS)
def test_linear_systems_are_answered_exactly_in_one_step(shape, prior, noise):
    A, w0, y, given, C, sigma, R = assumptions(1, shape, prior, noise)
    fit = infer(lambda w: A @ w, lambda w: A, w0, y, noise=sigma, prior=given)
    K = C @ A.T @ np.linalg.inv(A @ C @ A.T + R)
    x = w0 + K @ (y - A @ w0)
    assert fit.status == Status.CONVERGED
    assert fit.success
    assert fit.njev <= 2
    np.testing.assert_allclose(fit.x, x, rtol=1e-10, atol=1e-11)
    r = A @ x - y
    objective = r @ np.linalg.solve(R, r) + (x - w0) @ np.linalg.solve(C, x - w0)
    assert fit.cost == pytest.approx(0.5 * objective, rel=1e-9)
    np.testing.assert_allclose(fit.fun, r, atol=1e-10)
    cov = C - K @ A @ C
    np.testing.assert_allclose(fit.uncertainty().std(), np.sqrt(np.diag(cov)), rtol=1e-9)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(4, 9), (9, 4)])
def test_kinds_of_jacobian_and_solver(shape, kind, solver):
    A, w0, y, given, C, sigma, R = assumptions(2, shape, "std", "std")
    J = as_kind(A, kind)
    fit = infer(lambda w: A @ w, lambda w: J, w0, y, noise=sigma, prior=given, linear_solver=solver)
    x = w0 + C @ A.T @ np.linalg.solve(A @ C @ A.T + R, y - A @ w0)
    np.testing.assert_allclose(fit.x, x, rtol=1e-9, atol=1e-10)
    assert fit.success


@pytest.mark.parametrize("noise", [1e-6, 1e-9, 1e-12])
def test_without_noise_it_is_the_nearest_solution(noise):
    rng = np.random.default_rng(0)
    A, w0, y = rng.standard_normal((4, 9)), rng.standard_normal(9), rng.standard_normal(4)
    near = solve(lambda w: A @ w, lambda w: A, w0, y, options={"nearest": True})
    fit = infer(lambda w: A @ w, lambda w: A, w0, y, noise=noise)
    np.testing.assert_allclose(fit.x, near.x, atol=1e-8)


@pytest.mark.parametrize("seed", range(6))
def test_with_little_noise_it_is_the_nearest_solution_of_curved_systems_too(seed):
    """The valley is 1e-8 wide, and bends."""
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(1, 6)), int(rng.integers(8, 15))
    A, B, w0 = rng.standard_normal((n, m)), rng.standard_normal((n, m)), rng.standard_normal(m)
    F, jac = (lambda w: A @ w + np.sin(B @ w)), (lambda w: A + np.cos(B @ w)[:, None] * B)
    y = F(w0 + 0.3 * rng.standard_normal(m))
    near = solve(F, jac, w0, y, options={"nearest": True}, tol=1e-14)
    fit = infer(F, jac, w0, y, noise=1e-8, tol=1e-8)
    assert fit.status == Status.CONVERGED
    assert np.linalg.norm(fit.x - near.x) <= 1e-7 * np.linalg.norm(near.x - w0)


@pytest.mark.parametrize("prior", [1e6, 1e9, 1e12])
@pytest.mark.parametrize("curved", [0.0, 0.5])
def test_without_a_prior_it_is_the_least_squares_fit(prior, curved):
    rng = np.random.default_rng(1)
    A, w0, y = rng.standard_normal((9, 4)), rng.standard_normal(4), rng.standard_normal(9)
    F, jac = (lambda w: A @ w + curved * np.sin(A @ w)), (lambda w: A * (1 + curved * np.cos(A @ w))[:, None])
    fit = infer(F, jac, w0, y, noise=0.5, prior=prior, tol=1e-10)
    best = least_squares(lambda w: F(w) - y, w0, jac=jac, xtol=1e-15, ftol=1e-15, gtol=1e-15)
    np.testing.assert_allclose(fit.x, best.x, atol=1e-8)


def curved(seed):
    """A small system, not linear: F, jac, w0, y, noise, prior."""
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(1, 9)), int(rng.integers(1, 13))
    A, B = rng.standard_normal((n, m)), rng.standard_normal((n, m))
    F, jac = [
        (lambda w: A @ w + np.sin(B @ w), lambda w: A + np.cos(B @ w)[:, None] * B),
        (lambda w: np.exp(0.5 * A @ w), lambda w: 0.5 * np.exp(0.5 * A @ w)[:, None] * A),
        (
            lambda w: 5 / (1 + (A @ w) ** 2) + B @ w,
            lambda w: B - (10 * (A @ w) / (1 + (A @ w) ** 2) ** 2)[:, None] * A,
        ),
    ][seed % 3]
    w0 = rng.standard_normal(m)
    noise, prior = 10 ** rng.uniform(-2, 0), rng.uniform(0.3, 3.0, m)
    return F, jac, w0, F(w0 + rng.standard_normal(m)) + noise * rng.standard_normal(n), noise, prior


def stacked(F, jac, w0, y, noise, prior):
    """scipy's fit of data and prior as one residual."""
    return by_scipy(
        lambda w: np.r_[(F(w) - y) / noise, (w - w0) / prior],
        w0,
        lambda w: np.vstack([jac(w) / noise, np.diag(1 / prior)]),
        xtol=1e-14,
        ftol=1e-14,
        gtol=1e-14,
    )


def test_as_good_as_scipy_on_the_stacked_residual():
    """Which of several minima is found is a matter of luck: as often the better one."""
    as_good = []
    for seed in range(60):
        system = curved(seed)
        F, jac, w0, y, noise, prior = system
        fit, res = infer(F, jac, w0, y, noise=noise, prior=prior), stacked(*system)
        assert fit.success, seed
        C, J = np.diag(prior**2), jac(fit.x) / noise
        g = J.T @ fit.fun / noise + (fit.x - w0) / prior**2
        left = math.sqrt(g @ np.linalg.solve(np.linalg.inv(C) + J.T @ J, g))
        assert left <= 1e-4, seed
        as_good.append(fit.cost <= res.cost * (1 + 1e-8))
    assert sum(as_good) >= 54


@pytest.mark.parametrize("jac", [None, "2-point", "3-point", "cs", True])
def test_jacobians_of_every_kind(jac):
    F, J, w0, y, noise, prior = curved(7)
    expected = infer(F, J, w0, y, noise=noise, prior=prior, tol=1e-8).x
    function = (lambda w: (F(w), J(w))) if jac is True else F
    fit = infer(function, jac, w0, y, noise=noise, prior=prior)
    assert fit.success
    np.testing.assert_allclose(fit.x, expected, atol=1e-5 if jac == "2-point" else 1e-6)


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("shape", [(4, 9), (9, 4)])
def test_bounds(shape, prior):
    """Of linear systems, against bounded least squares."""
    for seed in range(5):
        A, w0, y, given, C, sigma, _ = assumptions(seed, shape, prior, "std")
        lower, upper = w0 - np.linspace(0.0, 0.6, w0.size), w0 + np.linspace(0.5, 0.05, w0.size)
        L = np.linalg.cholesky(C)
        stack = np.vstack([A / sigma[:, None], np.linalg.inv(L)])
        expected = lsq_linear(stack, np.r_[y / sigma, np.linalg.solve(L, w0)], (lower, upper), method="bvls", tol=1e-14)

        def F(w, A=A, lower=lower, upper=upper):
            assert ((lower <= w) & (w <= upper)).all()
            return A @ w

        fit = infer(F, lambda w, A=A: A, w0, y, noise=sigma, prior=given, bounds=(lower, upper))
        assert fit.success
        np.testing.assert_allclose(fit.x, expected.x, atol=1e-7)


def test_bounds_of_curved_systems():
    for seed in range(30):
        F, jac, w0, y, noise, prior = curved(seed)
        lower, upper = w0 - 0.4, w0 + 0.3

        def inside(w, F=F, lower=lower, upper=upper):
            assert ((lower <= w) & (w <= upper)).all()
            return F(w)

        # seed 21 converges linearly, along a bound: some 160 iterations, or 200 and more, by rounding
        fit = infer(inside, jac, w0, y, noise=noise, prior=prior, bounds=(lower, upper), max_iter=1000)
        res = by_scipy(
            lambda w, F=F, y=y, s=noise, w0=w0, p=prior: np.r_[(F(w) - y) / s, (w - w0) / p],
            w0,
            bounds=(lower, upper),
            xtol=1e-14,
            ftol=1e-14,
            gtol=1e-14,
        )
        assert fit.success, seed
        assert fit.cost <= res.cost * (1 + 1e-6), seed


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_trials_that_are_not_finite_are_rejected(bad):
    """log(w) from a start whose first step leads below zero."""

    def F(w):
        return np.where(w > 0.0, np.log(np.abs(w)), bad)

    fit = infer(F, lambda w: np.diag(1 / w), [5.0, 0.2], [-2.0, 1.0], noise=0.1, prior=10.0)
    assert fit.success
    r = (np.log(fit.x) - [-2.0, 1.0]) / 0.01
    np.testing.assert_allclose(r / fit.x + (fit.x - [5.0, 0.2]) / 100, 0.0, atol=1e-2)


def test_a_wrong_jacobian_is_no_success():
    fit = infer(lambda w: [np.exp(w[0]) + w[1]], lambda w: [[-np.exp(w[0]), -1.0]], [0.0, 0.0], [9.0], noise=0.1)
    assert not fit.success
    assert fit.status == Status.STALLED


def test_limits_are_no_success():
    F, jac, w0, y, noise, prior = curved(4)
    for limit in ({"max_iter": 1}, {"max_iter": 0}):
        fit = infer(F, jac, w0, y, noise=noise, prior=prior, **limit)
        assert fit.status == Status.MAX_ITER
        assert not fit.success
    fit = infer(F, jac, w0, y, noise=noise, prior=prior, max_time=0.0)
    assert fit.status == Status.MAX_TIME


def test_callback_sees_what_is_made_least():
    F, jac, w0, y, noise, prior = curved(4)
    costs = []

    def callback(intermediate_result):
        costs.append(intermediate_result.cost)

    fit = infer(F, jac, w0, y, noise=noise, prior=prior, callback=callback)
    assert len(costs) == fit.nit
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] == fit.cost
    np.testing.assert_allclose(fit.history.loss, [0.5 * np.sum(((F(w0) - y) / noise) ** 2), *costs])

    def stop(w):
        raise StopIteration

    assert infer(F, jac, w0, y, noise=noise, prior=prior, callback=stop).status == Status.CALLBACK


def test_arguments_reach_the_functions_and_stay_as_they_are():
    F, jac, w0, y, noise, prior = curved(4)
    before = [x.copy() for x in (w0, y, prior)]
    plain = infer(F, jac, w0, y, noise=noise, prior=prior)
    shifted = infer(lambda w, s: F(w) + s, lambda w, s: jac(w), w0, y + 2.0, noise=noise, prior=prior, args=(2.0,))
    np.testing.assert_allclose(shifted.x, plain.x, atol=1e-6)
    for x, old in zip((w0, y, prior), before, strict=True):
        assert (x == old).all()
    assert (infer(F, jac, w0, y, noise=noise, prior=prior).x == plain.x).all()


def test_exceptions_carry_the_best_point():
    """The best one by what is made least, not by the residual alone."""
    F, jac, w0, y, noise, prior = curved(4)
    seen = []

    def callback(w):
        seen.append(w)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        infer(F, jac, w0, y, noise=noise, prior=prior, callback=callback)
    assert (caught.value.best == seen[-1]).all()


@pytest.mark.parametrize("size", [1e160, 1e-160])
def test_out_of_range_is_no_success(size):
    J = np.array([[3.0, 4.0], [1.0, 0.0]])
    fit = infer(lambda w: size * (J @ np.sinh(w)), lambda w: size * J * np.cosh(w), [1.0, 2.0], noise=1.0)
    assert fit.success == (size < 1.0)


@pytest.mark.parametrize("prior", ["number", "operator"])
def test_many_data_by_conjugate_gradients(prior):
    """With nothing n x n in memory."""
    n = m = 300
    grid = np.linspace(0, 1, m)
    D = sps.diags_array([np.full(m, 4.0), np.full(m - 1, 1.0), np.full(m - 1, 1.0)], offsets=[0, 1, -1], format="csr")
    spline = sps.diags_array([np.full(m, 2.0), np.full(m - 1, 0.9), np.full(m - 1, 0.9)], offsets=[0, 1, -1])

    def products(w):
        J = D + sps.diags_array(0.1 * np.cos(w))
        return LinearOperator((n, m), matvec=lambda v: J @ v, rmatvec=lambda z: J.T @ z)

    given = aslinearoperator(spline.tocsr()) if prior == "operator" else 2.0
    F = lambda w: D @ w + 0.1 * np.sin(w)  # noqa: E731
    y = F(np.sin(9 * grid)) + 0.01 * np.cos(40 * grid)
    fit = infer(F, products, np.zeros(m), y, noise=0.1, prior=given, linear_solver="cg")
    assert fit.success
    J = D + sps.diags_array(0.1 * np.cos(fit.x))
    g = J.T @ fit.fun / 0.01
    C = spline if prior == "operator" else 4.0 * sps.eye_array(m)
    np.testing.assert_allclose(C @ g, -fit.x, atol=1e-4)
    std = fit.uncertainty().std([5, 150])
    assert ((std > 0.0) & (std < 1.0)).all()


def test_a_result_like_others():
    F, jac, w0, y, noise, prior = curved(4)
    fit = infer(F, jac, w0, y, noise=noise, prior=prior)
    assert fit.message == "Converged: the most probable parameters, to within `tol` standard deviations or to rounding."
    assert fit.method == "gauss-newton"
    assert fit.certificate is not None
    back = pickle.loads(pickle.dumps(fit))
    assert (back.x == fit.x).all()
    u = fit.uncertainty()
    assert (u.std() == fit.uncertainty(noise, prior).std()).all()
    assert (fit.uncertainty(prior=2 * prior).std() > u.std()).all()
    assert math.isfinite(u.nonlinearity)


def test_sensitivity_is_the_derivative_of_the_fit():
    """Little of the residual is left here, so that its second-order part does not count."""
    A, w0, _, given, _, sigma, _ = assumptions(3, (4, 9), "std", "std")
    F, jac = (lambda w: A @ w + 0.1 * np.sin(A @ w)), (lambda w: A * (1 + 0.1 * np.cos(A @ w))[:, None])

    def at(shift):
        return infer(lambda w: F(w) + shift, jac, w0, F(w0) + 0.01, noise=sigma, prior=given, tol=1e-10)

    moved = (at(1e-5).x - at(-1e-5).x) / 2e-5
    np.testing.assert_allclose(at(0.0).uncertainty().sensitivity(np.ones(4)), moved, atol=1e-3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"noise": 0.0}, "`noise` must be positive"),
        ({"noise": [0.1, 0.1]}, "`noise` must be a number, or have shape"),
        ({"noise": None}, "`noise` must be real numbers"),
        ({"prior": -1.0}, "`prior` must be positive"),
        ({"prior": np.ones((2, 3))}, "`prior` must be a number, or have shape"),
        ({"prior": np.diag([1.0, -1.0])}, "`prior` must be positive definite"),
        ({"prior": sps.diags_array([1.0, -1.0])}, "positive definite precision"),
        ({"tol": -1.0}, "`tol` must be"),
        ({"max_iter": -1}, "`max_iter` must be"),
        ({"linear_solver": "lu"}, "`linear_solver` must be one of"),
        ({"linear_solver": np.array(["qr", "cg"])}, "`linear_solver` must be one of"),
        ({"callback": 3}, "`callback` must be callable"),
        ({"bounds": (1.0, 2.0)}, "`w0` is infeasible"),
        ({"progress": "yes"}, "`progress` must be"),
    ],
)
def test_bad_input_is_named(given, message):
    jac_called = []
    call = partial(infer, lambda w: [w @ w], lambda w: jac_called.append(1), [0.5, 0.5], [1.0])
    with pytest.raises((TypeError, ValueError), match=message):
        call(**({"noise": 0.1} | given))
    assert not jac_called


def test_noise_is_needed():
    with pytest.raises(TypeError, match="noise"):
        infer(lambda w: [w @ w], None, [0.5, 0.5], [1.0])
