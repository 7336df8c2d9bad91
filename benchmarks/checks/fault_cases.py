"""Runs in which one call goes wrong, drawn by a seed, and what is seen of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sps
from scipy.sparse.linalg import LinearOperator

from plsolve import least_squares, root, solve

SHAPES = [(2, 5), (4, 9), (3, 3), (6, 3), (1, 1), (1, 4)]
METHODS: list[tuple[str, dict[str, Any]]] = [
    ("auto", {}),
    ("gauss-newton", {}),
    ("gauss-newton", {"linear_solver": "qr"}),
    ("gauss-newton", {"linear_solver": "cg"}),
    ("gauss-newton", {"nearest": True}),
    ("gd", {}),
    ("gd", {"step_size": "polyak"}),
    ("gd", {"step_size": "cauchy"}),
    ("gd", {"step_size": 0.1}),
    ("gd", {"momentum": "heavy-ball"}),
    ("gd", {"momentum": "nesterov"}),
    ("gd", {"momentum": "chebyshev"}),
    ("sgd", {}),
    ("sgd", {"step_size": "kaczmarz", "batch_size": 1}),
    ("sgd", {"step_size": "theorem"}),
    ("sgd", {"momentum": "mass"}),
    ("sgd", {"rows": "residual"}),
    ("sgd", {"step_size": "kaczmarz", "batch_size": 3}),
    ("sgd", {"rows": "shuffled", "batch_size": 2}),
]
DOORS = ["solve", "solve", "solve", "solve", "least_squares", "root"]
KINDS = ["array", "array", "sparse", "operator", "gram", "pair", "rows", "2-point", "3-point", "none"]
RAISED = [RuntimeError, ValueError, TypeError, np.linalg.LinAlgError, FloatingPointError, StopIteration, MemoryError,
          KeyboardInterrupt, SystemExit]  # fmt: skip
VALUES = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf}
HUGE = [1e100, 1e140, 1e200, 1e300]
HARMLESS = ["none", "buffer", "writes", "list", "read-only"]
FAULTS = {
    "F": ["raise", "raise", "nan", "inf", "-inf", "one nan", "huge", "shape", "dtype", "late", *HARMLESS],
    "jac": ["raise", "raise", "nan", "inf", "-inf", "one nan", "huge", "shape", "dtype", "late", *HARMLESS],
    "callback": ["raise", "raise", "stop", "late", "none"],
}
TOL = 1e-10


class Operator(LinearOperator):
    """J by its products."""

    def __init__(self, J: Any) -> None:
        self.J = J
        super().__init__(float, J.shape)

    def _matvec(self, v: Any) -> Any:
        return self.J @ v

    def _rmatvec(self, z: Any) -> Any:
        return self.J.T @ z


class Gram(Operator):
    """The same with its kernel."""

    def gram(self) -> Any:
        return self.J @ self.J.T


class System(NamedTuple):
    """F(w) = z + c sin z + d z^3, z = A w; y may be out of reach."""

    A: Any
    c: float
    d: float
    w0: Any
    y: Any
    bounds: Any

    def F(self, w: Any) -> Any:
        z = self.A @ w
        return z + self.c * np.sin(z) + self.d * z**3

    def jac(self, w: Any) -> Any:
        z = self.A @ w
        return (1 + self.c * np.cos(z) + 3 * self.d * z**2)[:, None] * self.A


class Fault(NamedTuple):
    where: str  # F, jac or callback
    what: str
    at: int  # which call of it
    error: BaseException | None


class Case(NamedTuple):
    """One run, from its seed."""

    seed: int
    system: System
    door: str
    method: str
    options: dict[str, Any]
    kind: str
    fault: Fault
    settings: dict[str, Any]


def case(seed: int) -> Case:
    rng = np.random.default_rng(seed)

    def one(choices: Any) -> Any:
        return choices[rng.integers(len(choices))]

    system = of_size(rng, *one(SHAPES))
    door, (method, options), kind = one(DOORS), one(METHODS), one(KINDS)
    if door != "solve":
        method, options = "gauss-newton", {}
        kind = kind if door == "root" or kind not in ("pair", "none") else "array"
    if method != "sgd" and kind == "rows":
        kind = "array"
    if door == "root" or options.get("nearest"):
        system = system._replace(bounds=None)
    where = one(["F", "F", "jac", "jac", "callback"])
    if where == "jac" and kind in ("2-point", "3-point", "none", "pair"):
        where = "F"
    what, at = one(FAULTS[where]), int(min(rng.geometric(0.15), 40))
    error = one(RAISED)("injected") if what == "raise" else StopIteration() if what == "stop" else None
    if where == "callback" and isinstance(error, StopIteration):
        what = "stop"
    settings = settings_of(rng, system) if door == "solve" else {}
    return Case(seed, system, door, method, options, kind, Fault(where, what, at, error), settings)


def of_size(rng: np.random.Generator, n: int, m: int) -> System:
    """A system with its start; a solution is two units away, or there may be none."""
    A, c, d = rng.standard_normal((n, m)), rng.uniform(0.0, 1.3), rng.choice([0.0, 0.1])
    w0 = rng.standard_normal(m) * rng.choice([0.0, 0.1, 1.0])
    plain = System(A, c, d, w0, np.zeros(n), None)
    y = plain.F(w0 + rng.standard_normal(m)) + rng.choice([0.0, 0.0, 1.0]) * rng.standard_normal(n)
    box = w0 - rng.uniform(0.0, 2.0, m), w0 + rng.uniform(0.0, 2.0, m)
    return plain._replace(y=y, bounds=box if rng.random() < 0.3 else None)


def settings_of(rng: np.random.Generator, p: System) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "max_iter": int(rng.choice([3, 20, 60])),
        "xtol": float(rng.choice([0.0, 0.0, 0.0, 1e-6])),
        "eps": float(rng.choice([0.0, 0.0, 1e-3])),
    }
    if rng.random() < 0.2:
        settings["x_scale"] = rng.uniform(0.1, 10.0, p.w0.size)
    if rng.random() < 0.3:
        settings["beta"] = float(np.linalg.norm(p.A) ** 2 * (p.c + 1.0))
    return settings


@dataclass
class Watched:
    """The user's functions, with the fault, and what was seen of them."""

    case: Case
    fault: Fault
    points: list[tuple[Any, Any]] = field(default_factory=list)  # of F: w and what was returned
    calls: Counter[str] = field(default_factory=Counter)
    nits: list[int] = field(default_factory=list)
    now: float = 0.0
    struck: bool = False
    buffers: dict[str, Any] = field(default_factory=dict)

    def F(self, w: Any, rows: Any = None) -> Any:
        point = np.array(w)
        self.calls["F"] += 1
        if rows is not None:
            return self.returned("F", w, self.case.system.F(point)[rows])
        pair = self.case.kind == "pair"
        f = self.returned("F", w, self.case.system.F(point))
        J = self.kept("J", self.case.system.jac(point)) if pair else None
        real = np.asarray(f).dtype.kind == "f"
        self.points.append((point, np.array(f) if real else None))
        return (f, J) if pair else f

    def jac(self, w: Any, rows: Any = None) -> Any:
        self.calls["jac"] += 1
        J = self.case.system.jac(np.array(w))
        J = self.returned("jac", w, J if rows is None else J[rows])
        if not isinstance(J, np.ndarray) or J.ndim != 2 or J.dtype != float:
            return J
        return {"sparse": sps.csr_array, "operator": Operator, "gram": Gram}.get(self.case.kind, np.asarray)(J)

    def callback(self, intermediate_result: Any) -> None:
        self.calls["callback"] += 1
        self.nits.append(intermediate_result.nit)
        self.returned("callback", None, np.zeros(1))

    def strikes(self, where: str) -> bool:
        strikes = self.fault.where == where and self.calls[where] == self.fault.at
        self.struck |= strikes
        return strikes

    def returned(self, where: str, w: Any, value: Any) -> Any:
        """The value, or what the fault makes of it."""
        if self.fault.where == where and self.fault.what in HARMLESS:
            return self.harmless(where, w, value)
        if not self.strikes(where):
            return value
        what = self.fault.what
        if self.fault.error is not None:
            raise self.fault.error
        if what == "late":
            self.now = 1e6
        if what in VALUES:
            return np.full_like(value, VALUES[what])
        if what == "one nan":
            value.flat[-1] = np.nan
        if what == "huge":
            return np.full_like(value, HUGE[self.case.seed % len(HUGE)])
        if what == "shape":
            return np.concatenate([value, value])
        if what == "dtype":
            return value.astype(complex) if self.case.seed % 2 else np.full(value.shape, None)
        return value

    def harmless(self, where: str, w: Any, value: Any) -> Any:
        what = self.fault.what
        self.struck = True
        if what == "buffer":
            return self.kept(where, value)
        if what == "writes" and w.flags.writeable:
            w[...] = np.nan
        if what == "list":
            return value.tolist() if where == "F" or self.case.kind == "array" else value
        if what == "read-only":
            value.flags.writeable = False
        return value

    def kept(self, name: str, value: Any) -> Any:
        """The value, with the fault 'buffer' in an array that is filled again and again."""
        if self.fault.what != "buffer":
            return value
        buffer = self.buffers.setdefault(f"{name} {value.shape}", np.empty_like(value))
        buffer[...] = value
        return buffer


