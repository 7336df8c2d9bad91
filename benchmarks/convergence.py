"""Iterations against the condition number kappa of the tangent kernel, beside scipy on the same systems.

F(w) = A (w + e sin w), 50 equations, singular values of A spaced geometrically (`testing.prescribed_spectrum`): the
constants of every theorem are known. A cell is one method on one system. A first-order method whose forecast (theory
4.3, from the spectrum at the start alone) exceeds LIMIT iterations is not run, and shown by its forecast.
"""

import math
from time import perf_counter
from typing import Any, ClassVar

import numpy as np

from benchmarks.units import counted_in, within

N, E, TOL = 50, 0.1, 1e-8
LIMIT = 200_000  # iterations
PATIENCE = 10.0  # seconds, for scipy
AGAIN = 0.3  # seconds: what takes less is repeated for its time

#: Each method with the decades of kappa that it is asked for.
OURS = {
    "gauss-newton": (0, 8),
    "heavy-ball": (1, 6),
    "nesterov": (1, 6),
    "chebyshev": (1, 6),
    "gd": (1, 4),
    "sgd": (1, 4),
}
PEERS = ("trf", "trf-lsmr", "dogbox", "lm")
KAPPAS = [10.0**k for k in range(9)]
RATIOS = [1, 4]  # m / n

Cell = tuple[str, float, int]


def system(kappa: float, ratio: int) -> Any:
    from plsolve.testing import prescribed_spectrum

    return prescribed_spectrum(N, ratio * N, kappa, E, seed=1)


def arguments(method: str, p: Any) -> dict[str, Any]:
    """What is told to `solve`: gd, its momenta and sgd know the constants, so that their guarantees hold."""
    if method == "gauss-newton":
        return {"method": method, "tol": TOL}
    options = {"lipschitz": p.lipschitz, "mu": p.mu}
    if method not in ("gd", "sgd"):
        options["momentum"], method = method, "gd"
    return {"method": method, "tol": TOL, "beta": p.beta, "options": options, "max_iter": 10 * LIMIT, "rng": 0}


def start(p: Any) -> tuple[Any, Any, float, float]:
    """Eigenvalues of K(w0), weights (u_i . r0)^2 of the residual in them, ||r0||, and L0 / L at tol."""
    r, J = p.F(p.w0) - p.y, p.jac(p.w0)
    values, vectors = np.linalg.eigh(J @ J.T)
    size = float(np.linalg.norm(r))
    enough = TOL * max(np.linalg.norm(p.y), np.linalg.norm(p.F(p.w0)))
    return values, (vectors.T @ r) ** 2, size, float((size / enough) ** 2)


def sgd_decay(p: Any) -> float:
    """Theory 5.1 at w0, for the batch that `solve` chooses: the expected squared distance falls by this factor."""
    from plsolve.theory import steps

    J = p.jac(p.w0)
    row, values = float(np.max(np.sum(J * J, axis=1))), np.linalg.eigvalsh(J @ J.T)
    batch = min(steps.critical_batch(p.n, row, p.lipschitz**2), p.n)
    return steps.sgd_rate(steps.batch_smoothness(p.n, batch, row, p.lipschitz**2), float(values[0]))


def forecast(method: str, p: Any) -> float:
    """Iterations by theory 4.3, before any is made; NaN where nothing is known."""
    from plsolve.theory import certificates, forecasts, steps

    values, weights, size, ratio = start(p)
    if method == "gd":
        eta = steps.gd_step(p.lipschitz, p.beta, size)
        return forecasts.spectral_iterations(values.tolist(), weights.tolist(), eta, 0.5 * size**2 / ratio)
    if method == "sgd":
        return math.ceil(math.log(ratio) / -math.log(sgd_decay(p)))
    if method == "gauss-newton":
        h = certificates.newton_h(p.beta, float(np.sqrt(np.sum(weights / values))), float(np.sqrt(values[0])))
        return forecasts.newton_iterations(h, math.sqrt(ratio)) if h <= 0.5 else math.nan
    return forecasts.momentum_iterations(1.05 * p.lipschitz**2 / float(values[0]), ratio)


def decay(method: str, p: Any) -> float:
    """By what factor theory says the loss falls in an iteration at least (1.1, 6.3; 5.1 in the mean); NaN: no claim."""
    from plsolve.theory import steps

    if method == "gauss-newton":
        return math.nan
    if method == "sgd":
        return sgd_decay(p)
    return steps.gd_rate(steps.gd_step(p.lipschitz, p.beta, start(p)[2]), p.mu)


def ours(method: str, p: Any) -> dict[str, float]:
    from benchmarks.checks.main_job import Watch
    from benchmarks.checks.main_job import seconds as best_seconds
    from plsolve import solve

    watch = Watch(p, stop=False)
    begun = perf_counter()
    sol = solve(p.F, watch.jac, p.w0, p.y, **arguments(method, p))
    seconds = perf_counter() - begun
    if seconds < AGAIN:
        seconds = min(seconds, best_seconds(lambda: solve(p.F, p.jac, p.w0, p.y, **arguments(method, p)), 5))
    loss, guaranteed = sol.history.loss, decay(method, p)
    observed = math.log(loss[-1] / loss[0]) / sol.nit if loss[-1] > 0.0 else math.nan
    return {
        "iterations": float(sol.nit) if sol.success else math.nan,
        "jacobians": float(watch.njev),
        "evaluations": float(sol.nfev),
        "margin": observed / math.log(guaranteed),
        "seconds": seconds if sol.success else math.nan,
    }


