"""Runs in which one call goes wrong, drawn by a seed: the system, the way it is solved, and the fault."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

SHAPES = [(2, 5), (4, 9), (3, 3), (6, 3), (1, 1), (1, 4), (4, 1)]
METHODS: list[tuple[str, dict[str, Any]]] = [
    ("auto", {}),
    ("gauss-newton", {}),
    ("gauss-newton", {"linear_solver": "qr"}),
    ("gauss-newton", {"linear_solver": "cholesky"}),
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
    ("sgd", {"step_size": "kaczmarz", "damping": 0.1}),
    ("sgd", {"step_size": "theorem"}),
    ("sgd", {"momentum": "mass"}),
    ("sgd", {"rows": "residual"}),
    ("sgd", {"step_size": "kaczmarz", "batch_size": 3}),
    ("sgd", {"rows": "shuffled", "batch_size": 2}),
]
DOORS = ["solve"] * 6 + ["least_squares", "least_squares", "root", "curve_fit", "infer", "infer", "batch"]
KINDS = ["array", "array", "sparse", "operator", "gram", "weighted", "pair", "rows", "2-point", "3-point", "none"]
DIFFERENCED = ("2-point", "3-point", "none")
PRODUCTS = ("operator", "gram", "weighted")  # kinds of J with products of their own


class Sealed(Exception):  # noqa: N818
    """An exception that takes no attribute ``best``."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "best":
            raise AttributeError(name)
        super().__setattr__(name, value)


class Departure(BaseException):
    """No Exception, as KeyboardInterrupt and the cancellation of a task are none."""


RAISED = [RuntimeError, ValueError, TypeError, KeyError, AttributeError, IndexError, NotImplementedError,
          np.linalg.LinAlgError, FloatingPointError, ZeroDivisionError, OverflowError, StopIteration, MemoryError,
          KeyboardInterrupt, SystemExit, GeneratorExit, Sealed, Departure]  # fmt: skip
VALUES = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf}
HUGE = [1e100, 1e140, 1e200, 1e300]
HARMLESS = ["none", "buffer", "writes", "list", "read-only"]
WRONG = ["raise", "raise", "raise", "signal", *VALUES, "one nan", "huge", "shape", "dtype", "late"]
FAULTS = {
    "F": [*WRONG, *HARMLESS],
    "jac": [*WRONG, *HARMLESS],
    "matvec": [*WRONG, "none", "buffer", "read-only"],
    "rmatvec": [*WRONG, "none", "buffer", "read-only"],
    "gram": [*WRONG, "none", "buffer", "read-only"],
    "callback": ["raise", "raise", "signal", "stop", "late", "writes", "none"],
    "bar": ["raise", "raise", "signal", "late"],
    "workers": ["raise", "raise", "signal", "nan", "shape", "dtype", "short", "late", "none", "list"],
    "prior": ["raise", "raise", "signal", "nan", "inf", "one nan", "shape", "dtype", "late", "none"],
    "library": ["interrupt"],
}
TOL = 1e-10


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
    where: str  # one of FAULTS
    what: str
    at: int  # which call there; of the library, which line
    error: BaseException | None


NO_FAULT = Fault("", "none", 0, None)


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
    bar: bool = False  # with a progress bar

    @property
    def differenced(self) -> bool:
        """Whether F is also called for differences."""
        return self.kind in DIFFERENCED


def case(seed: int) -> Case:
    rng = np.random.default_rng(seed)

    def one(choices: Any) -> Any:
        return choices[rng.integers(len(choices))]

    system = of_size(rng, *one(SHAPES))
    door, (method, options), kind = one(DOORS), one(METHODS), one(KINDS)
    if door != "solve":
        method, options = "gauss-newton", {}
    method, kind = of_door(door, method, kind, system, one)
    if door in ("root", "batch") or options.get("nearest"):
        system = system._replace(bounds=None)
    settings = SETTINGS[door](rng, system, method) if door in SETTINGS else {}
    if kind in PRODUCTS and isinstance(settings.get("x_scale"), str):  # which reads the entries of J
        del settings["x_scale"]
    if isinstance(settings.get("x_scale"), np.ndarray) and settings["x_scale"].ndim == 2:
        system = system._replace(bounds=None)
    bar = door in ("solve", "infer") and rng.random() < 0.1
    where = one(places(door, method, kind, settings, bar))
    return Case(seed, system, door, method, options, kind, fault(rng, where), settings, bar)


