"""Every `success` of `solve`, `root` and `least_squares` held against what it promises; exit code 1 if one is untrue.

    python -m benchmarks.checks.promises [--families A,B] [--seeds 100:103] [--far 1,10,100]

The systems: the families of `benchmarks.far_families` with and without a solution, those of More, Garbow and Hillstrom,
and powers and exponentials whose F(w0) is up to 1e150 times what it is at a solution; each from its start times 1, 10
and 100. F and J are evaluated anew at x. `solve` promises ||r|| <= tol max(||y||, ||F(w0)||), and 1e-6 times the terms
of F, || |J| (|w| + |w - w0|) ||, or rounding; `root` that every equation is small beside its own terms (1e-6);
`least_squares` that the linear model at x gains no more than ftol of the cost, or asks for a step of no more than xtol
of x, that the gradient is within gtol, or that every unknown is orthogonal to r or hardly matters (where J is singular
the linear model says nothing).
"""

import argparse
import sys
import warnings
from collections import Counter

import numpy as np

import plsolve
from benchmarks.far_families import FAMILIES, NONE
from plsolve.testing.more_garbow_hillstrom import problems

TOL = 1e-10  # of solve
SCIPY = 1e-8  # ftol, xtol and gtol of least_squares
UNIT = 2.0**-53
STEEP = 100  # as many of these as of another family
LIMIT = 100  # iterations: what is solved later is solved alike


def solve_keeps(F, jac, w0, y, x):
    r, J = F(x) - y, jac(x)
    terms = np.linalg.norm(abs(J) @ (abs(x) + abs(x - w0)))
    sizes = np.linalg.norm(y), np.linalg.norm(F(w0))
    rounding = 4 * UNIT * (np.linalg.norm(F(x)) + sizes[0] + np.linalg.norm(abs(J) @ abs(x)))
    enough = min(TOL * max(sizes), 1e-6 * max(sizes[0], terms))
    return np.linalg.norm(r) <= 1.01 * max(enough, rounding)


def root_keeps(F, jac, w0, y, x):
    r, J = F(x) - y, jac(x)
    terms = abs(J) @ (abs(x) + abs(x - w0)) + abs(y)
    return bool((abs(r) <= np.maximum(1e-6 * terms, 5e-16 * min(1.0, np.linalg.norm(F(w0) - y)))).all())


def least_squares_keeps(F, jac, w0, y, x):
    r, J = F(x) - y, jac(x)
    lengths = np.maximum(np.linalg.norm(J, axis=0), 1e-300)
    p = np.linalg.lstsq(J / lengths, -r, rcond=None)[0] / lengths
    gain = np.linalg.norm(J @ p) ** 2
    tiny = np.linalg.norm(r) <= 1e-8 * np.linalg.norm(abs(J) @ (abs(x) + abs(x - w0)))  # solved
    step = np.linalg.norm(p) <= SCIPY * (SCIPY + np.linalg.norm(x))
    g = J.T @ r
    flat = (abs(g) <= 1e-6 * lengths * np.linalg.norm(r)) | (abs(g * x) <= 1e-5 * (r @ r))  # of every unknown
    return bool(tiny or gain <= SCIPY * (r @ r) or step or flat.all() or abs(g).max() < SCIPY)


DOORS = {
    "solve": (lambda F, jac, w0, y: plsolve.solve(F, jac, w0, y, max_iter=LIMIT, certify=False), solve_keeps),
    "root": (
        lambda F, jac, w0, y: plsolve.root(lambda w: F(w) - y, w0, jac=jac, options={"maxfev": 10 * LIMIT}),
        root_keeps,
    ),
    "least_squares": (
        lambda F, jac, w0, y: plsolve.least_squares(lambda w: F(w) - y, w0, jac, max_nfev=10 * LIMIT),
        least_squares_keeps,
    ),
}


def steep(seed):
    """Powers and exponentials of linear functions, and a linear equation beside them, from far away."""
    rng = np.random.default_rng(seed)
    n, m = [(1, 1), (2, 2), (2, 5), (3, 4), (4, 9), (4, 3)][seed % 6]
    A, power = rng.standard_normal((n, m)), int(rng.integers(2, 20))
    bold = rng.random(n) < 0.5
    bold[0] = bold[0] or n == 1

    def G(z):
        return np.where(bold, np.exp(np.clip(z, -340.0, 340.0)), z if seed % 2 else z**power)

    def slope(z):
        return np.where(bold, np.exp(np.clip(z, -340.0, 340.0)), 1.0 if seed % 2 else power * z ** (power - 1))

    w0 = 10.0 ** rng.uniform(0.0, 2.0) * rng.standard_normal(m)
    return (lambda w: G(A @ w)), (lambda w: slope(A @ w)[:, None] * A), w0, G(A @ rng.standard_normal(m))


def systems(names, seeds, far):
    """(name, F, jac, w0, y)."""
    chosen = {**FAMILIES, **NONE, "steep": steep}
    for name, make in chosen.items():
        if names and not name.startswith(names):
            continue
        more = STEEP if name == "steep" else 1
        for seed in range(seeds[0] * more, seeds[1] * more):
            F, jac, w0, y = make(seed)
            for factor in far:
                yield name, F, jac, factor * np.asarray(w0, dtype=float), np.asarray(y, dtype=float)
    if not names or "MGH".startswith(names):
        for p in problems():
            for factor in far:
                w0 = p.scaled(factor)
                yield "MGH", p.F, p.jac, w0, np.zeros(np.size(p.F(w0)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--families", type=lambda s: tuple(s.split(",")), default=())
    parser.add_argument("--seeds", type=lambda s: [int(k) for k in s.split(":")], default=[100, 103])
    parser.add_argument("--far", type=lambda s: [float(k) for k in s.split(",")], default=[1.0, 10.0, 100.0])
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    counts = Counter()
    for name, F, jac, w0, y in systems(given.families, given.seeds, given.far):
        if not np.linalg.norm(F(w0)) < 1e150:
            continue
        for door, (run, keeps) in DOORS.items():
            sol = run(F, jac, w0, y)
            counts[door, "runs"] += 1
            counts[door, "success"] += bool(sol.success)
            if sol.success and not keeps(F, jac, w0, y, sol.x):
                counts[door, "untrue"] += 1
                size = np.linalg.norm(F(sol.x) - y)
                print(f"untrue: {door}, {name}, {w0.size} unknowns, ||r|| = {size:.2e}: {sol.message}")
    print(f"{'':15}{'runs':>8}{'success':>9}{'untrue':>8}")
    for door in DOORS:
        print(f"{door:15}{counts[door, 'runs']:8}{counts[door, 'success']:9}{counts[door, 'untrue']:8}")
    return int(any(counts[door, "untrue"] for door in DOORS))


if __name__ == "__main__":
    sys.exit(main())
