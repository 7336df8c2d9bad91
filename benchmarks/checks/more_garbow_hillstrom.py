"""The problems of More, Garbow and Hillstrom from starts x1, x10, x100, beside scipy's three methods, in one run.

    python -m benchmarks.checks.more_garbow_hillstrom [-v]

Every method has the same exact Jacobian and its own default tolerances. Solved: ||F||^2 within 1e-4 of a minimum that
the source lists (1e-10 where that is zero). Evaluations are calls of F and of jac, counted from outside.
"""

import sys
import warnings

import numpy as np
import scipy.optimize

import plsolve
from plsolve.testing.more_garbow_hillstrom import problems

METHODS = {
    "plsolve": plsolve.least_squares,
    "scipy trf": scipy.optimize.least_squares,
    "scipy dogbox": lambda *a: scipy.optimize.least_squares(*a, method="dogbox"),
    "scipy lm": lambda *a: scipy.optimize.least_squares(*a, method="lm"),
}


def run(method, p, factor):
    """(solved, calls of F, calls of jac, ||F||^2)."""
    calls = [0, 0]

    def F(w):
        calls[0] += 1
        return p.F(w)

    def jac(w):
        calls[1] += 1
        return p.jac(w)

    try:
        cost = 2 * method(F, p.scaled(factor), jac).cost
    except (ValueError, ZeroDivisionError, np.linalg.LinAlgError):  # a Jacobian that is not finite
        cost = np.inf
    solved = any(low * (1 - 1e-3) - 1e-12 <= cost <= low * (1 + 1e-4) + 1e-10 for low in p.minima)
    return solved, *calls, cost


def main():
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    rows = []
    for p in problems():
        for factor in (1.0, 10.0, 100.0):
            row = [run(method, p, factor) for method in METHODS.values()]
            rows.append(row)
            if "-v" in sys.argv:
                cells = (f"{'+' if s else '-'} {f:4d}/{j:<4d} {c:9.3g}" for s, f, j, c in row)
                print(f"{p.name:25s} x{factor:<4.0f}", " | ".join(cells))
    table = np.array(rows, dtype=float)
    everyone = table[:, :, 0].all(axis=1)
    print(f"\n{len(table)} runs; medians over the {everyone.sum()} that every method solves")
    print(f"{'method':14s} {'solved':>7s} {'F':>6s} {'jac':>6s} {'F + jac':>8s}")
    for k, name in enumerate(METHODS):
        F, jac = table[everyone, k, 1], table[everyone, k, 2]
        medians = f"{np.median(F):6.1f} {np.median(jac):6.1f} {np.median(F + jac):8.1f}"
        print(f"{name:14s} {table[:, k, 0].sum():7.0f} {medians}")


if __name__ == "__main__":
    main()
