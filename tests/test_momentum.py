"""Momentum, given constants, and SGD's plans: one step of each by its formula, and that none of it can diverge."""

import naive
import numpy as np
import problems
import pytest

from plsolve import Status, solve, testing
from plsolve.theory import steps

MOMENTA = ["heavy-ball", "nesterov", "chebyshev"]
A, Y = problems.matrix(8, 20, spread=3.0), problems.vector(8)
S = np.linalg.svd(A, compute_uv=False)
KNOWN = {"lipschitz": S[0], "mu": S[-1] ** 2}


def linear(max_iter, **options):
    points = [np.zeros(20)]
    sol = solve(
        lambda w: A @ w, lambda w: A, np.zeros(20), Y, method="gd", beta=0.0, max_iter=max_iter,
        options=KNOWN | options, callback=lambda w: points.append(w.copy()),
    )  # fmt: skip
    return sol, np.array(points)


@pytest.mark.parametrize("kind", ["heavy-ball", "nesterov"])
def test_steps_follow_the_formula(kind):
    """Once the first steps are over, that is, and L_F^2 taken 5 % larger."""
    _, w = linear(30, momentum=kind)
    M, mu = 1.05 * S[0] ** 2, S[-1] ** 2
    a, b = steps.heavy_ball(M, mu) if kind == "heavy-ball" else steps.nesterov(M, mu)
    followed = 0
    for t in range(10, 29):
        u = w[t] + b * (w[t] - w[t - 1])
        at = w[t] if kind == "heavy-ball" else u
        followed += np.allclose(w[t + 1], u - a * A.T @ (A @ at - Y), rtol=1e-9, atol=1e-12)
    assert followed >= 15


def test_given_constants_fix_the_step_of_gradient_descent():
    p = testing.prescribed_spectrum(5, 12, 10.0, 0.3)
    options = {"lipschitz": p.lipschitz, "mu": p.mu}
    sol = solve(p.F, p.jac, p.w0, p.y, method="gd", beta=p.beta, options=options, max_iter=1)
    r = p.F(p.w0) - p.y
    np.testing.assert_allclose(sol.x, p.w0 - p.jac(p.w0).T @ r / (p.lipschitz**2 + p.beta * np.linalg.norm(r)))


@pytest.mark.parametrize("kind", MOMENTA)
def test_gradient_descent_iterates_with_gradient_descent(kind):
    """Momentum is faster by far at kappa = 1e3; plain gd must not be."""
    p = testing.prescribed_spectrum(20, 60, 1e3, 0.1)
    fast = solve(p.F, p.jac, p.w0, p.y, method="gd", options={"momentum": kind}, tol=1e-6)
    plain = solve(p.F, p.jac, p.w0, p.y, method="gd", tol=1e-6)
    assert fast.success
    assert plain.success
    assert fast.nit < plain.nit / 10


