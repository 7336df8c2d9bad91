"""Do 500 problems end alike on other machines and with other packages? Each run saves how they end; runs are compared.

    OPENBLAS_CORETYPE=Haswell OPENBLAS_NUM_THREADS=1 python -m benchmarks.checks.portability --save haswell.json
    python -m benchmarks.checks.portability --compare first.json haswell.json ... [--page docs/checks.md]

The kernels of OpenBLAS, numpy's own functions for the processor (NPY_DISABLE_CPU_FEATURES), the threads, and the
versions of Python, numpy, scipy and numba change how numbers are rounded. Ordinary problems must nevertheless end with
the same status and equally far from the start, solved or with the same loss; which of its tolerances `least_squares`
meets first does not count. On the way from a far start, rounding errors grow until they decide: counted is how many end
otherwise. Exit code 1 if an ordinary problem does.
"""

import argparse
import json
import os
import platform
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sps
from scipy.optimize import OptimizeResult
from scipy.sparse.linalg import LinearOperator, aslinearoperator
from threadpoolctl import threadpool_info

import plsolve
from benchmarks.far_families import FAMILIES, FURTHER, NONE
from benchmarks.marks import write
from plsolve import testing
from plsolve.testing.more_garbow_hillstrom import problems

CLOSE = 1e-3  # relative, of losses and of distances
SHAPES = [(1, 1), (1, 4), (2, 5), (4, 9), (6, 6), (20, 60), (100, 400)]
LINEAR_SOLVERS = {"array": ["auto", "cholesky", "qr", "cg"], "sparse": ["auto"], "operator": ["auto", "cg"],
                  "gram": ["auto"]}  # fmt: skip
GD = [{}, {"step_size": "polyak"}, {"step_size": "cauchy"}, {"momentum": "heavy-ball"}, {"momentum": "nesterov"},
      {"momentum": "chebyshev"}]  # fmt: skip
SGD = [{}, {"step_size": "theorem"}, {"step_size": "polyak"}, {"step_size": "kaczmarz", "batch_size": 1},
       {"step_size": "kaczmarz", "batch_size": 3}, {"momentum": "mass"}, {"rows": "residual"},
       {"rows": "shuffled", "batch_size": 2}]  # fmt: skip
LOSSES = ["linear", "soft_l1", "huber", "cauchy", "arctan"]
T = np.linspace(0.0, 4.0, 60)
CURVES = {
    "decays": (lambda t, a, b, c, d: a * np.exp(-b * t) + c * np.exp(-d * t), [3.0, 0.5, 2.0, 2.5]),
    "peak": (lambda t, a, b, c: a * np.exp(-(((t - b) / c) ** 2)), [2.0, 1.5, 0.5]),
    "logistic": (lambda t, a, b, c: a / (1.0 + np.exp(-b * (t - c))), [3.0, 2.0, 2.0]),
    "wave": (lambda t, a, b, c: a * np.sin(b * t + c), [1.0, 2.0, 0.3]),
}


class Case(NamedTuple):
    """A problem: what it is, its start, and the call that solves it."""

    name: str
    w0: Any
    call: Callable[[], Any]


class End(NamedTuple):
    """How it ended."""

    status: str
    success: bool
    cost: float
    distance: float  # from the start


Cases = Iterator[Case]


class System(NamedTuple):
    """F(w) = z + c sin z, z = A w."""

    A: Any
    c: float
    w0: Any
    y: Any

    def F(self, w: Any) -> Any:
        return self.A @ w + self.c * np.sin(self.A @ w)

    def jac(self, w: Any) -> Any:
        return (1.0 + self.c * np.cos(self.A @ w))[:, None] * self.A


class Gram(LinearOperator):  # type: ignore[misc]
    """J by its products and its kernel."""

    def __init__(self, J: Any) -> None:
        self.J = J
        super().__init__(float, J.shape)

    def _matvec(self, v: Any) -> Any:
        return self.J @ v

    def _rmatvec(self, z: Any) -> Any:
        return self.J.T @ z

    def gram(self) -> Any:
        return self.J @ self.J.T


