"""Fault injection: the k-th call of F, jac or callback goes wrong, and what solve promises must hold all the same.

    python -m benchmarks.checks.faults [--runs 1e4] [--first 0] [--compiled] [-v]

One seed is one run: a method with its options, a kind of J, a shape, bounds or none, and one fault (FAULTS). What must
hold is what `broken` looks for: an exception of the user's arrives as it was raised and carries the best point of all
that F was evaluated at (those of differences aside); so does what refuses a wrong value, by name; a result stands at
the best point, with a status that is true and the numbers of calls that were made; history and callback count upwards;
nothing that was given has changed, and F is asked inside the bounds alone. A fault that is none (arrays filled again
and again, lists, single precision, writing into w) changes nothing. --compiled: the same of compiled runs, as far as
numba functions can go wrong.
"""

from __future__ import annotations

import argparse
import warnings
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from benchmarks.checks.fault_cases import HARMLESS, TOL, VALUES, Case, Fault, Outcome, Watched, case, run, widened
from plsolve import Status, solve

INTERNAL = ("Ended", "FloatingPointError", "ZeroDivisionError", "OverflowError", "LinAlgError", "infs or NaNs")


# -- what must hold ---------------------------------------------------------------------------------------------------


def broken(c: Case) -> list[str]:
    """What did not hold."""
    seen, end = run(c, c.fault)
    wrong = [*of_points(c, seen), *counting(c, seen, end)]
    if end.error is not None:
        return wrong + of_exception(c, seen, end.error)
    wrong += [*of_result(c, seen, end.result), *of_status(c, seen, end.result)]
    if c.fault.what in HARMLESS:
        wrong += of_harmless(c, seen, end)
    return wrong + of_later(c, seen, end.result)


def residuals(c: Case, seen: Watched) -> list[tuple[Any, float]]:
    """The points that F was evaluated at, and ||r|| there, inf where it is not finite."""
    y, found = c.system.y, []
    for w, f in seen.points:
        size = np.linalg.norm(f - y) if f is not None and f.shape == y.shape else np.inf
        found.append((w, float(size) if np.isfinite(size) else np.inf))
    return found


def differenced(c: Case) -> bool:
    return c.kind in ("2-point", "3-point", "none") or (c.door == "root" and c.kind != "pair" and c.fault.where == "")


def of_points(c: Case, seen: Watched) -> list[str]:
    if c.system.bounds is None or c.door == "root":
        low, high = -np.inf, np.inf
    else:
        low, high = c.system.bounds if c.door == "solve" else widened(c.system.bounds)
    inside = all(((low <= w) & (w <= high)).all() and np.isfinite(w).all() for w, _ in seen.points)
    return [] if inside else ["F outside the bounds"]


def best_of(c: Case, seen: Watched, w: Any, where: str, among_all: bool = True) -> list[str]:
    """Whether w is the best point of all; where F is asked for differences and proofs, too, no worse than w0."""
    sizes = residuals(c, seen) or [(c.system.w0, np.inf)]
    own = [size for point, size in sizes if np.array_equal(point, w)]
    if not own:
        return [f"{where} is no point that F was evaluated at"]
    least = sizes[0][1] if differenced(c) or not among_all else min(size for _, size in sizes)
    return [] if min(own) <= least * (1 + 1e-8) else [f"{where} is not the best point"]


def counting(c: Case, seen: Watched, end: Outcome) -> list[str]:
    wrong = []
    if any(later <= before for before, later in zip(seen.nits, seen.nits[1:], strict=False)):
        wrong.append("the callback's nit does not increase")
    if end.result is None:
        return wrong
    sol, calls = end.result, end.calls
    if (np.diff(end.history.nit) <= 0).any() or end.history.nit[-1] != sol.nit:
        wrong.append("history.nit")
    if seen.nits and seen.nits[-1] > sol.nit:
        wrong.append("nit is less than the callback's")
    made = sol.nfev + (0 if c.door == "root" else sol.nfev_jac)
    if made != calls["F"]:
        wrong.append(f"nfev {made} for {calls['F']} calls")
    if callable_jac(c) and sol.njev != calls.get("jac", 0):
        wrong.append(f"njev {sol.njev} for {calls.get('jac', 0)} calls")
    return wrong


def callable_jac(c: Case) -> bool:
    return c.kind in ("array", "sparse", "operator", "gram", "rows")