def peer(method: str, p: Any) -> dict[str, float]:
    """scipy, stopped at the first point that meets tol; its iterations are Jacobians."""
    from benchmarks.checks.main_job import run_peer

    runs = [run_peer(p, method, TOL, PATIENCE)]
    while runs[-1].seconds < AGAIN and len(runs) < 5:
        runs.append(run_peer(p, method, TOL, PATIENCE))
    solved = runs[0].residual <= TOL
    seconds = min(run.seconds for run in runs)
    count = float(runs[0].njev) if solved else math.nan
    evaluations = float(runs[0].nfev) if solved else math.nan
    seconds = seconds if solved else math.nan
    return {"iterations": count, "jacobians": count, "evaluations": evaluations, "seconds": seconds}


def all_cells() -> dict[Cell, dict[str, float]]:
    """Every cell, solved once; those that are left out have their forecast alone."""
    cells: dict[Cell, dict[str, float]] = {}
    for ratio in RATIOS:
        for k, kappa in enumerate(KAPPAS):
            p = system(kappa, ratio)
            for method, (low, high) in OURS.items():
                expected = forecast(method, p)
                cells[method, kappa, ratio] = {"forecast": expected}
                if low <= k <= high and not expected > LIMIT:
                    cells[method, kappa, ratio] |= ours(method, p)
            for method in PEERS:
                if method != "lm" or ratio == 1:  # lm refuses m > n
                    cells[method, kappa, ratio] = peer(method, p)
    return cells


def exponent(cells: dict[Cell, dict[str, float]], method: str, ratio: int) -> float:
    """Fitted growth of the iterations with kappa: kappa >= 10, Gauss-Newton all."""
    from benchmarks.checks import pl_star

    kappas = [k for k in KAPPAS if (k >= 10.0 or method == "gauss-newton")]
    counts = [cells.get((method, k, ratio), {}).get("iterations", math.nan) for k in kappas]
    known = [(k, c) for k, c in zip(kappas, counts, strict=True) if math.isfinite(c)]
    if len(known) < 3:
        return math.nan
    return pl_star.exponent(*zip(*known, strict=True))


class Cells:
    """All cells are solved once, for all trackers."""

    version = "1"
    timeout = 120

    @within(900)
    def setup_cache(self) -> dict[Cell, dict[str, float]]:
        return all_cells()


class EachCell(Cells):
    params: ClassVar = [[*OURS, *PEERS], KAPPAS, RATIOS]
    param_names: ClassVar = ["method", "kappa", "m/n"]

    def setup(self, cells: Any, method: str, kappa: float, ratio: int) -> None:
        self.cell = cells.get((method, kappa, ratio), {})

    def value(self, name: str) -> float:
        return self.cell.get(name, math.nan)  # asv shows NaN as not available


class Convergence(EachCell):
    @counted_in("count")
    def track_iterations(self, cells: Any, method: str, kappa: float, ratio: int) -> float:
        return self.value("iterations")

    @counted_in("count")
    def track_jacobian_evaluations(self, cells: Any, method: str, kappa: float, ratio: int) -> float:
        return self.value("jacobians")

    @counted_in("count")
    def track_function_evaluations(self, cells: Any, method: str, kappa: float, ratio: int) -> float:
        return self.value("evaluations")

    @counted_in("seconds")
    def track_seconds(self, cells: Any, method: str, kappa: float, ratio: int) -> float:
        """Of one solve, without its certificate."""
        return self.value("seconds")

    @counted_in("ratio")
    def track_speedup(self, cells: Any, method: str, kappa: float, ratio: int) -> float:
        """The best of scipy's methods that solve it, over this one."""
        theirs = [cells[peer, kappa, ratio]["seconds"] for peer in PEERS if (peer, kappa, ratio) in cells]
        theirs = [s for s in theirs if math.isfinite(s)]
        return min(theirs, default=math.nan) / self.value("seconds")


class Theory(EachCell):
    """What was known before, and what was promised."""

    params: ClassVar = [list(OURS), KAPPAS, RATIOS]

    @counted_in("count")
    def track_forecast(self, cells: Any, method: str, kappa: float, ratio: int) -> float:
        return self.value("forecast")

    @counted_in("ratio")
    def track_rate_margin(self, cells: Any, method: str, kappa: float, ratio: int) -> float:
        """Decay of log L in an iteration, observed over guaranteed: 1 or more keeps the promise."""
        return self.value("margin")


class Growth(Cells):
    params: ClassVar = [[*OURS, *PEERS], RATIOS]
    param_names: ClassVar = ["method", "m/n"]
    unit = "exponent"

    def track_exponent(self, cells: Any, method: str, ratio: int) -> float:
        """Of the iterations in kappa."""
        return exponent(cells, method, ratio)
