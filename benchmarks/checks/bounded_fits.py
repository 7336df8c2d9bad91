"""Fits with bounds that are not active at the solution, from 60 perturbed starts each, beside scipy's trf and dogbox.

    python -m benchmarks.checks.bounded_fits [-v]

A step that lands on a bound on its way may stay there: counted is how often the best minimum is reached, the least that
anyone finds from any start. Bounds: all unknowns >= 0, or the widths alone. Evaluations are calls of F and Jacobians;
all have the same exact one.
"""

import sys
import warnings
from functools import partial

import numpy as np
import scipy.optimize

import plsolve

STARTS = 60
SPREAD = 0.5  # of the logarithms of the starts
x = np.arange(1.0, 251.0)


def gauss(c, s):
    return np.exp(-((x - c) ** 2) / (2 * s * s))


def lorentz(c, s):
    return s * s / ((x - c) ** 2 + s * s)


def areas(p):
    """Two Gaussians by their areas, and an exponential."""
    root = np.sqrt(2 * np.pi)
    peaks = (p[k] / (p[k + 2] * root) * gauss(p[k + 1], p[k + 2]) for k in (2, 5))
    return sum(peaks, p[0] * np.exp(-x / p[1]))


def peaks(shape, p):
    """Peaks of one shape by height, centre and width."""
    return sum(p[k] * shape(p[k + 1], p[k + 2]) for k in range(0, p.size, 3))


#: Model, truth, which unknowns are widths.
MODELS = {
    "two Gaussians by area + exponential": (areas, [99, 91, 4258, 107, 16.7, 2493, 153, 13.8], (4, 7)),
    "three Lorentzians": (partial(peaks, lorentz), [60, 60, 9, 90, 110, 14, 50, 180, 11], (2, 5, 8)),
    "two Gaussians": (partial(peaks, gauss), [100, 100, 15, 70, 150, 20], (2, 5)),
}


def slopes(model, p):
    """The Jacobian by complex steps."""
    return np.array([np.imag(model(z)) / 1e-30 for z in np.diag(np.full(p.size, 1e-30j)) + p]).T


def solved(F, p0, jac, bounds):
    return plsolve.solve(F, jac, p0, bounds=bounds)


METHODS = {
    "trf": scipy.optimize.least_squares,
    "dogbox": partial(scipy.optimize.least_squares, method="dogbox"),
    "least_squares": plsolve.least_squares,
    "solve": solved,
}


def run(method, model, y, p0, lower):
    """(||F||^2, calls of F, Jacobians)."""
    calls = [0, 0]

    def F(p):
        calls[0] += 1
        return model(p) - y

    def jac(p):
        calls[1] += 1
        return slopes(model, p)

    return 2 * method(F, p0, jac, bounds=(lower, np.inf)).cost, *calls


def table(name, bounded, methods=None, starts=STARTS):
    """||F||^2, calls of F, Jacobians (60 starts, methods, 3) of one model; bounded: 'all' or 'widths'."""
    model, truth, widths = MODELS[name]
    truth = np.array(truth, dtype=float)
    y = model(truth) + np.random.default_rng(1).normal(scale=2.5, size=x.size)
    lower = np.full(truth.size, 0.0 if bounded == "all" else -np.inf)
    lower[list(widths)] = 1e-15
    rows = []
    for seed in range(starts):
        p0 = truth * np.exp(SPREAD * np.random.default_rng(seed).standard_normal(truth.size))
        rows.append([run(method, model, y, p0, lower) for method in (methods or METHODS).values()])
    return np.array(rows)


def main():
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    print(f"best minimum reached of {STARTS} (median calls of F, Jacobians):")
    print(f"{'':44s}" + "".join(f"{name:>20s}" for name in METHODS))
    for name in MODELS:
        for bounded in ("all", "widths"):
            rows = table(name, bounded)
            best = rows[:, :, 0] <= (1 + 1e-6) * rows[:, :, 0].min()
            cells = (
                f"{best[:, k].sum():6d} ({np.median(rows[:, k, 1]):.0f}, {np.median(rows[:, k, 2]):.0f})"
                for k in range(len(METHODS))
            )
            print(f"{name:37s}{bounded:7s}" + "".join(f"{cell:>20s}" for cell in cells), flush=True)
            if "-v" in sys.argv:
                for seed, row in enumerate(rows):
                    print(f"  {seed:3d}", " | ".join(f"{c:12.6g} {f:4.0f} {j:4.0f}" for c, f, j in row))


if __name__ == "__main__":
    main()
