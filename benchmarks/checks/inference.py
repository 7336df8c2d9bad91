"""`infer` beside other ways to the most probable parameters: Jacobians, objective, time.

    python -m benchmarks.checks.inference [groundwater] [spectrum] [--cells N]

Jacobians are counted until the objective is within 1e-8 of the least that any of them has found; times are CPU seconds
of runs in which all take turns. trf solves the stacked residual (data and prior), by LSMR; 'Gauss-Newton-CG' is a
Tikhonov iteration in the space of the parameters with inexact conjugate gradients and backtracking, as geophysical
frameworks do it; truncated SVD keeps the singular values of the Jacobian that stand out of the noise, without a prior.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import least_squares
from scipy.sparse.linalg import LinearOperator, cg

import plsolve
from benchmarks.inverse import Groundwater, Spectrum

Path = list[float]  # the objective at every Jacobian, and at the end

CLOSE = 1e-8  # of the objective
LIMIT = 60  # Jacobians
AGAIN = 3.0  # seconds: where all ways take less, their times are the best of some turns


class Watched:
    """An inverse problem whose calls are counted, in units of its noise."""

    def __init__(self, problem: Any) -> None:
        self.problem, self.nfev, self.njev = problem, 0, 0

    def F(self, u: Any) -> Any:
        self.nfev += 1
        return self.problem.F(u)

    def jac(self, u: Any) -> Any:
        self.njev += 1
        return self.problem.jac(u)

    def misfit(self, u: Any) -> Any:
        return (self.F(u) - self.problem.y) / self.problem.noise


def by_infer(watched: Watched, w0: Any, prior: Any) -> Path:
    fit = plsolve.infer(watched.F, watched.jac, w0, watched.problem.y, noise=watched.problem.noise, prior=prior)
    assert fit.success
    return [2.0 * loss for loss in fit.history.loss]


def by_trf(watched: Watched, w0: Any, L: Callable[[Any], Any], L_adjoint: Callable[[Any], Any], size: int) -> Path:
    """In z with u = w0 + L z."""
    path: Path = []

    def F(z: Any) -> Any:
        return np.concatenate([watched.misfit(w0 + L(z)), z])

    def jac(z: Any) -> Any:
        path.append(float(np.sum(np.square(F(z)))))
        J = watched.jac(w0 + L(z)) / watched.problem.noise
        n = len(J)
        return LinearOperator(
            (n + size, size),
            matvec=lambda v: np.concatenate([J @ L(v.ravel()), v.ravel()]),
            rmatvec=lambda x: L_adjoint(J.T @ x[:n]) + x[n:],
        )

    found = least_squares(F, np.zeros(size), jac, tr_solver="lsmr", ftol=1e-11, xtol=1e-11, gtol=1e-11, max_nfev=LIMIT)
    return [*path, 2.0 * found.cost]


def by_gauss_newton_cg(
    watched: Watched, w0: Any, L: Callable[[Any], Any], L_adjoint: Callable[[Any], Any], size: int
) -> Path:
    """The step of (L^T J^T J L + 1) p = -g to a tenth, and halved while the objective does not fall."""
    z, r = np.zeros(size), watched.misfit(w0)
    path = [float(r @ r)]
    while len(path) < LIMIT:
        J = watched.jac(w0 + L(z)) / watched.problem.noise
        H = LinearOperator((size, size), matvec=lambda v, J=J: L_adjoint(J.T @ (J @ L(v.ravel()))) + v.ravel())
        p, share, new = cg(H, -(L_adjoint(J.T @ r) + z), rtol=0.1, maxiter=200)[0], 2.0, np.inf
        while not new <= path[-1] and share > 1e-6:
            share *= 0.5
            r = watched.misfit(w0 + L(z + share * p))
            new = float(r @ r + np.sum(np.square(z + share * p)))
        z = z + share * p
        path.append(new)
        if path[-2] - new <= 1e-12 * new:
            break
    return path


def by_truncated_svd(watched: Watched, w0: Any, threshold: float = 1.0) -> Any:
    """Gauss-Newton on the singular vectors that stand out of the noise."""
    u, last = w0.copy(), np.inf
    for _ in range(LIMIT):
        r = watched.misfit(u)
        if not r @ r < 0.999 * last:
            break
        last = r @ r
        U, s, Vt = np.linalg.svd(watched.jac(u) / watched.problem.noise, full_matrices=False)
        kept = s > threshold
        u = u - Vt[kept].T @ ((U[:, kept].T @ r) / s[kept])
    return u


def compared(problem: Any, w0: Any, prior: Any, roots: tuple[Any, Any, int]) -> list[dict[str, Any]]:
    ways: dict[str, Callable[[Watched], Path]] = {
        "infer": lambda watched: by_infer(watched, w0, prior),
        "trf, stacked": lambda watched: by_trf(watched, w0, *roots),
        "Gauss-Newton-CG": lambda watched: by_gauss_newton_cg(watched, w0, *roots),
    }
    rows = [timed(name, way, problem) for name, way in ways.items()]
    if sum(row["s"] for row in rows) < AGAIN:
        for _ in range(3):
            for row in rows:
                row["s"] = min(row["s"], timed(row["way"], ways[row["way"]], problem)["s"])
    least = min(row["path"].min() for row in rows)
    for row in rows:
        near = np.flatnonzero(row["path"] <= least * (1.0 + CLOSE))
        row["near"] = int(near[0]) if near.size else "-"
    return rows


def timed(name: str, way: Callable[[Watched], Path], problem: Any) -> dict[str, Any]:
    watched, start = Watched(problem), time.process_time()
    path = way(watched)
    seconds = time.process_time() - start
    return {"way": name, "J": watched.njev, "F": watched.nfev, "s": seconds, "path": np.array(path)}


def shown(title: str, rows: list[dict[str, Any]]) -> None:
    print(f"\n{title}\n\n| way | J to 1e-8 | J | F | objective | s |\n| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        least = row["path"].min()
        print(f"| {row['way']} | {row['near']} | {row['J']} | {row['F']} | {least:.10g} | {row['s']:.1f} |")


def same(v: Any) -> Any:
    return v


def field(cells: int, kind: str) -> tuple[Any, Any, Any, tuple[Any, Any, int]]:
    """Groundwater's problem, start, prior ('white' or 'Matern'), and the prior's root, its adjoint and their size."""
    problem = Groundwater(cells)
    C, w0 = problem.prior, np.zeros(problem.m)
    if kind == "white":
        return problem, w0, 1.0, (same, same, problem.m)
    return problem, w0, C, (C.root, C.root_adjoint, 4 * problem.m)


def peaks() -> tuple[Any, Any, Any, tuple[Any, Any, int]]:
    """The same of the spectrum."""
    problem = Spectrum()
    L = problem.prior
    return problem, problem.w0, L, (lambda z: L * z, lambda v: L * v, L.size)


def with_uncertainty(problem: Any, w0: Any, prior: Any) -> tuple[Any, Any, float, float]:
    """The fit, its uncertainty, the price of all standard deviations in iterations, the truth within two of them."""
    start = time.process_time()
    fit = plsolve.infer(problem.F, problem.jac, w0, problem.y, noise=problem.noise, prior=prior)
    iteration = (time.process_time() - start) / fit.njev
    fit.jac  # noqa: B018 - computed when it is asked for
    start = time.process_time()
    u = fit.uncertainty()
    std = u.std()
    price = (time.process_time() - start) / iteration
    return fit, u, price, float(np.mean(np.abs(problem.truth - fit.x) <= 2.0 * std))


def groundwater(cells: int) -> None:
    """The map, its uncertainty, and what the heads determine."""
    for kind in ("white", "Matern"):
        problem, w0, prior, roots = field(cells, kind)
        rows = compared(problem, w0, prior, roots)
        shown(f"Groundwater, {cells} x {cells} cells, {problem.n} heads, {kind} prior", rows)
        fit, u, price, inside = with_uncertainty(problem, w0, prior)
        print(f"\nstd of all cells: the time of {price:.1f} iterations; {100 * inside:.0f} % of the truth within 2 std")
        print(f"rank {u.rank}, degrees of freedom {u.degrees_of_freedom:.1f}, nonlinearity {u.nonlinearity:.2g}")
    svd = Watched(problem)
    x = by_truncated_svd(svd, w0)
    error = np.linalg.norm(x - problem.truth) / np.linalg.norm(problem.truth)
    mine = np.linalg.norm(fit.x - problem.truth) / np.linalg.norm(problem.truth)
    print(f"\nerror of the map: {mine:.2f} by infer, {error:.2f} by truncated SVD ({svd.njev} Jacobians)")


def spectrum(cells: int) -> None:
    """More peaks than the data resolve."""
    problem, w0, prior, roots = peaks()
    fit = plsolve.infer(problem.F, problem.jac, w0, problem.y, noise=problem.noise, prior=prior)
    rows = compared(problem, w0, prior, roots)
    shown(f"Spectrum, {problem.peaks} peaks, {problem.t.size} points", rows)
    names = [f"{what} {k}" for k in range(problem.peaks) for what in ("height", "place", "width")]
    print("\n" + fit.report([*names, *(f"baseline {k}" for k in range(4))]))


CHECKS: dict[str, Callable[[int], None]] = {"groundwater": groundwater, "spectrum": spectrum}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[], help=", ".join(CHECKS))
    parser.add_argument("--cells", type=int, default=64)
    args = parser.parse_args()
    for name in args.names or CHECKS:
        CHECKS[name](args.cells)


if __name__ == "__main__":
    main()
