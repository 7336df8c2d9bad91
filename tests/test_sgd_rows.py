"""SGD's selections of rows and its momentum: one step of each by its formula, and that all arrive."""

import naive
import numpy as np
import problems
import pytest

from plsolve import solve, testing
from plsolve.theory import steps

A, Y = problems.matrix(8, 20, spread=3.0), problems.vector(8)
S = np.linalg.svd(A, compute_uv=False)
KNOWN = {"lipschitz": S[0], "mu": S[-1] ** 2}


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
