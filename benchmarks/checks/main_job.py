"""The main job against scipy, side by side in one process: what issue 2 says plsolve must reach.

    python -m benchmarks.checks.main_job [NAME ...] [--quick] [--all]

NAME selects cases by prefix; --quick shrinks them (a smoke test: its verdicts mean nothing); --all adds scipy's slow
methods. Peers are stopped at the first evaluation of F with ||r|| <= tol * max(||y||, ||F(w0)||), so that they are
timed to plsolve's accuracy and not beyond. Times are the best of interleaved runs. Exit code 1 if any limit is missed.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg.blas import dsyrk
from scipy.linalg.lapack import dpotrf
from scipy.optimize import least_squares, root

import plsolve
from benchmarks.limits import Check
from plsolve import testing
from plsolve.testing import System

TOL = 1e-10
PATIENCE = 120.0  # seconds after which a peer is given up
REPEATS = 15
ONCE = 3.0  # seconds beyond which a run is not repeated


# --- solvers: each takes the watched callbacks and solves -----------------------------------------------------------


class Enough(Exception):  # noqa: N818 - it is not an error: the peer has reached TOL, or used up PATIENCE
    pass


class Watch:
    """The callbacks of a system, counted; `residual` (for the peers) stops the solver at tol, or out of patience."""

    def __init__(self, system: System, stop: bool = True, tol: float = TOL, patience: float = PATIENCE) -> None:
        self.system, self.stop, self.tol, self.patience = system, stop, tol, patience
        self.scale = float(max(np.linalg.norm(system.y), np.linalg.norm(system.F(system.w0))))
        self.nfev = self.njev = 0
        self.best = float(np.inf)
        self.start = time.perf_counter()

    def F(self, w: Any) -> Any:
        self.nfev += 1
        return self.system.F(w)

    def residual(self, w: Any) -> Any:
        self.nfev += 1
        r = self.system.F(w) - self.system.y
        self.best = min(self.best, float(np.linalg.norm(r)) / self.scale)
        if self.stop and (self.best <= self.tol or time.perf_counter() - self.start > self.patience):
            raise Enough
        return r

    def jac(self, w: Any) -> Any:
        self.njev += 1
        return self.system.jac(w)

    def dense(self, w: Any) -> Any:
        J: Any = self.jac(w)
        return J.toarray() if hasattr(J, "toarray") else J


TIGHT: dict[str, Any] = {"ftol": 1e-15, "xtol": 1e-15, "gtol": 1e-15, "max_nfev": 2000}


def peer(watch: Watch, method: Any, tr_solver: Any = None) -> None:
    jac = watch.jac if tr_solver == "lsmr" else watch.dense
    least_squares(watch.residual, watch.system.w0, jac, method=method, tr_solver=tr_solver, **TIGHT)


def hybr(watch: Watch) -> None:
    root(watch.residual, watch.system.w0, jac=watch.dense, method="hybr", tol=1e-15)


PEERS: dict[str, Callable[[Watch], None]] = {
    "trf": partial(peer, method="trf", tr_solver="exact"),
    "trf-lsmr": partial(peer, method="trf", tr_solver="lsmr"),
    "dogbox": partial(peer, method="dogbox", tr_solver="exact"),
    "dogbox-lsmr": partial(peer, method="dogbox", tr_solver="lsmr"),
    "lm": partial(peer, method="lm"),
    "root-hybr": hybr,  # not a least_squares method: shown, never a limit
}


@dataclass
class Run:
    """One solver on one system; `seconds` is the best of its repetitions."""

    seconds: float
    nfev: int
    njev: int
    residual: float
    nit: int | None = None
    njev_at_x: int = 0  # plsolve: with the Jacobian at x

    @property
    def solved(self) -> bool:
        return self.residual <= TOL


def run_plsolve(system: System, bounds: Any = None) -> Run:
    watch = Watch(system)
    start = time.perf_counter()
    sol = plsolve.solve(watch.F, watch.jac, system.w0, system.y, bounds=bounds, tol=TOL)
    seconds, nfev, njev = time.perf_counter() - start, watch.nfev, watch.njev
    _ = sol.jac  # evaluated on first access
    relative = float(np.linalg.norm(system.F(sol.x) - system.y) / watch.scale)
    return Run(seconds, nfev, njev, relative if sol.success else np.inf, sol.nit, watch.njev)


def run_peer(system: System, name: str, tol: float = TOL, patience: float = PATIENCE) -> Run:
    watch = Watch(system, tol=tol, patience=patience)
    start = time.perf_counter()
    with contextlib.suppress(Enough):
        PEERS[name](watch)
    return Run(time.perf_counter() - start, watch.nfev, watch.njev, watch.best)


# --- the race: everybody in turn, best of several -------------------------------------------------------------------


@dataclass
class Race:
    system: System
    ours: Run
    peers: dict[str, Run]

    def best_peer(self) -> float:
        return min(
            (run.seconds for name, run in self.peers.items() if run.solved and not name.startswith("root")),
            default=np.inf,
        )


def race(system: System, names: tuple[str, ...]) -> Race:
    runners: dict[str, Callable[[], Run]] = {"plsolve": partial(run_plsolve, system)}
    runners |= {name: partial(run_peer, system, name) for name in names}
    best: dict[str, Run] = {}
    for _ in range(REPEATS):
        for name, runner in runners.items():
            if name in best and (best[name].seconds > ONCE or not best[name].solved):
                continue
            run = runner()
            if name not in best or run.seconds < best[name].seconds:
                best[name] = run
    return Race(system, best.pop("plsolve"), best)


def seconds(call: Callable[[], object], repeats: int = REPEATS) -> float:
    """Best time of one call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


