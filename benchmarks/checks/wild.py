"""More-Wild's and Cartis-Roberts' least squares from optimagic beside scipy's three methods.

    python -m benchmarks.checks.wild [NAME ...] [--jac 3-point] [-v]

Needs optimagic (`pip install optimagic`), which is no dependency of plsolve. The problems come without Jacobians: each
method makes its own differences, 2-point ones unless told otherwise, with its default tolerances, at most 1000 calls of
F beside those for differences, and 60 seconds. Best: 1/2 ||F||^2, evaluated anew, within 1e-6 of the least that any
method has reached, or 1e-10 absolute. Evaluations are all calls of F, counted from outside.
"""

import argparse
import warnings

import numpy as np

from benchmarks.checks.cutest import METHODS, SCIPY, SpentError, System, Watched

FITS = [name for name in METHODS if name != "solve"]


def systems(names):
    from optimagic.benchmarking.cartis_roberts import CARTIS_ROBERTS_PROBLEMS
    from optimagic.benchmarking.more_wild import MORE_WILD_PROBLEMS

    for family, problems in (("More-Wild", MORE_WILD_PROBLEMS), ("Cartis-Roberts", CARTIS_ROBERTS_PROBLEMS)):
        for name, problem in problems.items():
            if name.startswith(tuple(names)):
                w0 = np.array(problem["start_x"], dtype=float)
                lower, upper = (side(problem.get("bounds"), end, w0.size) for end in ("lower", "upper"))
                yield family, System(name, "n > m", problem["fun"], None, np.clip(w0, lower, upper), lower, upper)


def side(bounds, end, m):
    """The bounds on one side; without bounds, or where their number is not that of the unknowns (qr3d), infinite."""
    given = np.atleast_1d(getattr(bounds, end, None))
    if given.size != m or given[0] is None:
        return np.full(m, -np.inf if end == "lower" else np.inf)
    return given.astype(float)


class Differenced(Watched):
    """F alone; jac says how it is to be differenced."""

    def __init__(self, system, jac):
        super().__init__(system)
        self.jac = jac


def run(method, system, jac):
    """1/2 ||F||^2 where it ended, calls of F, status; None: the method is not made for it."""
    watched = Differenced(system, jac)
    if method == "lm" and (system.bounded or len(system.F(system.w0)) < system.w0.size):
        return None
    try:
        res = METHODS[method](watched, system)
        x, status = res.x, str(res.status)
    except SpentError:
        x, status = watched.x, "time"
    except Exception as error:  # noqa: BLE001 - whatever a method raises, it has not fitted
        x, status = watched.x, type(error).__name__
    r = np.asarray(system.F(x), dtype=float)
    return 0.5 * r.dot(r), watched.calls, status


def line(name, rows, best):
    cells = []
    for row in rows:
        mark = " " if row is None else "+" if row[0] <= best else "-"
        cells.append(f"{mark:30s}" if row is None else f"{mark} {row[2]:10s} {row[1]:6d} {row[0]:10.4g}")
    return f"{name:45s}" + " | ".join(cells)


def main():
    parser = argparse.ArgumentParser(description="More-Wild and Cartis-Roberts beside scipy's methods.")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--jac", default="2-point", choices=("2-point", "3-point"))
    parser.add_argument("-v", action="store_true")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    counts, lost = {}, []
    for family, system in systems(asked.names or [""]):
        rows = [run(name, system, asked.jac) for name in FITS]
        best = min(row[0] for row in rows if row and np.isfinite(row[0]))
        best += max(1e-6 * best, 1e-10)
        good = np.array([row is not None and row[0] <= best for row in rows])
        counts.setdefault(family, []).append(good)
        if not good[0]:
            lost.append(line(system.name, rows, best))
        if asked.v:
            print(line(system.name, rows, best), flush=True)
    print(f"\n{'at the best cost':20s}{'problems':>9s}" + "".join(f"{name:>15s}" for name in FITS) + "   any of scipy")
    for family, good in counts.items():
        table = np.array(good)
        anyone = table[:, [FITS.index(name) for name in SCIPY]].any(axis=1).sum()
        print(f"{family:20s}{len(table):9d}" + "".join(f"{c:15d}" for c in table.sum(axis=0)) + f"{anyone:15d}")
    print("\nleast_squares: not at the best cost\n" + "\n".join(lost))


if __name__ == "__main__":
    main()
