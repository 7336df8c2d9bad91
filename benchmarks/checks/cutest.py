"""CUTEst's nonlinear equations beside scipy's three methods: what is solved, by which door, and what is lost.

    python -m benchmarks.checks.cutest RESULTS.json --systems DIR [--names HEART,PFIT] [--redo solve,least_squares]

The problems are sif2jax's: nonlinear equations of at most 3000 unknowns in three shapes, and the constraints of its
constrained problems as systems of their own, with a slack s >= 0 for every inequality. Unknowns whose bounds are equal
are constants. DIR holds F and jac of each as JAX exports them: where it does not exist yet it is made, with sif2jax
(`pip install sif2jax flatbuffers`; it takes minutes); afterwards JAX is enough. None is a dependency of plsolve.

Every method has the same exact float64 Jacobian and its own default tolerances, but 1000 calls of F (`solve`: 500
iterations), and 60 CPU seconds, after which the best point that it has seen counts. Calls are counted from outside. lm
takes no bounds and no n < m.

Solved, for n <= m, is judged by F evaluated anew, for all methods alike: r = F(x) must be small beside what it was,
||r|| <= max(1e-6 ||F(w0)||, 1e-8), and beside the terms of F where the run ended, ||r|| <= 1e-5 || |J| (|x| + |x - w0|)
||, so that neither a huge F(w0) nor a zero at infinity counts. For n > m: 1/2 ||r||^2 within 1e-6 of the best that any
method has reached (1e-10 absolute where F(w0) is of size 1). "False": `solve` says success and the equations are not
solved; `least_squares` does, and neither are they nor is the residual orthogonal to the columns of J to 1e-3.

RESULTS.json holds what was measured, one entry for a problem and a method: a second run goes on from there, --redo
makes the columns it names anew. --only SHAPE and --largest M choose among the systems as --names does (by prefix).
"""

import argparse
import functools
import json
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.optimize

import plsolve

CALLS, ITERATIONS, SECONDS = 1000, 500, 60.0
LARGEST, ENTRIES = 3000, 10_000_000  # unknowns, and numbers in J, beyond which dense factorisations take minutes


class System(NamedTuple):
    """F(w) = 0 within bounds from w0, or least squares."""

    name: str
    shape: str
    F: Callable[..., Any]
    jac: Callable[..., Any]
    w0: Any
    lower: Any
    upper: Any

    @property
    def bounded(self):
        return bool(np.isfinite(self.lower).any() or np.isfinite(self.upper).any())


class SpentError(Exception):
    """The time of a run is over."""


class Watched:
    """F and jac of a system, with counts, a deadline, and the best point seen."""

    def __init__(self, system: System, seconds: float = SECONDS) -> None:
        self.system, self.calls, self.jacobians = system, 0, 0
        self.best, self.x = np.inf, system.w0
        self.end = time.process_time() + seconds

    def F(self, w):
        self.look()
        self.calls += 1
        r = np.array(self.system.F(w))
        size = np.linalg.norm(r)
        if size < self.best:
            self.best, self.x = size, np.array(w)
        return r

    def jac(self, w):
        self.look()
        self.jacobians += 1
        return np.array(self.system.jac(w))

    def look(self):
        if time.process_time() > self.end:
            raise SpentError


def solve(watched, system):
    bounds = (system.lower, system.upper) if system.bounded else None
    return plsolve.solve(watched.F, watched.jac, system.w0, bounds=bounds, max_iter=ITERATIONS, certify=False)


def fit(least_squares, method, watched, system):
    bounds = (system.lower, system.upper) if system.bounded else (-np.inf, np.inf)
    return least_squares(watched.F, system.w0, watched.jac, bounds, method, max_nfev=CALLS)


METHODS = {
    "solve": solve,
    "least_squares": functools.partial(fit, plsolve.least_squares, "trf"),
    "trf": functools.partial(fit, scipy.optimize.least_squares, "trf"),
    "dogbox": functools.partial(fit, scipy.optimize.least_squares, "dogbox"),
    "lm": functools.partial(fit, scipy.optimize.least_squares, "lm"),
}
SCIPY = ("trf", "dogbox", "lm")


def run(name: str, system: System) -> dict[str, Any] | None:
    """One method on one system; None: it is not made for it."""
    if name == "lm" and (system.bounded or system.F(system.w0).size < system.w0.size):
        return None
    watched, start = Watched(system), time.process_time()
    try:
        res = METHODS[name](watched, system)
        x, success, status = res.x, bool(res.success), str(getattr(res.status, "name", res.status))
    except SpentError:
        x, success, status = watched.x, False, "time"
    except Exception as error:  # noqa: BLE001 - whatever a method raises, it has not solved the system
        x, success, status = watched.x, False, f"{type(error).__name__}: {error}"[:80]
    row = {"success": success, "status": status, "F": watched.calls, "J": watched.jacobians}
    return row | {"seconds": round(time.process_time() - start, 2)} | measured(system, np.asarray(x))


