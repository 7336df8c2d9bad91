"""Far starts: how many plsolve and scipy's dogbox solve within 200 and 400 Jacobians; systems without a solution.

    python -m benchmarks.checks.far_starts [--families A,B] [--seeds 100:115] [--limit 200 400] [--none] [--json FILE]
                                           [--processes 2]

The families are those of `benchmarks.far_families`, chosen by the beginning of their names; --none takes those without
a solution (seeds 0:20 unless said), with plsolve alone. Solved: ||F(w) - y|| <= 1e-9 max(||y||, ||F(w0)||); both are
stopped where that is 1e-10, or would evaluate a Jacobian more than the limit, or F for the 4001st time. Beside the
number solved of each family the median number of Jacobians of those; spent: the mean of all runs. Exit code 1 if
something is called solved that is not.
"""

import argparse
import json
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import least_squares

import plsolve
from benchmarks.far_families import FAMILIES, NONE

TOL = 1e-10
CALLS = 4000  # of F
#: Median Jacobians of the families without a solution at c22c6c4.
BEFORE = {
    "circle 1": 4,
    "circle 5": 6,
    "tanh2 5x10": 9.5,
    "tanh2 20x30": 8.5,
    "squares 6x12": 26,
    "noquad 8x16": 21,
    "noquad 20x30": 27.5,
    "expneg 5x10": 12.5,
    "repeated 8x16": 103.5,
    "repeated 20x60": 87.5,
    "conflict 20x50": 15,
    "sineout 5x15": 14,
    "reach 6": 32,
}


class Enough(Exception):  # noqa: N818 - it is not an error: solved, or the limit is reached
    pass


class Watch:
    """F - y and its Jacobian, counted; `stop` ends the solver as soon as it is at TOL or has spent its Jacobians."""

    def __init__(self, F: Any, jac: Any, w0: Any, y: Any, limit: int, stop: bool) -> None:
        self._F, self._jac, self.w0, self._y = F, jac, w0, y
        self.limit, self._stop = limit, stop
        self.nfev = self.njev = 0
        self.scale = max(np.linalg.norm(y), np.linalg.norm(F(w0)))
        self.least = np.inf

    @property
    def solved(self) -> bool:
        return bool(self.least <= 10 * TOL * self.scale)

    def residual(self, w: Any) -> Any:
        if self._stop and self.nfev >= CALLS:
            raise Enough
        self.nfev += 1
        r = self._F(w) - self._y
        self.least = min(self.least, np.linalg.norm(r))  # a NaN is not less
        if self._stop and self.least <= TOL * self.scale:
            raise Enough
        return r

    def jac(self, w: Any) -> Any:
        if self._stop and self.njev >= self.limit:
            raise Enough
        self.njev += 1
        J = self._jac(w)
        if self._stop and not np.isfinite(J).all():
            raise Enough
        return J


def ours(watch: Watch) -> str:
    sol = plsolve.solve(watch.residual, watch.jac, watch.w0, max_iter=watch.limit, compiled=False, certify=False)
    return sol.status.name


def peer(watch: Watch, method: str) -> str:
    """A method of scipy's least_squares; lm, which refuses m > n, with equations 0 = 0 beside the others."""
    settings: dict[str, Any] = {"ftol": 1e-15, "xtol": 1e-15, "gtol": 1e-15, "max_nfev": CALLS}
    rows = watch.w0.size if method == "lm" else 0
    F, jac = (lambda w, f=f: padded(f(w), rows) for f in (watch.residual, watch.jac))
    return least_squares(F, watch.w0, jac, method=method, **settings).message


def padded(f: Any, rows: int) -> Any:
    """With rows of zeros, so that there are so many at least."""
    missing = max(rows - len(f), 0)
    return np.concatenate([f, np.zeros((missing, *f.shape[1:]))]) if missing else f


METHODS: dict[str, Callable[[Watch], str]] = {
    "plsolve": ours,
    **{method: partial(peer, method=method) for method in ("dogbox", "trf", "lm")},
}
COMPARED = ("plsolve", "dogbox")


class Row(NamedTuple):
    """One run."""

    family: str
    seed: int
    method: str
    limit: int
    solved: bool
    njev: int
    nfev: int
    residual: float  # relative
    status: str  # empty: stopped from outside