def of_exception(c: Case, seen: Watched, error: BaseException) -> list[str]:
    wrong, name, what = [], c.fault.where, c.fault.what
    if what == "raise":
        if error is not c.fault.error or error.__cause__ is not None or error.args != ("injected",):
            wrong.append(f"another exception: {type(error).__name__}")
    elif not seen.struck or what not in ("shape", "dtype", *VALUES, "one nan", "huge"):
        wrong.append(f"{type(error).__name__} out of nowhere")
    elif not isinstance(error, (ValueError, TypeError)) or not named(c, name, str(error)):
        wrong.append(f"{type(error).__name__} that does not name {name}: {str(error)[:60]}")
    elif what in (*VALUES, "one nan") and seen.calls[name] > 1 and not differenced(c):
        wrong.append("a value that is not finite ended a run")
    if not hasattr(error, "best"):
        return [*wrong, "no exc.best"] if seen.calls["F"] > 1 or what == "raise" else wrong
    return wrong + best_of(c, seen, error.best, "exc.best")


def named(c: Case, name: str, message: str) -> bool:
    own = {"F": ("F", "fun"), "jac": ("jac",)}[name]
    if c.fault.what == "shape" and c.fault.at == 1:  # whichever of the two is wrong
        own = ("F", "fun", "jac")
    return any(word in message for word in own) or "residuals" in message.lower()


def of_result(c: Case, seen: Watched, sol: Any) -> list[str]:
    chosen = c.door == "solve" and (sol.status == Status.DISTANCE or (sol.success and "nearest" in c.options))
    proof = "beta" in c.settings and sol.status == Status.STATIONARY  # that there is no solution near
    wrong = [] if chosen else best_of(c, seen, sol.x, "x", not proof)
    if any(name in sol.message for name in INTERNAL):
        wrong.append(f"message: {sol.message}")
    values = [f - c.system.y for w, f in seen.points if np.array_equal(w, sol.x) and f is not None]
    if not any(np.array_equal(sol.fun, r) for r in values):
        wrong.append("fun is not F(x) - y")
    if sol.success and c.fault.what == "raise" and seen.struck:
        wrong.append("the exception was lost")
    return wrong


def of_status(c: Case, seen: Watched, sol: Any) -> list[str]:
    """Whether the status is true."""
    if c.door != "solve":
        return [] if not (sol.success and c.door == "root") or near_zero(c, sol) else ["success of root"]
    size, p, status = float(np.linalg.norm(sol.fun)), c.system, sol.status
    scale = max(np.linalg.norm(p.y), np.linalg.norm(seen.points[0][1]))
    J = p.jac(sol.x)
    rounding = 1e-15 * (scale + np.linalg.norm(p.F(sol.x)) + np.linalg.norm(np.abs(J) @ np.abs(sol.x)))
    true = {
        Status.RESIDUAL: size <= 1.001 * TOL * scale + rounding,
        Status.EPSILON: 0.5 * size * size <= c.settings.get("eps", 0.0) * 1.001,
        Status.DISTANCE: c.settings.get("xtol", 0.0) > 0.0,
        Status.MAX_ITER: sol.nit == c.settings.get("max_iter"),
        Status.MAX_TIME: seen.now > 0.0,
        Status.CALLBACK: c.fault.what == "stop" and seen.struck,
        Status.STALLED: True,
        Status.STATIONARY: c.fault.what not in HARMLESS or stationary(c, sol, J),
    }
    wrong = [] if true[status] else [f"{status.name} is not true"]
    if status != Status.CALLBACK and c.fault.what == "stop" and seen.struck and not sol.success:
        wrong.append(f"{status.name} after StopIteration of the callback")
    return wrong + ([] if sol.success == (status > 0) else ["success"])


def near_zero(c: Case, sol: Any) -> bool:
    return float(np.linalg.norm(sol.fun)) <= 1e-6 * max(1.0, float(np.linalg.norm(c.system.y)))


def stationary(c: Case, sol: Any, J: Any) -> bool:
    """Whether the gradient is small, on the unknowns that may move."""
    g = J.T @ sol.fun
    if c.system.bounds is not None:
        low, high = c.system.bounds
        g = np.where(((sol.x <= low) & (g > 0)) | ((sol.x >= high) & (g < 0)), 0.0, g)
    return bool(np.linalg.norm(g) <= 1e-5 * np.linalg.norm(c.system.A) * np.linalg.norm(sol.fun))


def of_harmless(c: Case, seen: Watched, end: Outcome) -> list[str]:
    """Whether the run is the one without the fault."""
    clean_seen, clean = run(c, Fault("", "none", 0, None))
    if clean.error is not None:
        return ["a clean run failed"]
    one, other = end.result, clean.result
    same = one.x.tobytes() == other.x.tobytes() and one.status == other.status and one.nit == other.nit
    same = same and end.calls == clean.calls and len(seen.points) == len(clean_seen.points)
    return [] if same else [f"{c.fault.what} changed the run"]


