"""Compiled runs in which a numba function goes wrong, or Ctrl-C comes at any moment, and what must hold of them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from benchmarks.checks.fault_cases import TOL, System, case
from plsolve import Status, solve, solve_batch
from plsolve._stopping import FAILED

RAISE, NAN, INF, NONE = range(4)
NAMES = {RAISE: "raise", NAN: "nan", INF: "inf", NONE: "none"}
LOG = 4000  # calls of F whose points are kept
AGAIN = "failed in compiled code, but not when it was called again"
BATCH = 4  # systems


class Compiled(NamedTuple):
    """One run, from its seed."""

    system: System
    where: str  # F, jac or signal
    what: str
    state: Any  # calls of F and of jac, whose call goes wrong (1, 2), which, how, and whether all later ones do, too
    log: Any  # the points of F
    settings: dict[str, Any]
    batch: bool
    after: float  # seconds until Ctrl-C; 0: it does not come


@cache
def functions() -> tuple[Any, Any]:
    """F and jac as numba functions."""
    from numba import njit

    @njit
    def strikes(state: Any, who: int) -> bool:
        calls = state[who - 1]
        return state[2] == who and (calls == state[3] or (state[5] == 1 and calls > state[3]))

    @njit
    def wrong(state: Any, who: int, value: Any) -> Any:
        if strikes(state, who):
            if state[4] == 0:
                raise RuntimeError("injected")
            if state[4] < 3:
                value[:] = np.nan if state[4] == 1 else np.inf
        return value

    @njit
    def F(w: Any, A: Any, c: float, state: Any, log: Any, rows: Any) -> Any:
        state[0] += 1
        if state[0] <= log.shape[0]:
            log[state[0] - 1] = w
        z = A[rows] @ w
        return wrong(state, 1, z + c * np.sin(z))

    @njit
    def jac(w: Any, A: Any, c: float, state: Any, log: Any, rows: Any) -> Any:
        state[1] += 1
        return wrong(state, 2, (1 + c * np.cos(A[rows] @ w)).reshape(-1, 1) * A[rows])

    return F, jac


def compiled_case(seed: int) -> Compiled:
    c, rng = case(seed), np.random.default_rng(seed)
    p, who, how = c.system._replace(d=0.0), 1 + int(rng.integers(2)), int(rng.integers(4))
    state = np.array([0, 0, who, 1 + rng.geometric(0.15), how, rng.integers(2)], dtype=np.int64)
    batch, after = bool(rng.random() < 0.2), float(rng.choice([0.0] * 9 + [1.0])) * float(rng.uniform(1e-5, 2e-3))
    more: dict[str, Any] = {"tol": TOL, "max_iter": int(rng.choice([3, 20, 60]))}
    if not batch:
        options = {} if "linear_solver" in c.options else c.options
        more |= {
            "method": c.method if c.door == "solve" else "gauss-newton",
            "options": options,
            "rng": 0,
            "xtol": float(rng.choice([0.0, 0.0, 1e-6])),
        }
    if rng.random() < 0.2:
        more["x_scale"] = rng.uniform(0.1, 10.0, p.w0.size)
    if p.bounds is not None and not c.options.get("nearest"):
        more["bounds"] = p.bounds
    where = "signal" if after else "F" if who == 1 else "jac"
    what = "interrupt" if after else NAMES[how]
    return Compiled(p, where, what, state, np.empty((LOG, p.w0.size)), more, batch, after)


@contextmanager
def interrupted(after: float) -> Iterator[None]:
    """Ctrl-C after some seconds, wherever the run is then."""
    ours = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, after)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, ours)


def broken_compiled(seed: int) -> list[str]:
    """What did not hold. Where F or jac fails, it is called once more for its exception, which is not counted."""
    c = compiled_case(seed)
    p, args = c.system, (c.system.A, c.system.c, c.state, c.log)
    try:
        with interrupted(c.after):
            if c.batch:
                args = (*args, np.arange(p.y.size))
                res = solve_batch(*functions(), p.w0 + np.arange(float(BATCH))[:, None] / 9, p.y, args=args, threads=1,
                                  **c.settings | {"bounds": None})  # fmt: skip
            else:
                sol = solve(*functions(), p.w0, p.y, args=args, **c.settings)
    except BaseException as error:  # noqa: BLE001 - whatever was injected
        return of_error(c, error)
    return of_systems(c, res) if c.batch else of_solution(c, sol)


def sizes(c: Compiled) -> Any:
    """||r|| at the points of F, inf where the fault has changed it."""
    p, count = c.system, min(int(c.state[0]), LOG)
    with np.errstate(all="ignore"):
        found = np.array([np.linalg.norm(p.F(w) - p.y) for w in c.log[:count]])
    if c.state[2] == 1 and c.state[4] != NONE:
        at = int(c.state[3]) - 1
        found[slice(at, None if c.state[5] else at + 1)] = np.inf
    return np.where(np.isfinite(found), found, np.inf)


def of_error(c: Compiled, error: BaseException) -> list[str]:
    if c.after and isinstance(error, KeyboardInterrupt):
        return [] if c.batch else of_points(c) + best(c, error)
    own = c.state[4] == RAISE and c.state[c.state[2] - 1] >= c.state[3]
    if isinstance(error, RuntimeError) and own and not c.batch:
        wrong = [] if str(error) == "injected" or (c.state[5] == 0 and AGAIN in str(error)) else [f"other: {error}"]
        return wrong + of_points(c) + (best(c, error) or [] if hasattr(error, "best") else ["no exc.best"])
    first = c.state[c.state[2] - 1] == 1
    if isinstance(error, ValueError) and first and "must be finite" in str(error):
        return []
    if c.batch and own and c.state[3] == 1 and str(error) == "injected":  # no start could be evaluated
        return []
    return [f"{type(error).__name__}: {str(error)[:80]}"]


def best(c: Compiled, error: BaseException) -> list[str]:
    found = sizes(c)[: 1 if c.settings.get("method") == "sgd" else None]
    if not hasattr(error, "best") or not found.size:
        return []
    near = [size for w, size in zip(c.log, sizes(c), strict=False) if np.array_equal(w, error.best)]
    behind = 130 if c.after else 0  # what a chunk of steps has found is told at its end
    least = found[: max(1, found.size - behind)].min()
    if not near:
        return [] if np.array_equal(error.best, c.system.w0) else ["exc.best is no point that F was evaluated at"]
    return [] if min(near) <= least * (1 + 1e-8) else ["exc.best is not the best point"]


def of_points(c: Compiled) -> list[str]:
    if "bounds" not in c.settings or c.batch:
        return []
    low, high = c.settings["bounds"]
    points = c.log[: min(int(c.state[0]), LOG)]
    return [] if ((points >= low) & (points <= high)).all() else ["F outside the bounds"]


def of_solution(c: Compiled, sol: Any) -> list[str]:
    made, wrong, p = [int(count) for count in c.state[:2]], of_points(c), c.system
    if (sol.nfev, sol.njev) != tuple(made):
        wrong.append(f"nfev, njev {sol.nfev, sol.njev} for {made} calls")
    if not np.allclose(p.F(sol.x) - p.y, sol.fun, 1e-12, 1e-13):
        wrong.append("fun is not F(x) - y")
    if (np.diff(sol.history.nit) <= 0).any() or sol.history.nit[-1] != sol.nit:
        wrong.append("history.nit")
    chosen = sol.status == Status.DISTANCE or (sol.success and c.settings["options"].get("nearest"))
    among = sizes(c)[: 1 if c.settings["method"] == "sgd" else None]  # sgd also asks for some rows alone
    if not chosen and np.linalg.norm(sol.fun) > among.min() * (1 + 1e-8) + 1e-13:
        wrong.append("x is not the best point")
    if sol.success != (sol.status > 0):
        wrong.append("success")
    bound = 1.001 * TOL * max(np.linalg.norm(p.y), np.linalg.norm(p.F(p.w0)))
    rounding = 1e-14 * (np.linalg.norm(p.y) + np.linalg.norm(np.abs(p.jac(sol.x)) @ np.abs(sol.x)))
    if sol.status == Status.RESIDUAL and np.linalg.norm(sol.fun) > bound + rounding:
        wrong.append("RESIDUAL is not true")
    return wrong


def of_systems(c: Compiled, res: Any) -> list[str]:
    wrong, p = [], c.system
    for x, fun, status, done in zip(res.x, res.fun, res.status, res.success, strict=True):
        if done != (status > 0):
            wrong.append("success")
        if status != FAILED and not np.allclose(p.F(x) - p.y, fun, 1e-12, 1e-13):
            wrong.append("fun is not F(x) - y")
        if done and np.linalg.norm(fun) > 1e-6 * (1 + np.linalg.norm(p.y)):
            wrong.append("success of a system that is not solved")
    return wrong