def watched(watch: Watch, method: str) -> str:
    """Let a method solve; the name of its status, empty if it was stopped from outside."""
    with np.errstate(all="ignore"), warnings.catch_warnings(), suppress(Enough, np.linalg.LinAlgError):
        warnings.simplefilter("ignore")
        return METHODS[method](watch)
    return ""


def run(job: tuple[str, int, str, int]) -> Row:
    family, seed, method, limit = job
    watch = Watch(*{**FAMILIES, **NONE}[family](seed), limit, stop=family not in NONE)
    status = watched(watch, method)
    return Row(family, seed, method, limit, watch.solved, watch.njev, watch.nfev, watch.least / watch.scale, status)


def rows(jobs: list[tuple[str, int, str, int]], processes: int) -> Iterator[Row]:
    if processes == 1:
        yield from map(run, jobs)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(run, jobs)


def summary(of: list[Row]) -> str:
    """Solved of all, and the median Jacobians of these."""
    spent = [row.njev for row in of if row.solved]
    return f"{len(spent):4d}/{len(of)} {np.median(spent) if spent else 0:5.0f}"


def table(names: list[str], results: Iterator[Row], columns: list[tuple[str, int]], each: int) -> list[Row]:
    """A line a family as soon as it is done, then the totals."""
    print(f"{'':20s}" + "".join(f"{f'{method} {limit}':>16s}" for method, limit in columns))
    done: list[Row] = []
    fewer = Counter[int]()
    for name in names:
        new = [next(results) for _ in range(each)]
        done += new
        cells = {c: [row for row in new if (row.method, row.limit) == c] for c in columns}
        print(f"{name:20s}" + "".join(f"{summary(cell):>16s}" for cell in cells.values()), flush=True)
        for limit in {limit for _, limit in columns}:
            mine, theirs = (sum(row.solved for row in cells[method, limit]) for method in COMPARED)
            fewer[limit] += mine < theirs
    for method, limit in columns:
        of = [row for row in done if (row.method, row.limit) == (method, limit)]
        print(f"{method} within {limit} Jacobians: {sum(row.solved for row in of)} of {len(of)} solved, "
              f"{np.mean([row.njev for row in of]):.1f} spent a run")  # fmt: skip
    for limit, count in sorted(fewer.items()):
        print(f"families where plsolve solves fewer than dogbox, within {limit}: {count}")
    return done


def without_solution(names: list[str], results: Iterator[Row], each: int) -> list[Row]:
    done: list[Row] = []
    for name in names:
        new = [next(results) for _ in range(each)]
        done += new
        statuses = ", ".join(f"{count} {status}" for status, count in Counter(row.status for row in new).most_common())
        njev, nfev = (np.median([getattr(row, what) for row in new]) for what in ("njev", "nfev"))
        print(f"{name:20s} {njev:6.1f} Jacobians (before {BEFORE[name]:5.1f}) {nfev:6.1f} F   {statuses}", flush=True)
    print(f"{np.mean([row.njev for row in done]):.1f} Jacobians a run")
    return done


def span(text: str) -> range:
    first, _, last = text.partition(":")
    return range(int(first), int(last))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.checks.far_starts")
    parser.add_argument("--families", default="", help="beginnings of names, separated by commas")
    parser.add_argument("--seeds", type=span, metavar="FIRST:LAST")
    parser.add_argument("--limit", type=int, nargs="+", default=[200, 400])
    parser.add_argument("--none", action="store_true", help="the families without a solution")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--processes", type=int, default=1)
    a = parser.parse_args()
    names = [name for name in (NONE if a.none else FAMILIES) if name.startswith(tuple(a.families.split(",")))]
    seeds = a.seeds or (range(20) if a.none else range(100, 115))
    columns = [("plsolve", max(a.limit))] if a.none else [(method, limit) for limit in a.limit for method in COMPARED]
    each = len(seeds) * len(columns)
    results = rows([(name, seed, *column) for name in names for seed in seeds for column in columns], a.processes)
    done = without_solution(names, results, each) if a.none else table(names, results, columns, each)
    if a.json:
        a.json.write_text(json.dumps([row._asdict() for row in done], default=float))
    claimed = [row for row in done if row.method == "plsolve" and row.status and plsolve.Status[row.status] > 0]
    wrong = [row for row in claimed if a.none or not row.solved]
    for row in wrong:
        print("FAILED: called solved:", row)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