KINDS = {"array": np.asarray, "sparse": sps.csr_array, "operator": aslinearoperator, "gram": Gram}


# -- the problems -----------------------------------------------------------------------------------------------------


def near(seed: int, shapes: list[tuple[int, int]] = SHAPES) -> System:
    """A well-conditioned one; a solution is near."""
    rng = np.random.default_rng(seed)
    n, m = shapes[seed % len(shapes)]
    A, c, w0 = (
        rng.standard_normal((n, m)) / np.sqrt(m) + 2.0 * np.eye(n, m),
        rng.uniform(0.0, 0.8),
        rng.standard_normal(m),
    )
    plain = System(A=A, c=c, w0=w0, y=None)
    return plain._replace(y=plain.F(w0 + 0.5 * rng.standard_normal(m)))


def by_rows(f: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda w, rows=slice(None): f(w)[rows]


def known() -> Cases:
    """Systems of `plsolve.testing`, by the method that is chosen for them."""
    X, y = np.random.default_rng(0).standard_normal((20, 4)), np.linspace(-0.1, 0.1, 20)
    made = [
        testing.broyden_tridiagonal(200), testing.chandrasekhar(100), testing.powell_singular(),
        testing.collocation(60, 200), testing.first_layer_tanh(X, y, 50), testing.two_layer_tanh(X, y, 200),
        testing.no_solution(6, 15, gap=0.1), testing.repeated_equations(6, 15), testing.smooth_kernel(50, 200, 1e4),
        *(testing.planar_arm(joints, seed) for joints in (3, 7, 12) for seed in range(3)),
        *(testing.tanh_system(n, m) for n, m in ((1, 5), (20, 20), (20, 200), (100, 1000))),
        *(make(n, m, seed) for make, n, m in ((testing.quadratic, 5, 12), (testing.singular_start, 4, 9))
          for seed in range(5)),
        *(testing.prescribed_spectrum(20, m, kappa, 0.2) for m in (20, 80) for kappa in (1e1, 1e3, 1e5, 1e7)),
    ]  # fmt: skip
    for p in made:
        yield Case(p.name, p.w0, partial(plsolve.solve, p.F, p.jac, p.w0, p.y))


def gauss_newton() -> Cases:
    """Every kind of Jacobian with every way to apply its pseudo-inverse, and differences."""
    for kind, solvers in LINEAR_SOLVERS.items():
        for solver in solvers:
            for p in map(near, range(7)):
                options = {"linear_solver": solver}
                call = partial(plsolve.solve, p.F, lambda w, p=p, of=KINDS[kind]: of(p.jac(w)), p.w0, p.y)
                yield Case(f"{kind} {solver}", p.w0, partial(call, method="gauss-newton", options=options))
    for p in map(near, range(7)):
        yield Case("differences", p.w0, partial(plsolve.solve, p.F, None, p.w0, p.y))


def nearest() -> Cases:
    for p in map(near, range(20)):
        yield Case("", p.w0, partial(plsolve.solve, p.F, p.jac, p.w0, p.y, options={"nearest": True}))


def gd() -> Cases:
    """Until 1e-3 of the start; so for sgd."""
    common = {"method": "gd", "tol": 1e-3, "max_iter": 2000}
    for seed in range(6):
        p = near(seed)
        for options in GD:
            yield Case(str(options), p.w0, partial(plsolve.solve, p.F, p.jac, p.w0, p.y, options=options, **common))


def sgd() -> Cases:
    common = {"method": "sgd", "tol": 1e-3, "max_iter": 2000, "rng": 0}
    for seed in range(1, 6):
        p = near(seed)
        call = partial(plsolve.solve, by_rows(p.F), by_rows(p.jac), p.w0, p.y, **common)
        for options in SGD:
            yield Case(str(options), p.w0, partial(call, options=options))


def bounds() -> Cases:
    """Boxes that hold a solution, most of them with a bound close to the start."""
    for seed in range(40):
        p, rng = near(seed), np.random.default_rng(seed)
        inside = p.w0 + 0.5 * rng.standard_normal(p.w0.size)
        box = np.minimum(p.w0, inside) - 0.02, np.maximum(p.w0, inside) + rng.uniform(0.0, 1.0, p.w0.size)
        yield Case("", p.w0, partial(plsolve.solve, p.F, p.jac, p.w0, p.F(inside), bounds=box))


def root() -> Cases:
    for seed in range(30):
        p = near(seed, [(1, 1), (2, 2), (6, 6), (30, 30), (100, 100)])
        jac = p.jac if seed % 2 else None
        yield Case("", p.w0, partial(plsolve.root, lambda w, p=p: p.F(w) - p.y, p.w0, jac=jac))


def least_squares() -> Cases:
    """More equations than unknowns, noise, and every loss."""
    for seed in range(40):
        p, rng = near(seed, [(6, 3), (20, 4), (60, 10), (200, 100)]), np.random.default_rng(seed)
        y, loss = p.y + 0.1 * rng.standard_normal(p.y.size), LOSSES[seed % 5]
        call = partial(plsolve.least_squares, lambda w, p=p, y=y: p.F(w) - y, p.w0, p.jac, loss=loss, f_scale=0.1)
        yield Case(loss, p.w0, call)


def curve_fit() -> Cases:
    """Peaks and decays with noise; half of them with bounds."""

    def fitted(f: Any, y: Any, p0: Any, box: Any) -> Any:
        popt, _, info, _, _ = plsolve.curve_fit(f, T, y, p0, bounds=box, full_output=True)
        return OptimizeResult(x=popt, fun=info["fvec"], status="FITTED", success=True)

    for seed in range(24):
        (name, (f, truth)), rng = list(CURVES.items())[seed % 4], np.random.default_rng(seed)
        y, p0 = f(T, *truth) + 0.02 * rng.standard_normal(T.size), truth * rng.uniform(0.85, 1.15, len(truth))
        box = (0.0, 10.0) if seed % 8 < 4 else (-np.inf, np.inf)
        yield Case(name, p0, partial(fitted, f, y, p0, box))


def infer() -> Cases:
    """Noise and priors as numbers, deviations and covariances."""
    for seed in range(30):
        p, rng = near(seed, SHAPES[1:6]), np.random.default_rng(seed)
        n, m = p.A.shape
        noise = [0.1, rng.uniform(0.05, 0.2, n), 0.01 * (np.eye(n) + 0.3)][seed % 3]
        prior = [None, 0.5, rng.uniform(0.2, 2.0, m), np.eye(m) + 0.5][seed % 4]
        y = p.y + 0.1 * rng.standard_normal(n)
        yield Case("", p.w0, partial(plsolve.infer, p.F, p.jac, p.w0, y, noise=noise, prior=prior))


def compiled() -> Cases:
    """Left out where numba is not installed."""
    try:
        from numba import njit
    except ImportError:
        return
    F = njit(lambda w, A, c: A @ w + c * np.sin(A @ w))
    jac = njit(lambda w, A, c: (1.0 + c * np.cos(A @ w)).reshape(-1, 1) * A)
    for seed in range(40):
        p = near(seed, [*SHAPES[:5], (6, 3), (20, 4)])
        box = (p.w0 - 0.3, p.w0 + 0.6) if seed % 4 == 3 else None
        yield Case("", p.w0, partial(plsolve.solve, F, jac, p.w0, p.y, args=(p.A, p.c), bounds=box))


def classics() -> Cases:
    """More, Garbow and Hillstrom, from their standard starts."""
    for p in problems():
        yield Case(p.name, p.start, partial(plsolve.least_squares, p.F, p.start, p.jac))


def far() -> Cases:
    """One of every family of far starts and of those without a solution, some from further away; classics times 10."""
    for name, make in chain(FAMILIES.items(), NONE.items(), islice(FURTHER.items(), 12)):
        F, jac, w0, y = make(100)
        yield Case(name, w0, partial(plsolve.solve, F, jac, w0, y, max_iter=200))
    for p in problems():
        w0 = p.scaled(10.0)
        yield Case(f"{p.name} x10", w0, partial(plsolve.least_squares, p.F, w0, p.jac))


PANEL: list[Callable[[], Cases]] = [
    known, gauss_newton, nearest, gd, sgd, bounds, root, least_squares, curve_fit, infer, compiled, classics, far,
]  # fmt: skip


# -- a run ------------------------------------------------------------------------------------------------------------


def status_of(found: Any) -> str:
    if "optimality" in found:  # of least_squares, with scipy's numbers for its tolerances
        return "FITTED" if found.status > 0 else f"least_squares {found.status}"
    return plsolve.Status(found.status).name if isinstance(found, plsolve.Result) else str(found.status)


def end(case: Case) -> End:
    found = case.call()
    cost = found.get("cost", 0.5 * float(np.sum(np.square(found.fun))))
    return End(status_of(found), bool(found.success), float(cost), float(np.linalg.norm(found.x - case.w0)))


def environment() -> list[str]:
    """Python, the packages, the kernels of OpenBLAS that run, their threads, what numpy must not use."""

    def installed(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "none"

    blas = [info for info in threadpool_info() if info["user_api"] == "blas"]
    cores = "/".join(sorted({str(info["architecture"]) for info in blas}))
    threads = "/".join(sorted({str(info["num_threads"]) for info in blas}))
    without = os.environ.get("NPY_DISABLE_CPU_FEATURES", "").split()
    packages = [installed(name) for name in ("numpy", "scipy", "numba")]
    return [platform.python_version(), *packages, cores, threads, without[0] if without else ""]


def save(path: Path) -> None:
    warnings.simplefilter("ignore")
    ends = {}
    with np.errstate(all="ignore"):
        for family in PANEL:
            for number, case in enumerate(family()):
                ends[f"{family.__name__} {number} {case.name}".rstrip()] = end(case)
    path.write_text(json.dumps({"environment": environment(), "ends": ends}, indent=0))
    solved = sum(e.success for e in ends.values())
    print(f"{len(ends)} problems, {solved} with success: {' '.join(environment())}")


# -- the comparison ---------------------------------------------------------------------------------------------------


def alike(a: End, b: End) -> bool:
    """Solved, or fitted equally well, equally far from the start; where the loss is rounding, it is not compared."""
    both = a.success and b.success
    same_loss = bool(np.isclose(a.cost, b.cost, rtol=CLOSE, atol=1e-12)) or (both and max(a.cost, b.cost) < 1e-6)
    return same_loss and bool(np.isclose(a.distance, b.distance, rtol=CLOSE, atol=1e-6))


def compared(paths: list[Path]) -> tuple[str, list[str]]:
    """The table, and a line for every problem that ended otherwise than in the first file."""
    runs = [json.loads(path.read_text()) for path in paths]
    first, rows, lines = {name: End(*values) for name, values in runs[0]["ends"].items()}, [], []
    for path, run in zip(paths, runs, strict=True):
        ends = {name: End(*values) for name, values in run["ends"].items()}
        cells = []
        for far_ones in (False, True):
            names = [name for name in ends if name.startswith("far ") == far_ones]
            status = [name for name in names if ends[name].status != first[name].status]
            value = [name for name in names if name not in status and not alike(ends[name], first[name])]
            lines += [f"{path.stem}: {name}: {first[name]} here {ends[name]}" for name in status + value]
            cells += [f"{len(names)}", f"{len(status)}", f"{len(value)}"]
        rows.append([*run["environment"], *cells])
    head = ["Python", "numpy", "scipy", "numba", "OpenBLAS for", "threads", "numpy without",
            "ordinary", "other status", "other point", "far", "other status", "other point"]  # fmt: skip
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows]), lines


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.checks.portability")
    parser.add_argument("--save", type=Path, metavar="FILE")
    parser.add_argument("--compare", type=Path, nargs="+", metavar="FILE", help="all with the first")
    parser.add_argument("--page", type=Path, help="where the table is written, between the marks of 'portability'")
    asked = parser.parse_args()
    if asked.save:
        save(asked.save)
    if not asked.compare:
        return 0
    table, lines = compared(asked.compare)
    print(table, *lines, sep="\n")
    if asked.page:
        write(asked.page, "portability", table)
    return int(any(": far " not in line for line in lines))


if __name__ == "__main__":
    sys.exit(main())