def measured(system: System, x: Any) -> dict[str, float]:
    """||r||, ||F(w0)||, the size of F's terms at x, and the largest cosine between r and a column of J."""
    r, J = np.asarray(system.F(x)), np.asarray(system.jac(x))
    size, columns = np.linalg.norm(r), np.linalg.norm(J, axis=0)
    g = J.T @ r
    held = ((x <= system.lower) & (g >= 0)) | ((x >= system.upper) & (g <= 0))
    cosines = np.where(held | (g == 0.0), 0.0, np.abs(g) / (columns * size))
    return {
        "size": float(size),
        "start": float(np.linalg.norm(system.F(system.w0))),
        "terms": float(np.linalg.norm(np.abs(J) @ (np.abs(x) + np.abs(x - system.w0)))),
        "slope": float(cosines.max()),
        "distance": float(np.linalg.norm(x - system.w0)),
    }


def zero(row: dict[str, Any]) -> bool:
    """Whether F(x) = 0."""
    return bool(row["size"] <= max(1e-6 * row["start"], 1e-8) and row["size"] <= 1e-5 * row["terms"])


def solved(shape: str, rows: dict[str, Any]) -> dict[str, bool]:
    """Which methods have solved the system; those that are not made for it are left out."""
    rows = {name: row for name, row in rows.items() if row}
    if shape != "n > m":
        return {name: zero(row) for name, row in rows.items()}
    least = min(row["size"] ** 2 if np.isfinite(row["size"]) else np.inf for row in rows.values())
    enough = {name: least * (1 + 1e-6) + 2e-10 * min(1.0, row["start"] ** 2) for name, row in rows.items()}
    return {name: row["size"] ** 2 <= enough[name] for name, row in rows.items()}


def false(shape: str, name: str, row: dict[str, Any]) -> bool:
    """Whether a success is none."""
    if not row["success"] or zero(row):
        return False
    return name == "solve" or bool(row["slope"] > 1e-3)


def shape_of(kind: str, n: int, m: int) -> str:
    if kind == "constraints":
        return kind
    return "n = m" if n == m else "n < m" if n < m else "n > m"


# -- the systems: made once with sif2jax, kept as JAX has compiled them