@pytest.mark.parametrize("kind", MOMENTA)
@pytest.mark.parametrize("lipschitz", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("mu", [0.1, 1.0, 30.0])
def test_wrong_constants_slow_it_down_but_never_diverge(kind, lipschitz, mu):
    p = testing.prescribed_spectrum(10, 30, 30.0, 0.3)
    options = {"momentum": kind, "lipschitz": lipschitz * p.lipschitz, "mu": mu * p.mu}
    sol = solve(p.F, p.jac, p.w0, p.y, method="gd", options=options, tol=1e-6, max_iter=20_000)
    assert sol.success, sol.message
    assert sol.history.loss.max() <= sol.history.loss[0] * (1 + 1e-12)


@pytest.mark.parametrize("kind", MOMENTA)
@pytest.mark.parametrize(
    "p", [problems.tanh_system(6, 30), problems.freudenstein_roth(), problems.powell_singular()], ids=str
)
def test_nonlinear_systems_never_end_above_their_start(kind, p):
    sol = solve(p.F, p.jac, p.w0, method="gd", options={"momentum": kind}, max_iter=3000, tol=1e-6)
    assert sol.history.loss.max() <= sol.history.loss[0] * (1 + 1e-12)
    assert sol.cost <= 0.5 * naive.loss(p.F(p.w0))


@pytest.mark.parametrize("kind", MOMENTA)
def test_more_equations_than_unknowns(kind):
    B = problems.matrix(30, 6)
    sol = solve(lambda w: B @ w, lambda w: B, np.zeros(6), B @ np.ones(6), method="gd", options={"momentum": kind})
    assert sol.success, sol.message
    np.testing.assert_allclose(sol.x, 1.0, rtol=1e-6)


@pytest.mark.parametrize("kind", MOMENTA)
def test_bounds_hold(kind):
    F = naive.Recorded(lambda w: A @ w, -0.5, 0.5)
    sol = solve(
        F, lambda w: A, np.zeros(20), 0.1 * Y, method="gd", bounds=(-0.5, 0.5), options={"momentum": kind}, max_iter=500
    )
    assert np.all(np.abs(sol.x) <= 0.5)
    assert sol.cost < naive.loss(0.1 * Y)


@pytest.mark.parametrize("kind", MOMENTA)
def test_stationary_points_are_seen(kind):
    sol = solve(lambda w: w**2 - 1, lambda w: np.diag(2 * w), np.zeros(3), method="gd", options={"momentum": kind})
    assert sol.status == Status.STATIONARY


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("gd", {"momentum": "mass"}),
        ("gd", {"momentum": 0.9}),
        ("gd", {"momentum": "nesterov", "step_size": 0.1}),
        ("gd", {"lipschitz": -1.0}),
        ("gd", {"mu": "small"}),
        ("gd", {"mu": np.nan}),
        ("gd", {"lipschitz": True}),
        ("gd", {"row_smoothness": 1.0}),
        ("sgd", {"momentum": "nesterov"}),
        ("sgd", {"momentum": "mass", "step_size": 0.1}),
        ("sgd", {"rows": "random"}),
        ("sgd", {"row_smoothness": 0.0}),
        ("sgd", {"batch_size": "critical"}),
        ("gauss-newton", {"momentum": "nesterov"}),
    ],
    ids=str,
)
def test_bad_options_are_refused_by_name(method, options):
    with pytest.raises(ValueError, match=rf"\b({'|'.join(options)})\b"):
        solve(lambda w: A @ w, lambda w: A, np.zeros(20), Y, method=method, options=options)


# SGD -----------------------------------------------------------------------------------------------------------------


def sgd(max_iter=None, tol=1e-10, **options):
    return solve(
        lambda w, rows=slice(None): A[rows] @ w, lambda w, rows=slice(None): A[rows], np.zeros(20), Y, method="sgd",
        beta=0.0, rng=0, max_iter=max_iter, tol=tol, options=options,
    )  # fmt: skip


@pytest.mark.parametrize("rows", ["uniform", "residual", "cyclic", "max"])
@pytest.mark.parametrize("step", [None, "kaczmarz", "polyak", "theorem"])
@pytest.mark.parametrize("batch", [1, 3])
def test_all_selections_of_rows_arrive(rows, step, batch):
    options = {"rows": rows, "batch_size": batch} | ({"step_size": step} if step else {})
    sol = sgd(None, 1e-6 if step == "theorem" else 1e-10, **options)  # its step is kappa times as short
    assert sol.success, sol.message
    np.testing.assert_allclose(sol.x, naive.least_norm(A, Y, np.zeros(20)), atol=1e-5)


def test_max_takes_the_row_farthest_from_its_solution():
    B = np.linalg.qr(np.random.default_rng(0).normal(size=(20, 8)))[0].T * np.linspace(0.5, 3.0, 8)[:, None]
    options = {"rows": "max", "batch_size": 1, "step_size": "kaczmarz"}
    x = solve(lambda w: B @ w, lambda w: B, np.zeros(20), Y, method="sgd", options=options, max_iter=1).x
    i = np.argmax(np.abs(Y) / np.linalg.norm(B, axis=1))
    np.testing.assert_allclose(x, B[i] * Y[i] / (B[i] @ B[i]), atol=1e-14)


def test_cyclic_takes_the_rows_in_turn():
    x = sgd(1, rows="cyclic", batch_size=3, step_size=0.01).x
    np.testing.assert_allclose(x, 0.01 * 8 / 3 * A[:3].T @ Y[:3], rtol=1e-12)