def of_door(door: str, method: str, kind: str, p: System, one: Any) -> tuple[str, str]:
    """The method and the kind of J, as far as this function has them."""
    n, m = p.A.shape
    if door == "root":
        method = one([name for name in ("gauss-newton", "hybr", "lm") if name == "gauss-newton" or n >= m])
        kind = "none" if kind in ("2-point", "3-point", "rows") else kind
    if door == "least_squares":
        dense = kind in ("array", *DIFFERENCED)
        method = one(["trf", "dogbox", "gd", "sgd"] + ["lm"] * (p.bounds is None and dense and n >= m))
    if door in ("least_squares", "curve_fit") and kind in ("pair", "none", "rows"):
        kind = "2-point"
    if door == "curve_fit":
        method = one(["trf"] if p.bounds is not None or n < m else ["trf", "lm"])
        kind = "array" if kind in ("sparse", *PRODUCTS) else kind
        kind = "2-point" if method == "lm" and kind == "3-point" else kind
    if door in ("infer", "batch") or method != "sgd":
        kind = "array" if kind == "rows" else kind
    return method, kind


def places(door: str, method: str, kind: str, settings: dict[str, Any], bar: bool) -> list[str]:
    """Where the fault may be."""
    found = ["F", "F", "library"]
    found += ["jac", "jac"] if kind in ("array", "sparse", "rows", *PRODUCTS) else []
    found += ["matvec", "rmatvec"] if kind in PRODUCTS else []
    found += ["gram"] if kind in ("gram", "weighted") else []
    found += ["callback"] if door in ("solve", "infer") or (door == "least_squares" and method != "lm") else []
    found += ["callback"] if door == "root" and method == "gauss-newton" else []
    found += ["bar"] * (3 * bar)
    found += ["workers"] if "workers" in settings else []
    found += ["prior", "prior"] if isinstance(settings.get("prior"), str) else []
    return found


def fault(rng: np.random.Generator, where: str) -> Fault:
    what = FAULTS[where][rng.integers(len(FAULTS[where]))]
    if what == "interrupt":
        return Fault(where, what, int(10 ** rng.uniform(0.5, 4.0)), KeyboardInterrupt("injected"))
    error = RAISED[rng.integers(len(RAISED))]("injected") if what == "raise" else None
    if what == "stop" or (where == "callback" and isinstance(error, StopIteration)):
        what, error = "stop", StopIteration()
    return Fault(where, what, int(min(rng.geometric(0.15), 40)), error)


def of_size(rng: np.random.Generator, n: int, m: int) -> System:
    """A system with its start; a solution is two units away, or there may be none."""
    A, c, d = rng.standard_normal((n, m)), rng.uniform(0.0, 1.3), rng.choice([0.0, 0.1])
    w0 = rng.standard_normal(m) * rng.choice([0.0, 0.1, 1.0])
    plain = System(A, c, d, w0, np.zeros(n), None)
    y = plain.F(w0 + rng.standard_normal(m)) + rng.choice([0.0, 0.0, 1.0]) * rng.standard_normal(n)
    box = w0 - rng.uniform(0.0, 2.0, m), w0 + rng.uniform(0.0, 2.0, m)
    return plain._replace(y=y, bounds=box if rng.random() < 0.3 else None)


def covariance(rng: np.random.Generator, m: int) -> Any:
    """A covariance of m unknowns."""
    B = rng.standard_normal((m, m)) / np.sqrt(m)
    return B @ B.T + 0.1 * np.eye(m)


def of_solve(rng: np.random.Generator, p: System, method: str) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "max_iter": int(rng.choice([3, 20, 60])),
        "xtol": float(rng.choice([0.0, 0.0, 0.0, 1e-6])),
        "eps": float(rng.choice([0.0, 0.0, 1e-3])),
    }
    scale = rng.random()
    if scale < 0.2:
        settings["x_scale"] = rng.uniform(0.1, 10.0, p.w0.size)
    elif scale < 0.25:
        settings["x_scale"] = "jac"
    elif scale < 0.3 and p.w0.size > 1 and method == "gauss-newton":
        settings["x_scale"] = covariance(rng, p.w0.size)
    if rng.random() < 0.3:
        settings["beta"] = float(np.linalg.norm(p.A) ** 2 * (p.c + 1.0))
    return settings


def of_least_squares(rng: np.random.Generator, p: System, method: str) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if rng.random() < 0.3:
        settings["loss"] = "linear" if method == "lm" else str(rng.choice(["soft_l1", "huber", "cauchy", "arctan"]))
    if rng.random() < 0.4:
        settings["workers"] = "map"
    if rng.random() < 0.2 and method != "lm":
        settings["jac_sparsity"] = np.ones(p.A.shape)
    return settings


def of_infer(rng: np.random.Generator, p: System, method: str) -> dict[str, Any]:
    n, m = p.A.shape
    settings: dict[str, Any] = {"max_iter": int(rng.choice([3, 60])), "noise": float(rng.choice([1e-3, 0.1, 1.0]))}
    settings["prior"] = [None, 2.0, rng.uniform(0.3, 3.0, m), covariance(rng, m), "operator", "operator"][
        rng.integers(6)
    ]
    settings["linear_solver"] = str(rng.choice(["auto", "auto", "cholesky", "qr", "cg"]))
    if rng.random() < 0.3:
        settings["noise"] = rng.uniform(0.1, 1.0, n)
    return settings


SETTINGS = {"solve": of_solve, "least_squares": of_least_squares, "infer": of_infer}
