"""The choice of the method, what a run forecasts, and the PL ratio in its history."""

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator

from plsolve import Status, solve, testing


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
    p = testing.tanh_system(4, 9)
    assert solve(p.F, p.jac, p.w0, p.y, method="sgd", rng=0).forecast == 0.0


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