@contextmanager
def clock(watched: Watched) -> Iterator[None]:
    """Time stands still but where the fault says otherwise."""
    real, time.monotonic = time.monotonic, lambda: watched.now
    try:
        yield
    finally:
        time.monotonic = real


class Outcome(NamedTuple):
    result: Any
    error: BaseException | None
    calls: dict[str, int]
    history: Any


def run(c: Case, fault: Fault) -> tuple[Watched, Outcome]:
    """One run through its door, and what was seen of it."""
    p, seen = c.system, Watched(c, fault)
    jac: Any = {"pair": True, "2-point": "2-point", "3-point": "3-point", "none": None}.get(c.kind, seen.jac)
    given = [p.w0, p.y, *(p.bounds or ()), *[v for v in c.settings.values() if isinstance(v, np.ndarray)]]
    before = [value.tobytes() for value in given]
    result, error = None, None
    try:
        with clock(seen):
            result = enter(c, seen, jac)
    except BaseException as raised:  # noqa: BLE001 - whatever was injected
        error = raised
    assert before == [value.tobytes() for value in given], "what was given has changed"
    return seen, Outcome(result, error, dict(seen.calls), None if result is None else result.history)


def enter(c: Case, seen: Watched, jac: Any) -> Any:
    p = c.system
    if c.door == "solve":
        more = {"method": c.method, "options": c.options, "rng": 0, "max_time": 1e3, "tol": TOL, "compiled": False}
        F = seen.F
        if c.kind != "rows":
            F, jac = (lambda w: seen.F(w)), (lambda w: seen.jac(w)) if callable(jac) else jac
        return solve(F, jac, p.w0, p.y, bounds=p.bounds, callback=seen.callback, **more, **c.settings)
    if c.door == "root":
        return root(lambda w: shifted(seen.F(w), p.y), p.w0, jac=jac if jac is True or callable(jac) else None,
                    method="gauss-newton", callback=seen.callback)  # fmt: skip
    bounds = (-np.inf, np.inf) if p.bounds is None else widened(p.bounds)
    return least_squares(lambda w: shifted(seen.F(w), p.y), p.w0, jac, bounds, callback=seen.callback, max_nfev=200)


def shifted(f: Any, y: Any) -> Any:
    """F - y, where F is what it should be."""
    if isinstance(f, tuple):
        return shifted(f[0], y), f[1]
    fit = np.shape(f) == y.shape and np.asarray(f).dtype.kind == "f"
    return np.subtract(f, y) if fit else f


def widened(bounds: Any) -> Any:
    """Bounds that differ, as scipy asks for."""
    lower, upper = bounds
    return lower - 1e-3, upper + 1e-3