# --- what is measured on a race -------------------------------------------------------------------------------------


def speedup(race: Race) -> float:
    return race.best_peer() / race.ours.seconds


def jacobians(race: Race) -> float:
    return race.ours.njev_at_x


def iterations(race: Race) -> float:
    return np.inf if race.ours.nit is None else race.ours.nit


def jacobians_to_dogbox(race: Race) -> float:
    return race.ours.njev / race.peers["dogbox"].njev


def dogbox_time_ratio(race: Race) -> float:
    return race.ours.seconds / race.peers["dogbox"].seconds


def work(race: Race) -> float:
    """Time over the unavoidable njev (t_J + t_dsyrk + t_dpotrf) + nfev t_F, dense n <= m."""
    F, jac, w0 = race.system.F, race.system.jac, race.system.w0
    J = jac(w0)
    K = dsyrk(1.0, J.T, trans=1, lower=1)
    K[np.diag_indices_from(K)] += 1.0
    step = seconds(lambda: jac(w0)) + seconds(lambda: dsyrk(1.0, J.T, trans=1, lower=1)) + seconds(lambda: dpotrf(K))
    return race.ours.seconds / (race.ours.njev * step + race.ours.nfev * seconds(lambda: F(w0)))


def with_peak(call: Callable[[], Any]) -> tuple[Any, int]:
    """What the call gives, and the most bytes that were allocated meanwhile."""
    tracemalloc.start()
    try:
        return call(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def memory(race: Race, bounds: Any = None) -> float:
    """Peak of what a solve allocates, over the bytes of J and K."""
    system = race.system
    run, peak = with_peak(partial(run_plsolve, system, bounds))
    k = min(system.n, system.m)
    return peak / (8.0 * (system.n * system.m + k * k)) if run.solved else np.inf


def memory_with_bounds(race: Race) -> float:
    return memory(race, (race.system.w0 - 10.0, race.system.w0 + 10.0))


class Limit(NamedTuple):
    text: str
    measure: Callable[[Race], float]
    value: float
    at_least: bool = False


def faster(times: float) -> Limit:
    return Limit("times faster than the best least_squares", speedup, times, at_least=True)


# --- the cases: one line a promise ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    make: Callable[[bool], System]  # quick -> system
    peers: tuple[str, ...]
    limits: tuple[Limit, ...]
    slow: tuple[str, ...] = ()


def always(make: Callable[..., System], *args: Any, **kwargs: Any) -> Callable[[bool], System]:
    """The same system, quick or not."""
    return lambda quick: make(*args, **kwargs)


def diabetes(width: int) -> System:
    from sklearn.datasets import load_diabetes

    data = load_diabetes()
    y = (data.target - data.target.mean()) / data.target.std()
    return testing.two_layer_tanh(data.data * np.sqrt(len(y)), y, width, scale=0.5)  # smaller weights: harder


WIDE = (
    faster(4.0),
    Limit("Jacobians, the one at x included", jacobians, 12),
    Limit("time / unavoidable work", work, 1.2),
    Limit("peak memory / (J + K)", memory, 1.5),
    Limit("peak memory / (J + K), with bounds", memory_with_bounds, 1.5),
)
ILL = (
    Limit("Jacobians / dogbox's", jacobians_to_dogbox, 1.0),
    Limit("time / dogbox's", dogbox_time_ratio, 1.0),
)
SIX = (Limit("iterations", iterations, 6),)
LEVEL = (faster(1.0),)
RECTANGULAR = ("dogbox", "trf-lsmr")
SQUARE = ("trf", "trf-lsmr", "dogbox", "lm", "root-hybr")

CASES: dict[str, Case] = {
    "wide": Case(lambda quick: diabetes(100 if quick else 1000), RECTANGULAR, WIDE, slow=("trf",)),
    "tanh-50x2000": Case(always(testing.tanh_system, 50, 2000), (*RECTANGULAR, "trf"), (faster(3.0),)),
    "tanh-100x20000": Case(
        lambda quick: testing.tanh_system(100, 2000 if quick else 20000), RECTANGULAR, (faster(2.0),), slow=("trf",)
    ),
    **{
        f"spectrum-1e{k}": Case(always(testing.prescribed_spectrum, 50, 200, 10.0**k, e=0.1), RECTANGULAR, SIX)
        for k in range(0, 9, 2)
    },
    **{
        f"kernel-1e{k}": Case(always(testing.smooth_kernel, kappa_jac=10.0**k), ("dogbox",), ILL, slow=("trf-lsmr",))
        for k in (8, 10, 12, 14)
    },
    "collocation-small": Case(always(testing.collocation, 80, 200), ("dogbox",), ILL, slow=("trf-lsmr",)),
    "collocation": Case(
        lambda quick: testing.collocation(*((160, 400) if quick else (796, 2000))),
        ("dogbox",),
        ILL,
        slow=("trf-lsmr",),
    ),
    "chandrasekhar": Case(always(testing.chandrasekhar, 200), SQUARE, LEVEL),
    "broyden": Case(
        lambda quick: testing.broyden_tridiagonal(100 if quick else 1000), ("trf-lsmr", "dogbox-lsmr", "dogbox"), LEVEL
    ),
    "powell-singular": Case(always(testing.powell_singular), SQUARE, LEVEL),
}


# --- fixed costs: no race, but the same rows ------------------------------------------------------------------------


def trivial(power: int) -> System:
    """w_i^power = 1 (power 1) or 0 (power 3: a triple root, many iterations), i = 1, 2; m = 7; next to no work."""
    J = np.zeros((2, 7))

    def F(w: Any) -> Any:
        return w[:2] ** power

    def jac(w: Any) -> Any:
        J[0, 0], J[1, 1] = (1.0, 1.0) if power == 1 else (3.0 * w[0] ** 2, 3.0 * w[1] ** 2)
        return J

    return System(name="trivial", F=F, jac=jac, w0=np.full(7, 2.0), y=np.full(2, 1.0 if power == 1 else 0.0))


def cost_per_evaluation() -> Iterator[Check]:
    """Time beyond the callbacks per call of F, n = 2, m = 7."""
    system = trivial(3)
    watch = Watch(system, stop=False)
    callback = {"F": watch.F, "residual": watch.residual, "jac": watch.jac}
    cost = {name: seconds(partial(f, system.w0), 2000) for name, f in callback.items()}
    result = race(system, ("dogbox",))
    ours, theirs = result.ours, result.peers["dogbox"]
    a = (ours.seconds - ours.nfev * cost["F"] - ours.njev * cost["jac"]) / ours.nfev
    b = (theirs.seconds - theirs.nfev * cost["residual"] - theirs.njev * cost["jac"]) / theirs.nfev
    print(f"  plsolve {a * 1e6:.1f} us an evaluation ({ours.nfev} F, {ours.njev} J), dogbox {b * 1e6:.1f} us "
          f"({theirs.nfev} F, {theirs.njev} J)")  # fmt: skip
    yield Check("solved", float(ours.solved), 1.0, at_least=True)
    yield Check("fixed cost per evaluation / dogbox's", a / b, 0.5)


def cost_per_call() -> Iterator[Check]:
    """Whole calls on a linear 2 x 7 system: one step."""
    system = trivial(1)
    F, jac, w0, y = system.F, system.jac, system.w0, system.y
    residual: Any = lambda w: F(w) - y  # noqa: E731
    calls: dict[str, Callable[[], object]] = {
        "plsolve": lambda: plsolve.solve(F, jac, w0, y, tol=TOL),
        "dogbox": lambda: least_squares(residual, w0, jac, method="dogbox"),
        "trf": lambda: least_squares(residual, w0, jac, method="trf"),
    }
    times = dict.fromkeys(calls, np.inf)
    for _ in range(50):
        for name, call in calls.items():
            times[name] = min(times[name], seconds(call, 3))
    print("  " + ", ".join(f"{name} {t * 1e6:.0f} us" for name, t in times.items()))
    yield Check("whole call / least_squares'", times["plsolve"] / min(times["dogbox"], times["trf"]), 0.5)


def import_time() -> Iterator[Check]:
    code = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"
    times: dict[str, list[float]] = {"plsolve": [], "scipy.optimize": []}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(11):
        for module, samples in times.items():
            command = [sys.executable, "-c", code.format(module)]
            samples.append(
                float(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)
            )
    ours, theirs = (statistics.median(samples) for samples in times.values())
    print(f"  plsolve {ours * 1e3:.0f} ms, scipy.optimize {theirs * 1e3:.0f} ms")
    yield Check("import plsolve / import scipy.optimize", ours / theirs, 1.1)


FIXED = {"fixed-evaluation": cost_per_evaluation, "fixed-call": cost_per_call, "fixed-import": import_time}


# --- tables ---------------------------------------------------------------------------------------------------------


def race_checks(case: Case, quick: bool, everybody: bool) -> Iterator[Check]:
    system = case.make(quick)
    result = race(system, case.peers + (case.slow if everybody else ()))
    print(f"  {system.name}, {system.n} x {system.m}")
    print(f"  {'solver':12} {'seconds':>9} {'ratio':>8} {'nfev':>6} {'njev':>6} {'rel. residual':>14}")
    for name, run in {"plsolve": result.ours, **result.peers}.items():
        print(f"  {name:12} {run.seconds:9.4f} {run.seconds / result.ours.seconds:8.2f} {run.nfev:6} {run.njev:6} "
              f"{run.residual:14.1e}{'' if run.solved else '  not solved'}")  # fmt: skip
    yield Check("solved", float(result.ours.solved), 1.0, at_least=True)
    for limit in case.limits:
        yield Check(limit.text, limit.measure(result), limit.value, limit.at_least)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.checks.main_job", description=__doc__.split("\n", 1)[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"by prefix: {', '.join([*CASES, *FIXED])}")
    parser.add_argument("--quick", action="store_true", help="small sizes: a smoke test")
    parser.add_argument("--all", action="store_true", help="scipy's slow methods too (minutes)")
    options = parser.parse_args()
    jobs: dict[str, Callable[[], Iterator[Check]]] = {
        name: partial(race_checks, case, options.quick, options.all) for name, case in CASES.items()
    }
    jobs |= FIXED
    chosen = {k: job for k, job in jobs.items() if not options.names or k.startswith(tuple(options.names))}
    if not chosen:
        parser.error(f"no case begins with {' or '.join(options.names)}; there are {', '.join(jobs)}")
    missed = []
    for name, job in chosen.items():
        print(name)
        for check in job():
            verdict, sign = ("PASS" if check.passed else "FAIL"), (">=" if check.at_least else "<=")
            print(f"  {verdict} {check.text}: {check.value:.3g} (limit {sign} {check.limit:g})", flush=True)
            if not check.passed:
                missed.append(f"{name}: {check.text}")
    print("all limits reached" if not missed else "missed:\n  " + "\n  ".join(missed))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