def of_later(c: Case, seen: Watched, sol: Any) -> list[str]:
    """What is computed when asked for loses nothing and says what it is."""
    wrong = []
    for name in ("certificate", "jac", "grad", "optimality", "kernel"):
        try:
            getattr(sol, name)
        except BaseException as error:  # noqa: BLE001 - whatever was injected
            mine = error is c.fault.error or "There is no Jacobian at x" in str(error)
            refused = isinstance(error, (TypeError, ValueError)) and seen.struck and named(c, c.fault.where, str(error))
            if not (mine or refused):
                wrong.append(f"{name}: {type(error).__name__}: {str(error)[:60]}")
    if any(name in sol.message for name in INTERNAL if name != type(c.fault.error).__name__):
        wrong.append(f"message: {sol.message[-80:]}")
    return wrong


# -- compiled runs ----------------------------------------------------------------------------------------------------


@cache
def compiled_functions() -> tuple[Any, Any]:
    """F and jac as numba functions; state: calls of F and of jac, whose call goes wrong (1, 2), which, and how."""
    from numba import njit

    @njit
    def F(w: Any, A: Any, c: float, state: Any, rows: Any) -> Any:
        state[0] += 1
        z = A[rows] @ w
        f = z + c * np.sin(z)
        if state[2] == 1 and state[0] == state[3]:
            if state[4] == 0:
                raise RuntimeError("injected")
            f[:] = np.nan if state[4] == 1 else np.inf
        return f

    @njit
    def jac(w: Any, A: Any, c: float, state: Any, rows: Any) -> Any:
        state[1] += 1
        J = (1 + c * np.cos(A[rows] @ w)).reshape(-1, 1) * A[rows]
        if state[2] == 2 and state[1] == state[3]:
            if state[4] == 0:
                raise RuntimeError("injected")
            J[:] = np.nan if state[4] == 1 else np.inf
        return J

    return F, jac


def broken_compiled(seed: int) -> list[str]:
    """The same of a compiled run: an exception is asked for once more, so that its counts are not looked at."""
    c, rng = case(seed), np.random.default_rng(seed)
    p = c.system._replace(d=0.0)
    F, jac = compiled_functions()
    state = np.array([0, 0, 1 + rng.integers(2), 1 + rng.geometric(0.15), rng.integers(4)], dtype=np.int64)
    more = {"method": c.method, "options": c.options, "rng": 0, "tol": TOL, "max_iter": c.settings.get("max_iter", 20)}
    if c.options.get("linear_solver"):
        more["options"] = {}
    args = (p.A, p.c, state)
    try:
        sol = solve(F, jac, p.w0, p.y, args=args, bounds=p.bounds, **more)  # type: ignore[arg-type]
    except RuntimeError as error:
        return [] if state[4] == 0 and hasattr(error, "best") else [f"{type(error).__name__}: {error}"]
    except ValueError as error:
        first = state[state[2] - 1] == 1
        return [] if first and "must be finite" in str(error) else [f"{type(error).__name__}: {error}"]
    made, wrong = [int(count) for count in state[:2]], []
    if (sol.nfev, sol.njev) != tuple(made):
        wrong.append(f"compiled: nfev, njev {sol.nfev, sol.njev} for {made} calls")
    if not np.array_equal(p.F(sol.x) - p.y, sol.fun) and not np.allclose(p.F(sol.x) - p.y, sol.fun, 1e-12, 1e-13):
        wrong.append("compiled: fun is not F(x) - y")
    if (np.diff(sol.history.nit) <= 0).any() or sol.history.nit[-1] != sol.nit:
        wrong.append("compiled: history.nit")
    nearer = sol.success and c.options.get("nearest")  # the point nearest to w0 counts among solutions
    if not nearer and sol.history.loss.min() < 0.5 * float(sol.fun @ sol.fun) * (1 - 1e-9):
        wrong.append("compiled: x is not the best point of the history")
    return wrong


# -- the table --------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description="Fault injection.")
    parser.add_argument("--runs", type=float, default=1e4)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("-v", action="store_true", help="print every seed that broke something")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")  # that beta is contradicted, that the covariance is not estimated
    tried, wrong, examples = 0, Counter[str](), dict[str, list[int]]()
    check: Callable[[int], list[str]] = broken_compiled if asked.compiled else lambda seed: broken(case(seed))
    for seed in range(asked.first, asked.first + int(asked.runs)):
        tried += 1
        for what in set(check(seed)):
            wrong[what] += 1
            examples.setdefault(what, []).append(seed)
            if asked.v:
                print(seed, what, flush=True)
    for what, count in wrong.most_common():
        print(f"{count:7d}  {what}  (seeds {', '.join(map(str, examples[what][:5]))})")
    print(f"| fault injection{', compiled' if asked.compiled else ''} | {tried} runs | {sum(wrong.values())} broken |")


if __name__ == "__main__":
    main()