def make(folder: Path, largest: int) -> None:
    """Write every problem of sif2jax that is small enough into the folder."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import sif2jax

    folder.mkdir(parents=True, exist_ok=True)
    constrained = (*sif2jax.constrained_minimisation_problems, *sif2jax.constrained_quadratic_problems)
    for kind, problems in (("equations", sif2jax.nonlinear_equations_problems), ("constraints", constrained)):
        for problem in problems:
            for name, start in starts(problem, kind):
                try:
                    if not write(folder, kind, name, start, largest):
                        print(f"{name}: left out, too large or not finite at its start", flush=True)
                except ImportError:
                    raise
                except Exception as error:  # noqa: BLE001 - a problem that cannot be evaluated is no check
                    print(f"{name}: left out, {type(error).__name__}: {error}"[:160], flush=True)


def starts(problem: Any, kind: str) -> Iterator[tuple[str, Any]]:
    """The problem at each of its starts (NIST's have two)."""
    import dataclasses

    yield problem.name, problem
    for k in sorted(problem.provided_y0s - {problem.y0_iD}) if kind == "equations" else ():
        yield f"{problem.name}-{k}", dataclasses.replace(problem, y0_iD=k)


def write(folder: Path, kind: str, name: str, problem: Any, largest: int) -> bool:
    import jax
    import jax.numpy as jnp
    from jax import export
    from jax.flatten_util import ravel_pytree

    y0, unravel = ravel_pytree(problem.y0)
    if y0.size > 4 * largest:
        return False
    inf = np.full(y0.size, np.inf)
    lower, upper = (-inf, inf) if problem.bounds is None else (np.array(ravel_pytree(b)[0]) for b in problem.bounds)
    start = np.clip(np.array(y0, dtype=float), lower, upper)
    free = np.flatnonzero(lower < upper)
    above = np.array(ravel_pytree(problem.constraint(unravel(jnp.asarray(start)))[1])[0], dtype=float)

    def F(w):
        y = jnp.asarray(start).at[free].set(w[: free.size])
        equal, unequal = (ravel_pytree(c)[0] for c in problem.constraint(unravel(y)))
        return jnp.concatenate([equal, unequal - w[free.size :]])

    slack = np.zeros(above.size)
    w0 = np.concatenate([start[free], np.maximum(above, 0.0)])
    n, m = jax.eval_shape(F, w0).shape[0], w0.size
    if m > largest or n * m > ENTRIES or not np.isfinite(np.asarray(F(w0))).all():
        return False
    like = jax.ShapeDtypeStruct(w0.shape, np.float64)
    F_bytes, jac_bytes = (export.export(jax.jit(f))(like).serialize() for f in (F, jax.jacfwd(F)))
    np.savez_compressed(
        folder / f"{name}.npz",
        shape=shape_of(kind, n, m),
        size=[n, m],
        w0=w0,
        lower=np.concatenate([lower[free], slack]),
        upper=np.concatenate([upper[free], slack + np.inf]),
        F=np.frombuffer(F_bytes, np.uint8),
        jac=np.frombuffer(jac_bytes, np.uint8),
    )
    return True


def read(path: Path) -> System:
    import jax
    from jax import export

    jax.config.update("jax_enable_x64", True)
    with np.load(path) as data:
        F, jac = (jax.jit(export.deserialize(bytearray(data[key].tobytes())).call) for key in ("F", "jac"))
        return System(path.stem, str(data["shape"]), F, jac, data["w0"], data["lower"], data["upper"])


def chosen(folder: Path, names: list[str], only: str, largest: int) -> list[Path]:
    """The systems asked for, small ones first."""
    found = []
    for path in folder.glob("*.npz"):
        if not path.stem.startswith(tuple(names)):
            continue
        with np.load(path) as data:
            n, m = (int(k) for k in data["size"])
            if m <= largest and only in ("", str(data["shape"])):
                found.append((n * m * min(n, m), path))
    return [path for _, path in sorted(found)]


# -- the run and its tables


def fill(results: dict[str, Any], path: Path, methods: list[str]) -> dict[str, Any] | None:
    """Run what is missing of a system's methods; None if nothing is."""
    entry = results.setdefault(path.stem, {})
    missing = [name for name in methods if name not in entry.get("rows", {})]
    if not missing:
        return None
    system = read(path)
    n, m = system.F(system.w0).size, system.w0.size
    entry.update(shape=system.shape, n=n, m=m, bounded=system.bounded)
    system.jac(system.w0)  # compiled before the first clock starts
    for name in missing:
        entry.setdefault("rows", {})[name] = run(name, system)
    return entry


def line(name: str, entry: dict[str, Any]) -> str:
    rows = entry["rows"]
    good = solved(entry["shape"], rows)
    cells = []
    for method in METHODS:
        row = rows.get(method)
        if not row:
            cells.append(f"{'':30s}")
            continue
        mark = "+" if good[method] else "-"
        wrong = "!" if false(entry["shape"], method, row) else ""
        cells.append(f"{mark}{wrong} {row['status'][:10]:10s} {row['F']:4d}/{row['J']:<4d} {row['size']:8.1e}")
    head = f"{name:12s} {entry['n']:4d} x {entry['m']:<4d}{'b' if entry['bounded'] else ' '}"
    return head + " | ".join(cells)


def table(results: dict[str, Any]) -> None:
    doors = [name for name in METHODS if name not in SCIPY]
    print(f"\n{'':14s}{'systems':>8s}" + "".join(f"{name:>15s}" for name in METHODS) + f"{'any of scipy':>15s}")
    for shape in ("n = m", "n < m", "n > m", "constraints"):
        entries = [entry for entry in results.values() if entry["shape"] == shape]
        good = [solved(shape, entry["rows"]) for entry in entries]
        counts = [sum(g.get(name, False) for g in good) for name in METHODS]
        anyone = sum(any(g.get(name, False) for name in SCIPY) for g in good)
        print(f"{shape:14s}{len(entries):8d}" + "".join(f"{c:15d}" for c in counts) + f"{anyone:15d}")
    for door in doors:
        print(f"\n{door}: lost, though one of scipy's solves it")
        for name, entry in results.items():
            good = solved(entry["shape"], entry["rows"])
            if not good.get(door, True) and any(good.get(other, False) for other in SCIPY):
                print(f"{entry['shape']:12s}", line(name, entry))
    print("\nfalse successes")
    for name, entry in results.items():
        for door in doors:
            row = entry["rows"].get(door)
            if row and false(entry["shape"], door, row):
                sizes = "  ".join(f"{key} {row[key]:.1e}" for key in ("size", "start", "terms", "slope"))
                print(f"{entry['shape']:12s} {name:12s} {door:14s} {row['status']:12s} {sizes}")


def main():
    parser = argparse.ArgumentParser(description="CUTEst's nonlinear equations beside scipy's methods.")
    parser.add_argument("results", type=Path)
    parser.add_argument("--systems", type=Path, required=True)
    parser.add_argument("--names", default="")
    parser.add_argument("--only", default="")
    parser.add_argument("--largest", type=int, default=LARGEST)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--redo", default="")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    if not asked.systems.exists():
        part = asked.systems.with_suffix(".part")  # an interrupted making is not taken for all of them
        make(part, LARGEST)
        part.rename(asked.systems)
    results = json.loads(asked.results.read_text()) if asked.results.exists() else {}
    paths = chosen(asked.systems, asked.names.split(","), asked.only, asked.largest)
    for path in paths:
        for name in filter(None, asked.redo.split(",")):
            results.get(path.stem, {}).get("rows", {}).pop(name, None)
        entry = fill(results, path, asked.methods.split(","))
        if entry:
            asked.results.write_text(json.dumps(results))
            print(line(path.stem, entry), flush=True)
    table({path.stem: results[path.stem] for path in paths})


if __name__ == "__main__":
    main()
