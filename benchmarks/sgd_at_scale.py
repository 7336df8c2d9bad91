"""SGD against the number of rows, beside a plain loop over batches, LSMR, L-BFGS-B and Gauss-Newton with all of K.

The systems are those of `checks.sgd_at_size`: sparse rows of 1000 unknowns with kappa 100, affine or with a sine added,
solved to 1e-8 of the first residual, and a network of 1024 tanh units, 45 057 weights, fitted to points of another
network up to a residual of LEVELS. Times are processor seconds, of PATIENCE at most. LSMR is for the affine system
alone, and Gauss-Newton for kernels up to LARGEST numbers.
"""

import math
import time
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from benchmarks.units import counted_in, within

LEVELS = {"affine": 1e-8, "sine": 1e-8, "network": 0.05}  # of the first residual
ROWS = {system: [3_000, 10_000, 100_000, 1_000_000] for system in ("affine", "sine")}
ROWS["network"] = [300, 1_000, 3_000, 10_000, 30_000]
WAYS = ["sgd", "plain loop", "LSMR", "L-BFGS-B", "gauss-newton"]
PATIENCE = 10.0  # seconds
LARGEST = 2e7  # numbers of K

Cell = dict[str, float]


def system(name: str, n: int) -> tuple[Any, Any, Any]:
    """p with F and jac of rows and the loss of all of them, w0 and y."""
    from benchmarks.checks import sgd_at_size

    if name == "network":
        return sgd_at_size.network("layers", n)
    p = sgd_at_size.SparseRows(n, 0.3 if name == "sine" else 0.0)
    return p, p.w0, p.y


class Race:
    """One way to ||r|| <= level ||r0||, within PATIENCE."""

    def __init__(self, p: Any, w0: Any, y: Any, level: float) -> None:
        self.p, self.w0, self.y = p, w0, y
        self.all, self.started, self.asked = np.arange(y.size), 0.0, 0
        self.enough = level * self.size(w0)

    def size(self, w: Any) -> float:
        return float(np.linalg.norm(self.p.F(w, self.all) - self.y))

    def jac(self, w: Any, rows: Any) -> Any:
        self.asked += len(rows)
        return self.p.jac(w, rows)

    def ended(self, w: Any) -> bool:
        return time.process_time() - self.started > PATIENCE or self.size(w) <= self.enough

    def loss(self, w: Any) -> tuple[float, Any]:
        if hasattr(self.p, "loss"):
            return self.p.loss(w)
        r = self.p.F(w, self.all) - self.y
        return 0.5 * float(r @ r), self.jac(w, self.all).T @ r

    def solve(self, method: str) -> Any:
        from plsolve import solve

        tol = self.enough / max(np.linalg.norm(self.y), self.size(self.w0))
        settings: dict[str, Any] = {"method": method, "tol": tol, "max_time": PATIENCE, "certify": False, "rng": 0}
        return solve(lambda w, rows=self.all: self.p.F(w, rows), self.jac, self.w0, self.y, **settings).x

    def plain_loop(self) -> Any:
        from benchmarks.checks.sgd_at_size import BATCH, loop

        epoch = max(self.y.size // BATCH, 1)
        return loop(self.p, self.w0, self.y, lambda k, w: k % epoch == 0 and self.ended(w))

    def lsmr(self) -> Any:
        from scipy.sparse.linalg import lsmr

        return lsmr(self.p.A, self.y, atol=0.0, btol=self.enough / float(np.linalg.norm(self.y)), conlim=0.0)[0]

    def lbfgs(self) -> Any:
        from scipy.optimize import minimize

        def callback(intermediate_result: Any) -> None:
            late = time.process_time() - self.started > PATIENCE
            if late or 2.0 * intermediate_result.fun <= self.enough**2:
                raise StopIteration

        stop = {"maxiter": 100_000, "maxfun": 100_000, "ftol": 0.0, "gtol": 0.0}
        return minimize(self.loss, self.w0, jac=True, method="L-BFGS-B", options=stop, callback=callback).x

    def run(self, way: str) -> Cell:
        runs: dict[str, Callable[[], Any]] = {
            "sgd": lambda: self.solve("sgd"),
            "plain loop": self.plain_loop,
            "LSMR": self.lsmr,
            "L-BFGS-B": self.lbfgs,
            "gauss-newton": lambda: self.solve("gauss-newton"),
        }
        self.asked, self.started = 0, time.process_time()
        w = runs[way]()
        seconds = time.process_time() - self.started
        return {
            "seconds": seconds if self.size(w) <= self.enough else math.nan,
            "passes": self.asked / self.y.size,
        }


def suits(way: str, name: str, n: int) -> bool:
    return {"LSMR": name == "affine", "gauss-newton": n * n <= LARGEST}.get(way, True)


def all_cells() -> dict[tuple[str, str, int], Cell]:
    """Every way that suits; NaN seconds for one that did not reach the level."""
    cells: dict[tuple[str, str, int], Cell] = {}
    for name, rows in ROWS.items():
        for n in rows:
            p = system(name, n)
            for way in WAYS:
                if suits(way, name, n):
                    cells[name, way, n] = Race(*p, LEVELS[name]).run(way)
    return cells


class Scale:
    version = "1"
    timeout = 60

    @within(1200)
    def setup_cache(self) -> dict[tuple[str, str, int], Cell]:
        return all_cells()

    @staticmethod
    def value(cells: Any, name: str, way: str, n: int, what: str) -> float:
        return float(cells.get((name, way, n), {}).get(what, math.nan))


class SparseRows(Scale):
    params: ClassVar = [["affine", "sine"], WAYS, ROWS["affine"]]
    param_names: ClassVar = ["system", "way", "rows"]

    @counted_in("seconds")
    def track_seconds(self, cells: Any, name: str, way: str, n: int) -> float:
        return self.value(cells, name, way, n, "seconds")

    @counted_in("count")
    def track_passes_over_the_rows_of_J(self, cells: Any, name: str, way: str, n: int) -> float:
        """Of sgd and of Gauss-Newton; the others have J at hand."""
        return self.value(cells, name, way, n, "passes")


class Network(Scale):
    params: ClassVar = [WAYS, ROWS["network"]]
    param_names: ClassVar = ["way", "rows"]

    @counted_in("seconds")
    def track_seconds(self, cells: Any, way: str, n: int) -> float:
        return self.value(cells, "network", way, n, "seconds")

    @counted_in("count")
    def track_passes_over_the_rows_of_J(self, cells: Any, way: str, n: int) -> float:
        return self.value(cells, "network", way, n, "passes")
