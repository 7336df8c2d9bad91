"""Oracles: slow, obvious, and sharing no code with the package."""

import numpy as np


def loss(r):
    return 0.5 * float(np.sum(np.abs(r) ** 2))


def least_norm(A, b, w0, scale=1.0):
    """Among the minimisers of ||A w - b||, the one with the least ||(w - w0) / scale||."""
    A, D = np.asarray(A), np.broadcast_to(scale, (len(w0),))
    return w0 + D * np.linalg.lstsq(A * D, b - A @ w0)[0]


def jacobian(F, w, step=6e-6):
    """Central differences, step relative to |w_j| (absolute where w_j = 0)."""
    columns = []
    for j in range(len(w)):
        h = np.zeros(len(w))
        h[j] = step * (abs(w[j]) or 1.0)
        columns.append((F(w + h) - F(w - h)) / (2 * h[j]))
    return np.stack(columns, axis=1)


def projected_gradient(g, w, lb, ub):
    """Zero at the points where no feasible direction descends: the KKT conditions of a box."""
    free = g.copy()
    free[(w <= lb) & (g > 0)] = 0
    free[(w >= ub) & (g < 0)] = 0
    return free


def off_row_space(J, d):
    """The part of d that is no combination of the rows of J."""
    return d - J.T @ np.linalg.lstsq(J.T, d)[0]


def rounding_level(F, J, y):
    """4 u (||F|| + ||y||), without the third term of the contract: a lower bound of the level that solve may use."""
    return 4 * np.finfo(float).eps / 2 * (np.linalg.norm(F) + np.linalg.norm(y))


class Recorded:
    """A function that keeps every point it is called at, insists on the box, and fails at a chosen call."""

    def __init__(self, function, lb=-np.inf, ub=np.inf, error=None, at=0):
        self.function, self.lb, self.ub, self.error, self.at = function, lb, ub, error, at
        self.calls, self.points, self.values = 0, [], []

    def __call__(self, w, *args):
        self.calls += 1
        if self.error is not None and self.calls == self.at:
            raise self.error
        real = np.real(w)
        assert np.all(real >= self.lb), f"called below the lower bound at {real}"
        assert np.all(real <= self.ub), f"called above the upper bound at {real}"
        self.points.append(np.array(w))
        value = self.function(w, *args)
        self.values.append(value)
        return value
