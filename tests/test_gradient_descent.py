"""Gradient descent: one step of every size by its formula, and the rates of theory 1.1, 4.4."""

import naive
import numpy as np
import problems
import pytest

from plsolve import Status, solve

A, Y, W0 = problems.matrix(6, 15, spread=1.5), problems.vector(6), problems.vector(15)
R = A @ W0 - Y
G = A.T @ R


def step(size):
    sol = solve(lambda w: A @ w, lambda w: A, W0, Y, method="gd", max_iter=1, options={"step_size": size})
    assert sol.nit == 1
    assert sol.status == Status.MAX_ITER
    return sol


@pytest.mark.parametrize("size", [1e-6, 0.1, 0.3])
def test_a_number_is_the_step(size):
    np.testing.assert_allclose(step(size).x, W0 - size * G, rtol=1e-13)


def test_integer_step():
    sol = solve(lambda w: w / 2, lambda w: np.eye(3) / 2, np.ones(3), method="gd", max_iter=1, options={"step_size": 1})
    np.testing.assert_allclose(sol.x, 0.75)


def test_polyak():
    """||r||^2 / ||g||^2 (theory 4.4)."""
    x = W0 - (R @ R) / (G @ G) * G
    assert naive.loss(A @ x - Y) < naive.loss(R)
    np.testing.assert_allclose(step("polyak").x, x, rtol=1e-12)


def test_cauchy():
    """||g||^2 / ||J g||^2: the least loss along the gradient of a linear system (theory 4.4)."""
    sol = step("cauchy")
    np.testing.assert_allclose(sol.x, W0 - (G @ G) / np.sum((A @ G) ** 2) * G, rtol=1e-12)
    np.testing.assert_allclose(sol.grad @ G, 0, atol=1e-12 * (G @ G))


def test_theorem():
    """1 / (||J||^2 + beta ||r0||): here beta = 0, and ||J|| is estimated."""
    t = (W0 - step("theorem").x) @ G / (G @ G)
    largest = 1 / np.linalg.norm(A, 2) ** 2
    assert 0.2 * largest <= t <= 1.05 * largest


@pytest.mark.parametrize("size", ["theorem", "polyak", "cauchy", 0.2])
@pytest.mark.parametrize("p", [problems.tanh_system(6, 6), problems.tanh_system(6, 30)], ids=str)
def test_all_sizes_arrive(p, size):
    options = {"step_size": size if isinstance(size, str) else size / 4}
    sol = solve(p.F, p.jac, p.w0, method="gd", options=options)
    assert sol.status == Status.RESIDUAL, sol.message
    assert np.linalg.norm(p.F(sol.x)) <= 1e-10 * np.linalg.norm(p.F(p.w0))


def test_rate_of_a_known_step():
    """Linear, eta = 1/lambda_max: each step multiplies the loss by (1 - lambda_min/lambda_max)^2 at most."""
    s = np.linalg.svd(A, compute_uv=False)
    sol = solve(lambda w: A @ w, lambda w: A, W0, Y, method="gd", options={"step_size": s[0] ** -2})
    loss = sol.history.loss
    rate = (1 - (s[-1] / s[0]) ** 2) ** 2
    assert len(loss) > 10
    assert np.all(loss[1:] <= rate * loss[:-1] * (1 + 1e-9) + 1e-28)


def test_default_needs_about_eighteen_kappa_steps():
    kappa = 16.0
    B = problems.matrix(10, 40, spread=np.sqrt(kappa))
    sol = solve(lambda w: B @ w, lambda w: B, np.zeros(40), problems.vector(10), method="gd", tol=1e-8)
    assert sol.success, sol.message
    assert sol.nit <= 25 * kappa


def test_stays_near_the_start():
    """Theory 4.2: the path, and so the distance moved, is at most 2 ||r0|| / sqrt(mu) (here mu is global)."""
    p = problems.tanh_system(6, 30)
    steps = [p.w0]
    solve(p.F, p.jac, p.w0, method="gd", callback=lambda w: steps.append(w.copy()))
    path = np.sum(np.linalg.norm(np.diff(steps, axis=0), axis=1))
    assert path <= 2 * np.linalg.norm(p.F(p.w0))  # sigma_min(J) >= sigma_min(A) = 1


def test_no_jacobian_is_formed_for_an_operator():
    class Thin(problems.Operator):
        def _matmat(self, V):
            raise AssertionError("J was formed")

        _rmatmat = _matmat

    sol = solve(lambda w: A @ w, lambda w: Thin(A), W0, Y, method="gd")
    assert sol.success, sol.message