def test_theorem_step():
    """eta of 1.3 on the sum of the batch."""
    row = 1.1 * np.max(np.sum(A * A, axis=1))
    x = sgd(1, rows="cyclic", batch_size=3, step_size="theorem", row_smoothness=row, **KNOWN).x
    eta = steps.sgd_theorem_step(8, 3, KNOWN["mu"], row, KNOWN["lipschitz"] ** 2)
    np.testing.assert_allclose(x, eta * A[:3].T @ Y[:3], rtol=1e-12)


def test_mass_first_steps():
    row = np.max(np.sum(A * A, axis=1))
    e1, e2, gamma, _ = steps.mass(8, 3, row, S[0] ** 2, S[-1] ** 2)
    u = w = np.zeros(20)
    for k in range(2):
        B, r = A[(3 * k + np.arange(3)) % 8], (A @ u - Y)[(3 * k + np.arange(3)) % 8]
        g = B.T @ r / 3
        w, before = u - e1 * g, w
        u = (1 + gamma) * w - gamma * before + e2 * g
    x = sgd(2, rows="cyclic", batch_size=3, momentum="mass", row_smoothness=row, **KNOWN)
    if x.cost < naive.loss(Y):  # the best point is returned, which may be the start
        np.testing.assert_allclose(x.x, w, rtol=1e-10)


def test_mass_is_faster_than_plain_sgd():
    p = testing.prescribed_spectrum(30, 90, 300.0)
    runs = [
        solve(p.F, p.jac, p.w0, p.y, method="sgd", rng=1, max_iter=3000, options={"batch_size": 1} | more)
        for more in ({}, {"momentum": "mass"})
    ]
    assert runs[1].cost < 0.1 * runs[0].cost


@pytest.mark.parametrize("size", ["auto", 2])
def test_mass_solves(size):
    sol = sgd(None, momentum="mass", batch_size=size)
    assert sol.success, sol.message


# Messages, forecasts, the choice of the method -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "options"), [("gd", {}), ("gd", {"momentum": "nesterov"}), ("sgd", {"batch_size": 2})]
)
def test_a_run_that_cannot_finish_says_so(method, options):
    p = testing.prescribed_spectrum(20, 60, 1e4)
    sol = solve(p.F, p.jac, p.w0, p.y, method=method, options=options, max_iter=100, rng=0)
    assert sol.status == Status.MAX_ITER
    assert "kappa = 1e+04" in sol.message
    assert "more iterations" in sol.message
    assert sol.forecast > 100


def test_forecast_of_a_solved_run_is_zero():
    assert sgd().forecast == 0.0


def test_history_has_the_pl_ratio():
    p = testing.prescribed_spectrum(10, 30, 100.0, 0.3)
    for method in ("gd", "gauss-newton"):
        sol = solve(p.F, p.jac, p.w0, p.y, method=method, tol=1e-6)
        pl = sol.history.pl
        assert pl.shape == sol.history.loss.shape
        J, r = p.jac(p.w0), p.F(p.w0) - p.y
        assert pl[0] == pytest.approx(np.sum((J.T @ r) ** 2) / np.sum(r**2))
        known = pl[np.isfinite(pl)]
        assert known.size >= pl.size - 1
        assert np.all((known >= p.mu * (1 - 1e-9)) & (known <= p.lipschitz**2 * (1 + 1e-9)))


def test_auto_counts_operations():
    n = 1200
    d = np.linspace(1.0, 1.2, n)
    from scipy.sparse.linalg import LinearOperator

    def jac(w):
        return LinearOperator((n, n), matvec=lambda v: d * v, rmatvec=lambda v: d * v, dtype=float)

    easy = solve(lambda w: d * w, jac, np.zeros(n), np.ones(n))
    assert easy.method == "gd"
    assert easy.success
    assert "kappa" in easy.method_reason
    d = np.geomspace(1e-3, 1.0, n)
    hard = solve(lambda w: d * w, jac, np.zeros(n), np.ones(n))
    assert hard.method == "gauss-newton"
    assert hard.success
    assert "kappa" in hard.method_reason
    for sol in (easy, hard):
        assert "\n" not in sol.method_reason
