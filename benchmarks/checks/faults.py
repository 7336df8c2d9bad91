"""Fault injection: one call of the user's goes wrong, and what the library promises must hold all the same.

    python -m benchmarks.checks.faults [--runs 1e5] [--first 0] [--counts FILE] [--write]

One seed is one run: a function of the library with its method and options, a kind of J, a shape, bounds or none, and
one fault (`fault_cases`). What must hold is what `broken` looks for: an exception of the user's arrives as it was
raised and carries the best point of all that F was evaluated at (those of differences aside); so does what refuses a
wrong value, by name; a result stands at the best point, with a status that is true and the numbers of calls that were
made; history and callback count upwards; nothing that was given has changed, and F is called inside the bounds alone. A
fault that is none (arrays filled again and again, lists, read-only arrays, writing into w) changes nothing. Every
third run is compiled, as far as numba functions can go wrong (`fault_compiled`). Runs are made in processes
of their own, five thousand in each, so that one that hangs or dies is seen. --write puts the table into docs/checks.md.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import Value, get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import marks
from benchmarks.checks.fault_cases import HARMLESS, NO_FAULT, PRODUCTS, TOL, VALUES, Case, Sealed, case
from benchmarks.checks.fault_runs import BATCH, Outcome, Watched, known_prior, run, widened
from plsolve import Status
from plsolve._losses import LOSSES

INTERNAL = ("Ended", "FloatingPointError", "ZeroDivisionError", "OverflowError", "LinAlgError", "infs or NaNs")
OF_J = ("matvec", "rmatvec", "gram")  # whose huge values are finite, and make the rounding level of F huge
LATE = 2  # points whose evaluation may not have been noted when Ctrl-C came
OWN = {  # the names by which a refusal may call the place of the fault
    "F": ("F", "fun", "f", "Residuals"),
    "jac": ("jac",),
    "matvec": ("jac", "matvec"),
    "rmatvec": ("jac", "rmatvec"),
    "gram": ("jac", "gram"),
    "workers": ("workers", "fun"),
    "prior": ("prior",),
}


# -- what must hold ---------------------------------------------------------------------------------------------------


def broken(c: Case) -> list[str]:
    """What did not hold."""
    seen, end = run(c, c.fault)
    wrong = [f"changed: {what}" for what in end.changed] + of_points(c, seen)
    if c.door == "batch":
        return wrong + of_batch(c, seen, end)
    wrong += counting(c, seen, end)
    if end.error is not None:
        return wrong + of_exception(c, seen, end.error)
    wrong += [*of_result(c, seen, end.result), *of_status(c, seen, end.result)]
    if c.fault.what in HARMLESS and not (c.door == "least_squares" and c.method == "sgd"):  # which has no seed
        wrong += of_harmless(c, seen, end)
    return wrong + (of_later(c, seen, end.result) if end.history is not None else [])


def measured(c: Case, w: Any, f: Any) -> float:
    """What the run makes small: ||r||, the cost of a robust loss, or phi of `infer`; inf where it is not finite."""
    y = c.system.y
    if f is None or f.shape != y.shape:
        return np.inf
    with np.errstate(all="ignore"):
        if c.door == "infer":
            p = w - c.system.w0
            size = np.sum(((f - y) / c.settings["noise"]) ** 2) + p @ np.linalg.solve(known_prior(c), p)
        elif c.settings.get("loss", "linear") != "linear":
            size = np.sum(LOSSES[c.settings["loss"]]((f - y) ** 2)[0])
        else:
            size = np.linalg.norm(f - y)
    return float(size) if np.isfinite(size) else np.inf


def differenced(c: Case) -> bool:
    """Whether F is also called where it is not a point of the run."""
    return c.differenced or (c.door == "root" and c.kind != "pair" and c.fault.where == "")


def of_points(c: Case, seen: Watched) -> list[str]:
    if c.system.bounds is None or c.door in ("root", "batch"):
        low, high = -np.inf, np.inf
    else:
        low, high = c.system.bounds if c.door in ("solve", "infer") else widened(c.system)
    inside = all(((low <= w) & (w <= high)).all() and np.isfinite(w).all() for w, _ in seen.points)
    return [] if inside else ["F outside the bounds"]


def best_of(c: Case, seen: Watched, w: Any, where: str, among_all: bool = True) -> list[str]:
    """Whether w is the best point of all; where F is called for differences and proofs, too, no worse than w0."""
    sizes = [(point, measured(c, point, f)) for point, f in seen.points] or [(c.system.w0, np.inf)]
    own = [size for point, size in sizes if np.array_equal(point, w)]
    if c.fault.where == "library":
        sizes, own = sizes[: max(1, len(sizes) - LATE)], own or [np.inf] * np.array_equal(c.system.w0, w)
    if not own:
        return [f"{where} is no point that F was evaluated at"]
    least = sizes[0][1] if differenced(c) or not among_all else min(size for _, size in sizes)
    return [] if min(own) <= least * (1 + 1e-8) + (c.door == "infer") * 1e-8 else [f"{where} is not the best point"]


def counting(c: Case, seen: Watched, end: Outcome) -> list[str]:
    wrong = []
    if any(later <= before for before, later in zip(seen.nits, seen.nits[1:], strict=False)):
        wrong.append("the callback's nit does not increase")
    if end.result is None:
        return wrong
    sol, calls = end.result, end.calls
    if c.door == "curve_fit":
        exact = c.method == "lm" or not c.differenced
        return wrong + ([f"nfev {sol.nfev} for {calls['F']} calls"] if exact and sol.nfev != calls["F"] else [])
    if (np.diff(end.history.nit) <= 0).any() or end.history.nit[-1] != sol.nit:
        wrong.append("history.nit")
    if seen.nits and seen.nits[-1] > sol.nit:
        wrong.append("nit is less than the callback's")
    made = sol.nfev + (0 if c.door == "root" else sol.nfev_jac)
    if made != calls["F"]:
        wrong.append(f"nfev {made} for {calls['F']} calls")
    if c.kind in ("array", "sparse", "rows", *PRODUCTS) and sol.njev != calls.get("jac", 0):
        wrong.append(f"njev {sol.njev} for {calls.get('jac', 0)} calls")
    return wrong


def of_exception(c: Case, seen: Watched, error: BaseException) -> list[str]:
    what = c.fault.what
    if what not in ("raise", "interrupt", "signal") and c.door == "curve_fit" and type(error) is RuntimeError:
        return [] if str(error).startswith("Optimal parameters not found") else [f"RuntimeError: {str(error)[:60]}"]
    if what in ("raise", "interrupt", "signal"):
        own = type(error) is KeyboardInterrupt if what == "signal" else error is c.fault.error
        wrong = [] if own else [f"another exception: {type(error).__name__}: {str(error)[:60]}"]
    else:
        wrong = of_refusal(c, seen, error)
    if not hasattr(error, "best"):
        expected = c.fault.where != "library" and not isinstance(error, Sealed)
        return wrong + ["no exc.best"] * (expected and (seen.calls["F"] > 1 or what == "raise"))
    return wrong + best_of(c, seen, error.best, "exc.best")


def of_refusal(c: Case, seen: Watched, error: BaseException) -> list[str]:
    """Whether a wrong value was refused by name, and only where a run cannot go on without it."""
    wrong, name, what = [], c.fault.where, c.fault.what
    if not seen.struck or what not in ("shape", "dtype", *VALUES, "one nan", "huge", "short"):
        wrong.append(f"{type(error).__name__} out of nowhere: {str(error)[:60]}")
    elif not isinstance(error, (ValueError, TypeError)) or not named(c, name, str(error)):
        wrong.append(f"{type(error).__name__} that does not name {name}: {str(error)[:60]}")
    elif what in (*VALUES, "one nan", "huge") and seen.calls[name] > 1 and not differenced(c) and name in ("F", "jac"):
        wrong.append("a value that is not finite ended a run")
    return wrong


def named(c: Case, name: str, message: str) -> bool:
    own = OWN[name]
    if c.fault.what == "shape" and c.fault.at == 1:  # whichever of the two is wrong
        own = (*OWN["F"], "jac")
    return any(word in message for word in own) or "residuals" in message.lower()


def of_result(c: Case, seen: Watched, sol: Any) -> list[str]:
    nearest = "nearest" in c.options or (c.door == "curve_fit" and c.system.y.size < c.system.w0.size)
    chosen = c.door in ("solve", "curve_fit") and (sol.get("status") == Status.DISTANCE or (sol.success and nearest))
    proof = "beta" in c.settings and sol.status == Status.STATIONARY  # that there is no solution near
    wrong = [] if chosen else best_of(c, seen, sol.x, "x", not proof)
    if any(name in sol.message for name in INTERNAL):
        wrong.append(f"message: {sol.message}")
    values = [f - c.system.y for w, f in seen.points if np.array_equal(w, sol.x) and f is not None]
    if not any(np.array_equal(sol.fun, r) for r in values):
        wrong.append("fun is not F(x) - y")
    if seen.struck and (c.fault.what in ("signal", "interrupt") or (c.fault.what == "raise" and sol.success)):
        wrong.append("the exception was lost")
    return wrong


def of_status(c: Case, seen: Watched, sol: Any) -> list[str]:
    """Whether the status is true."""
    if c.door == "root":
        return [] if not sol.success or near_zero(c, sol) else ["success of root"]
    if c.door == "infer":
        return of_inference(c, seen, sol)
    if c.door != "solve":
        return []
    size, p, status = float(np.linalg.norm(sol.fun)), c.system, sol.status
    scale = max(np.linalg.norm(p.y), np.linalg.norm(seen.points[0][1]))
    J = p.jac(sol.x)
    rounding = 1e-15 * (scale + np.linalg.norm(p.F(sol.x)) + np.linalg.norm(np.abs(J) @ np.abs(sol.x)))
    true = {
        Status.RESIDUAL: size <= 1.001 * TOL * scale + rounding or (c.fault.what == "huge" and c.fault.where in OF_J),
        Status.EPSILON: 0.5 * size * size <= c.settings.get("eps", 0.0) * 1.001,
        Status.DISTANCE: c.settings.get("xtol", 0.0) > 0.0,
        Status.MAX_ITER: sol.nit == c.settings.get("max_iter"),
        Status.MAX_TIME: seen.now >= 1e3,
        Status.CALLBACK: c.fault.what == "stop" and seen.struck,
        Status.STALLED: True,
        Status.STATIONARY: c.fault.what not in HARMLESS or stationary(c, sol, J),
    }
    wrong = [] if true[status] else [f"{status.name} is not true"]
    if status != Status.CALLBACK and c.fault.what == "stop" and seen.struck and not sol.success:
        wrong.append(f"{status.name} after StopIteration of the callback")
    return wrong + ([] if sol.success == (status > 0) else ["success"])


def of_inference(c: Case, seen: Watched, sol: Any) -> list[str]:
    """Whether the status of a fit is true: at the most probable point the gradient of phi vanishes."""
    true = {
        Status.MAX_ITER: sol.nit == c.settings["max_iter"],
        Status.MAX_TIME: seen.now >= 1e3,
        Status.CALLBACK: c.fault.what == "stop" and seen.struck,
        Status.STALLED: True,
        Status.CONVERGED: c.fault.what not in HARMLESS or most_probable(c, sol),
    }
    wrong = [] if true.get(sol.status) else [f"{sol.status.name} is not true"]
    cost = 0.5 * measured(c, sol.x, sol.fun + c.system.y)
    if cost < np.inf and not abs(sol.cost - cost) <= 1e-6 * cost + 1e-8:
        wrong.append("cost is not that of x")
    return wrong


def most_probable(c: Case, sol: Any) -> bool:
    """Whether the gradient of phi is small in standard deviations of the posterior, on unknowns that may move."""
    A = c.system.jac(sol.x) / np.broadcast_to(c.settings["noise"], c.system.y.shape)[:, None]
    P = np.linalg.inv(known_prior(c))
    g = A.T @ (sol.fun / c.settings["noise"]) + P @ (sol.x - c.system.w0)
    free = np.ones(g.size, bool)
    if c.system.bounds is not None:
        low, high = c.system.bounds
        free = ~(((sol.x <= low) & (g > 0)) | ((sol.x >= high) & (g < 0)))
    if not free.any():
        return True
    H = (A.T @ A + P)[np.ix_(free, free)]
    return bool(np.sqrt(abs(g[free] @ np.linalg.solve(H, g[free]))) <= 1e-2)


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
    clean_seen, clean = run(c, NO_FAULT)
    if clean.error is not None:
        return ["a clean run failed"]
    one, other = end.result, clean.result
    same = one.x.tobytes() == other.x.tobytes() and one.get("status") == other.get("status")
    same = same and one.get("nit") == other.get("nit")
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
            mine |= c.fault.what == "signal" and type(error) is KeyboardInterrupt
            refused = isinstance(error, (TypeError, ValueError)) and seen.struck and named(c, c.fault.where, str(error))
            if not (mine or refused):
                wrong.append(f"{name}: {type(error).__name__}: {str(error)[:60]}")
    if any(name in sol.message for name in INTERNAL):
        wrong.append(f"message: {sol.message[-80:]}")
    return wrong


def of_batch(c: Case, seen: Watched, end: Outcome) -> list[str]:
    """A system that fails does not stop the others; what is no Exception does, and carries the best points of all."""
    fault, error = c.fault, end.error
    W0 = c.system.w0 + np.arange(float(BATCH))[:, None]
    if error is None:
        res, wrong = end.result, []
        if seen.struck and (
            fault.what in ("signal", "interrupt") or not isinstance(fault.error or Exception(), Exception)
        ):
            wrong.append("the exception was lost")
        for x, fun, done in zip(res.x, res.fun, res.success, strict=True):
            right = np.linalg.norm(c.system.F(x) - c.system.y) <= 1e-6 * (1 + np.linalg.norm(c.system.y))
            if done and not (right or fault.what == "huge"):
                wrong.append("success of a system that is not solved")
            if done and not np.array_equal(fun, c.system.F(x) - c.system.y):
                wrong.append("fun is not F(x) - y")
        if fault.what in HARMLESS and any(
            a.tobytes() != b.tobytes() for a, b in zip(res, run(c, NO_FAULT)[1].result, strict=True)
        ):
            wrong.append(f"{fault.what} changed the run")
        return wrong
    if fault.what == "interrupt" or fault.what == "signal":
        wrong = [] if type(error) is KeyboardInterrupt else [f"another exception: {type(error).__name__}"]
    else:
        wrong = [] if error is fault.error else [f"{type(error).__name__} out of nowhere: {str(error)[:60]}"]
        wrong += ["an Exception stopped the others"] if isinstance(error, Exception) else []
    if (
        fault.where == "library"
        or isinstance(error, Sealed)
        or (hasattr(error, "best") and error.best.shape == W0.shape)
    ):
        return wrong
    return [*wrong, "no exc.best"]


# -- the table --------------------------------------------------------------------------------------------------------


CHUNK = 5000  # seeds in one process
PATIENCE = 300  # seconds after which one run is taken to hang
PAGE = Path(__file__).parents[2] / "docs" / "checks.md"
WHAT = {
    "an exception": ("raise",),
    "Ctrl-C": ("signal", "interrupt"),
    "NaN or inf": (*VALUES, "one nan"),
    "1e100 to 1e300": ("huge",),
    "another shape, too few": ("shape", "short"),
    "complex or None": ("dtype",),
    "the deadline passes": ("late",),
    "StopIteration": ("stop",),
    "the same buffer, lists, read-only, writes into w": ("buffer", "list", "read-only", "writes"),
    "nothing": ("none",),
}
WHERE = {
    "F": ("F",),
    "jac": ("jac",),
    "products of J": ("matvec", "rmatvec", "gram"),
    "callback": ("callback",),
    "bar": ("bar",),
    "map of `workers`": ("workers",),
    "prior": ("prior",),
    "any line": ("library",),
    "compiled": ("compiled",),
}

Row = tuple[int, str, str, list[str]]


def judged(seed: int) -> Row:
    """The seed, where its fault is, which, and what did not hold."""
    if seed % 3 == 2:
        from benchmarks.checks import fault_compiled

        return seed, "compiled", fault_compiled.compiled_case(seed).what, fault_compiled.broken_compiled(seed)
    c = case(seed)
    return seed, c.fault.where, c.fault.what, broken(c)


AT = Value("q")  # the seed of the run under way


def some(first: int, count: int) -> list[Row]:
    """The runs of these seeds, in a process of their own."""
    warnings.simplefilter("ignore")  # that beta is contradicted, that the covariance is not estimated
    rows = []
    for seed in range(first, first + count):
        AT.value = seed
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
        try:
            rows.append(judged(seed))
        except Exception as error:  # noqa: BLE001 - the other seeds count all the same
            rows.append((seed, "", "", [f"the check fails: {type(error).__name__}: {error}"]))
    faulthandler.cancel_dump_traceback_later()
    return rows


def chunks(first: int, runs: int) -> Iterator[list[Row]]:
    """All runs; where a process hangs or dies, it is the fault of the run under way."""
    for seed in range(2, 200, 3):  # what is compiled here, the processes inherit
        judged(seed)
    start, end = first, first + runs
    while start < end:
        count = min(CHUNK, end - start)
        try:
            yield alone(start, count)
        except BrokenProcessPool:
            guilty = AT.value
            count = guilty - start + 1
            yield [*alone(start, count - 1), (guilty, "", "", ["the process hangs or dies"])]
        start += count


def alone(first: int, count: int) -> list[Row]:
    with ProcessPoolExecutor(1, get_context("fork")) as pool:
        return pool.submit(some, first, count).result()


class Tally:
    """The numbers of runs by fault and by place, and of those that broke something; kept in a file, if one is given."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        kept = json.loads(path.read_text()) if path is not None and path.exists() else {}
        self.runs, self.broken = Counter[str](kept.get("runs", {})), Counter[str](kept.get("broken", {}))

    def add(self, rows: list[Row]) -> None:
        for _, where, what, found in rows:
            place = next((name for name, those in WHERE.items() if where in those), "")
            kind = next((name for name, those in WHAT.items() if what in those), "")
            self.runs[f"{kind}|{place}"] += 1
            self.broken[kind] += bool(found)
        if self.path is not None:
            self.path.write_text(json.dumps({"runs": self.runs, "broken": self.broken}))

    def table(self) -> str:
        kinds = [kind for kind in (*WHAT, "") if any(self.runs[f"{kind}|{place}"] for place in (*WHERE, ""))]
        lines = [["fault", *WHERE, "all", "broken"], ["---"] * (len(WHERE) + 3)]
        for kind in kinds:
            cells = [self.runs[f"{kind}|{place}"] for place in WHERE]
            lines.append([kind, *map(spaced, cells), spaced(sum(cells)), str(self.broken[kind])])
        all_of = [spaced(sum(self.runs[f"{kind}|{place}"] for kind in kinds)) for place in WHERE]
        lines.append(["all", *all_of, spaced(self.runs.total()), str(self.broken.total())])
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def spaced(count: int) -> str:
    """The number, with spaces between groups of three digits; empty for 0."""
    return f"{count:_}".replace("_", " ") if count else ""


def main() -> int:
    parser = argparse.ArgumentParser(description="Fault injection.")
    parser.add_argument("--runs", type=float, default=1e4)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--counts", type=Path, help="a file to whose counts those of these runs are added")
    parser.add_argument("--write", action="store_true", help="write the table into docs/checks.md")
    asked = parser.parse_args()
    tally, broken = Tally(asked.counts), False
    for rows in chunks(asked.first, int(asked.runs)):
        tally.add(rows)
        for seed, _, _, found in rows:
            broken |= bool(found)
            for what in set(found):
                print(f"{seed}: {what}", flush=True)
    print(tally.table())
    if asked.write:
        marks.write(PAGE, "faults", tally.table())
    return broken


if __name__ == "__main__":
    sys.exit(main())
