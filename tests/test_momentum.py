"""Momentum and given constants: one step of each by its formula, and that none of it can diverge."""

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


@pytest.mark.parametrize("age", [1, 2, 7])
def test_a_curvature_out_of_range_raises_nothing(age):
    """A value of F that is wrong and huge may be taken for curvature."""
    a, b = steps.chebyshev(1e200, 1.0, 1.0, age)
    assert not a > 0.0
    assert b == np.inf
