"""Fits with bounds: faces, edges and corners, random boxes, and memory."""

import tracemalloc

import numpy as np
import problems
import pytest
import scipy.optimize

from plsolve import least_squares


@pytest.mark.parametrize(
    ("center", "mask"),
    [
        ((0, 0), (0, 0)),
        ((2, 0), (1, 0)),
        ((2, 2), (1, 1)),
        ((-2, 2), (-1, 1)),
        ((-2, -2), (-1, -1)),
        ((0, -2), (0, -1)),
    ],
)
@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize("n", [2, 7])
@pytest.mark.parametrize("jac", ["2-point", "3-point"])
def test_faces_edges_and_corners(center, mask, n, m, jac):
    """min ||A (x - c)|| over the unit box, A with orthogonal columns: the projection of c."""
    A = np.vstack([np.diag(np.arange(1.0, m + 1)), np.zeros((max(n, m) - m, m))])
    c = np.concatenate([center, np.zeros(m - 2)])
    lower, upper = -np.ones(m), np.ones(m)

    def F(x):
        assert ((x >= lower) & (x <= upper)).all(), "evaluated outside"
        return A @ (np.sinh(x) - np.sinh(c))

    res = least_squares(F, np.full(m, 0.3), jac, bounds=(lower, upper))
    assert res.success
    assert res.x == pytest.approx(np.clip(c, -1, 1), abs=1e-9)
    assert res.active_mask.tolist() == [*mask, *[0] * (m - 2)]
    assert (res.x[np.array(res.active_mask) != 0] == np.clip(c, -1, 1)[np.array(res.active_mask) != 0]).all()


def test_never_outside_and_optimal_on_random_boxes():
    rng = np.random.default_rng(5)
    for _ in range(40):
        n, m = rng.integers(1, 9), rng.integers(1, 6)
        A, b = rng.standard_normal((n, m)), 3 * rng.standard_normal(n)
        lower = -rng.random(m)
        upper = rng.random(m)

        def F(x, A=A, b=b, lower=lower, upper=upper):
            assert ((x >= lower) & (x <= upper)).all()
            return A @ x + 0.3 * np.sin(A @ x) - b

        def jac(x, A=A):
            return (1 + 0.3 * np.cos(A @ x))[:, None] * A

        res = least_squares(F, np.zeros(m), jac, bounds=(lower, upper))
        g = jac(res.x).T @ F(res.x)
        assert np.abs(res.x - np.clip(res.x - g, lower, upper)).max() < 1e-6


def test_rosenbrock_in_boxes():
    F = problems.rosenbrock().F
    for start, bounds in (
        ((-2, 1), ([-np.inf, -1.5], np.inf)),
        ((2, 2), ([1.0, 1.5], [3.0, 3.0])),
        ((-1.2, 1), ([-50, 0], [0.5, 100])),
    ):
        res = least_squares(F, start, bounds=bounds)
        theirs = scipy.optimize.least_squares(F, start, bounds=bounds, ftol=1e-12, xtol=1e-12, gtol=1e-12)
        assert res.cost <= theirs.cost * (1 + 1e-6) + 1e-15


@pytest.mark.parametrize("n", [30, 3])
def test_memory_with_bounds_is_that_of_a_few_jacobians(n):
    """scipy's trf allocates (n + m) m numbers: 32 MB here, the Jacobian 0.5 MB."""
    m = 2000
    A = np.random.default_rng(0).standard_normal((n, m)) / np.sqrt(m)

    def F(x):
        return np.tanh(A @ x) - 0.1

    def jac(x):
        return (1 - np.tanh(A @ x) ** 2)[:, None] * A

    tracemalloc.start()
    res = least_squares(F, np.zeros(m), jac, bounds=(-1, 1))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert res.success
    assert peak < 12 * 8 * n * m + 2_000_000


def test_many_data_take_memory_in_proportion():
    x = np.linspace(0, 1, 200_000)
    tracemalloc.start()
    res = least_squares(lambda p: p[0] * np.exp(-p[1] * x) + p[2] - np.exp(-2 * x), [0.5, 1.0, 0.1])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert res.x == pytest.approx([1, 2, 0], abs=1e-8)
    assert peak < 40 * 8 * x.size
