"""Pictures of runs, spectra and landscapes: what is drawn is what was measured."""

import pickle
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import problems
import pytest

from plsolve import solve, tangent_kernel, testing
from plsolve._pictures.landscape import landscape

mpl.use("Agg")


def network():
    rng = np.random.default_rng(0)
    return testing.two_layer_tanh(rng.standard_normal((8, 3)), rng.standard_normal(8), 20)


@pytest.fixture
def plt():
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


@pytest.mark.parametrize("method", ["gauss-newton", "gd", "sgd"])
def test_the_run(plt, method):
    p = testing.tanh_system(5, 12)
    sol = solve(p.F, p.jac, p.w0, p.y, method=method, rng=0)
    ax = sol.plot()
    assert method in ax.get_title()
    np.testing.assert_allclose(ax.lines[0].get_ydata(), sol.history.loss[sol.history.loss > 0])
    mine = plt.figure().subplots()
    assert sol.plot(ax=mine) is mine
    assert sol.kernel.plot(ax=mine) is mine


@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 7), (5, 5), (7, 3)])
def test_the_spectrum(plt, n, m):
    J = problems.matrix(n, m)
    ax = tangent_kernel(lambda w: J, np.zeros(m)).plot()
    assert ax.lines[0].get_xdata().size == min(n, m)
    ax.figure.canvas.draw()


def test_the_landscape(plt):
    p = network()
    sol = solve(p.F, p.jac, p.w0, p.y)
    ax = sol.plot("landscape")
    assert len(ax.figure.axes) == 3
    ax.figure.canvas.draw()
    mine = plt.figure().subplots()
    assert sol.plot("landscape", ax=mine) is mine


def test_the_landscape_in_numbers():
    p = network()
    sol = solve(p.F, p.jac, p.w0, p.y)
    land = landscape(sol._problem, sol.x, sol.kernel.mu, size=9)
    loss = lambda w: 0.5 * np.sum((p.F(w) - p.y) ** 2)  # noqa: E731
    assert land.loss.shape == land.pl.shape == (9, 9)
    np.testing.assert_allclose(land.line[[0, 40]], [loss(p.w0), loss(sol.x)], atol=1e-15)
    assert land.loss[4, 2] == pytest.approx(loss(p.w0))  # a = 0, b = 0
    assert land.monotone is bool(np.all(np.diff(land.line[:41]) <= 0))
    J, r = p.jac(p.w0), p.F(p.w0) - p.y
    assert land.pl[4, 2] == pytest.approx(np.sum((J.T @ r) ** 2) / np.sum(r**2))


def test_losses_are_not_convex_near_their_solutions():
    """A circle: L = (w.w - 1)^2 / 2 has the Hessian eigenvalue 2 (w.w - 1) across, negative just inside."""
    sol = solve(lambda w: [w @ w], lambda w: 2 * w[None], [0.3, 0.0], [1.0], method="gauss-newton")
    land = landscape(sol._problem, sol.x, sol.kernel.mu, size=9)
    w = sol.x[0] - 0.1 * (sol.x[0] - 0.3)
    assert land.curvature == pytest.approx(2 * (w * w - 1), rel=1e-3)
    assert land.curvature < 0
    assert np.abs(land.loss[:, 6]).min() < 1e-12  # x itself is on the grid
    assert land.monotone


def test_a_path_uphill_is_seen():
    """Between two roots of a cubic the loss has a hill."""
    sol = solve(lambda w: (w - 1) * (w + 1) * (w - 0.9), None, [1.5])
    land = landscape(sol._problem, np.array([-1.0]), 0.0, size=9)
    assert not land.monotone


def test_the_landscape_stays_inside_the_bounds(plt):
    p = testing.tanh_system(3, 6)

    low, high = np.minimum(p.w0, 0) - 0.5, np.maximum(p.w0, 0) + 0.5

    def F(w):
        assert np.all((low <= w) & (w <= high))
        return p.F(w)

    sol = solve(F, p.jac, p.w0, p.y, bounds=(low, high))
    assert sol.success
    assert np.isnan(landscape(sol._problem, sol.x, 1.0).loss).any()
    sol.plot("landscape").figure.canvas.draw()


def test_what_cannot_be_drawn():
    p = testing.tanh_system(3, 6)
    sol = solve(p.F, p.jac, p.w0, p.y)
    with pytest.raises(ValueError, match="what"):
        sol.plot("portrait")
    twin = pickle.loads(pickle.dumps(sol))
    assert twin.plot() is not None
    with pytest.raises(ValueError, match="unpickled"):
        twin.plot("landscape")
    still = solve(lambda w: w - 1, lambda w: np.eye(2), [1.0, 1.0])
    with pytest.raises(ValueError, match="same point"):
        still.plot("landscape")


def test_without_matplotlib_the_extra_is_named():
    code = """
import sys
sys.modules["matplotlib"] = None
import numpy as np, plsolve
sol = plsolve.solve(lambda w: w - 1, lambda w: np.eye(2), [0.0, 0.0])
for draw in (sol.plot, lambda: sol.plot("landscape"), sol.kernel.plot):
    try:
        draw()
    except ImportError as error:
        assert "plsolve[plot]" in str(error)
    else:
        raise SystemExit("no error")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
