"""Runs of `fault_cases`: the user's functions with the fault in them, and what is seen of a run."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import scipy.sparse as sps
from scipy.optimize import OptimizeResult
from scipy.sparse.linalg import LinearOperator

import plsolve
from benchmarks.checks.fault_cases import HARMLESS, HUGE, TOL, VALUES, Case, Fault, System, covariance
from plsolve import curve_fit, infer, least_squares, root, solve, solve_batch

PACKAGE = str(Path(plsolve.__file__).parent)
BATCH = 3  # systems


class Operator(LinearOperator):
    """J by its products; ``seen`` may make one of them go wrong."""

    def __init__(self, J: Any, seen: Watched | None = None) -> None:
        self.J, self.seen = J, seen
        super().__init__(float, J.shape)

    def _product(self, name: str, value: Any) -> Any:
        return value if self.seen is None else self.seen.product(name, value)

    def _matvec(self, v: Any) -> Any:
        return self._product("matvec", self.J @ v.ravel())

    def _rmatvec(self, z: Any) -> Any:
        return self._product("rmatvec", self.J.T @ z.ravel())


class Gram(Operator):
    """The same with its kernel."""

    def gram(self) -> Any:
        return self._product("gram", self.J @ self.J.T)


class Weighted(Operator):
    """The same with weights of the unknowns."""

    def gram(self, d2: Any = None) -> Any:
        return self._product("gram", (self.J if d2 is None else self.J * d2) @ self.J.T)


class Prior(LinearOperator):
    """A covariance by its products."""

    def __init__(self, C: Any, seen: Watched) -> None:
        self.C, self.seen = C, seen
        super().__init__(float, C.shape)

    def _matvec(self, v: Any) -> Any:
        return self.seen.product("prior", self.C @ v.ravel())


KINDS = {"sparse": sps.csr_array, "operator": Operator, "gram": Gram, "weighted": Weighted}


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
            return self.returned("F", w, self.case.system.F(point)[rows], rows)
        pair = self.case.kind == "pair"
        f = self.returned("F", w, self.case.system.F(point))
        J = self.kept("J", self.case.system.jac(point)) if pair else None
        real = np.asarray(f).dtype.kind == "f"
        self.points.append((point, np.array(f) if real else None))
        return (f, J) if pair else f

    def jac(self, w: Any, rows: Any = None) -> Any:
        self.calls["jac"] += 1
        J = self.case.system.jac(np.array(w))
        J = self.returned("jac", w, J if rows is None else J[rows], rows)
        if not isinstance(J, np.ndarray) or J.ndim != 2 or J.dtype != float or self.case.kind not in KINDS:
            return J
        own = () if self.case.kind == "sparse" else (self,)
        return KINDS[self.case.kind](J, *own)

    def callback(self, intermediate_result: Any) -> None:
        self.calls["callback"] += 1
        self.nits.append(intermediate_result.nit)
        self.returned("callback", intermediate_result.x, np.zeros(1))

    def product(self, name: str, value: Any) -> Any:
        self.calls[name] += 1
        return self.returned(name, None, value)

    def mapped(self, f: Any, points: Any) -> Any:
        """A map of the user's own for ``workers``."""
        self.calls["workers"] += 1
        values = [f(point) for point in points]
        if not self.strikes("workers"):
            return values
        if self.fault.what == "short":
            return values[:-1]
        return [*values[:-1], self.wrong(values[-1])] if values else self.wrong(np.zeros(1))

    def strikes(self, where: str) -> bool:
        strikes = self.fault.where == where and self.calls[where] == self.fault.at
        self.struck |= strikes
        return strikes

    def returned(self, where: str, w: Any, value: Any, rows: Any = None) -> Any:
        """The value, or what the fault makes of it."""
        if self.fault.where == where and self.fault.what in HARMLESS:
            return self.harmless(where, w, value, rows)
        return self.wrong(value) if self.strikes(where) else value

    def wrong(self, value: Any) -> Any:
        what = self.fault.what
        if self.fault.error is not None:
            raise self.fault.error
        if what == "signal":
            signal.raise_signal(signal.SIGINT)
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

    def harmless(self, where: str, w: Any, value: Any, rows: Any) -> Any:
        what = self.fault.what
        self.struck = True
        if what == "buffer":
            return self.kept(where, value)
        if what == "writes":
            for given in (w, rows):
                if given is not None and given.flags.writeable:
                    given[...] = np.nan if given.dtype == float else -1
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


class Bar:
    """A progress bar whose terminal may be gone."""

    def __init__(self, seen: Watched) -> None:
        self.n, self.seen = 0.0, seen

    def set_description_str(self, text: str) -> None:
        self.seen.now += 0.2 if self.seen.now < 900.0 else 0.0  # so that it is shown again
        self.seen.product("bar", np.zeros(1))

    def close(self) -> None:
        self.seen.product("bar", np.zeros(1))


class Interrupt:
    """Raises the fault's exception at one of the lines of the library that are run, as Ctrl-C does at any of them."""

    def __init__(self, seen: Watched) -> None:
        self.seen, self.line = seen, 0

    def __call__(self, frame: Any, event: str, _arg: Any) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            self.line += 1
            if self.line == self.seen.fault.at:
                sys.settrace(None)
                self.seen.struck = True
                assert self.seen.fault.error is not None
                raise self.seen.fault.error
        return self


@contextmanager
def surroundings(seen: Watched) -> Iterator[None]:
    """Time stands still but where the fault says otherwise; Ctrl-C is heard, as in a program in the foreground."""
    tracer, ours = sys.gettrace(), signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with (
            patch("time.monotonic", lambda: seen.now),
            patch("plsolve._pictures.progress.new_bar", lambda **_: Bar(seen)),
            np.errstate(),
        ):
            if seen.fault.where == "library":
                sys.settrace(Interrupt(seen))
            yield
    finally:
        sys.settrace(tracer)
        signal.signal(signal.SIGINT, ours)


class Outcome(NamedTuple):
    result: Any
    error: BaseException | None
    calls: dict[str, int]
    history: Any
    changed: list[str]  # of what was given, and of numpy's settings


def run(c: Case, fault: Fault) -> tuple[Watched, Outcome]:
    """One run through its door, and what was seen of it."""
    p, seen = c.system, Watched(c, fault)
    settings = c.settings | ({"prior": Prior(known_prior(c), seen)} if is_operator(c) else {})
    given = [p.w0, p.y, *(p.bounds or ()), *[v for v in c.settings.values() if isinstance(v, np.ndarray)]]
    before, numpys = [value.tobytes() for value in given], np.geterr()
    result, error, changed = None, None, []
    with surroundings(seen):
        try:
            result = ENTER[c.door](c, seen, settings)
        except BaseException as raised:  # noqa: BLE001 - whatever was injected
            sys.settrace(None)
            error = raised
        changed += ["numpy's settings for errors"] * (np.geterr() != numpys and fault.where != "library")
    changed += ["what was given"] * (before != [value.tobytes() for value in given])
    return seen, Outcome(result, error, dict(seen.calls), getattr(result, "history", None), changed)


def is_operator(c: Case) -> bool:
    return isinstance(c.settings.get("prior"), str)


def known_prior(c: Case) -> Any:
    """The covariance of an `infer` case (m, m)."""
    m, prior = c.system.w0.size, c.settings["prior"]
    if is_operator(c):
        return covariance(np.random.default_rng(c.seed), m)
    value = np.asarray(1.0 if prior is None else prior, float)
    return value if value.ndim == 2 else np.diag(np.broadcast_to(value, m) ** 2)


def jacobian(c: Case, seen: Watched) -> Any:
    return {"pair": True, "2-point": "2-point", "3-point": "3-point", "none": None}.get(c.kind, lambda w: seen.jac(w))


def enter_solve(c: Case, seen: Watched, settings: Any) -> Any:
    p, more = c.system, {"method": c.method, "options": c.options, "rng": 0, "tol": TOL, "compiled": False}
    F, jac = (seen.F, seen.jac) if c.kind == "rows" else (lambda w: seen.F(w), jacobian(c, seen))
    return solve(F, jac, p.w0, p.y, bounds=p.bounds, callback=seen.callback, max_time=1e3, progress=c.bar, **more,
                 **settings)  # fmt: skip


def enter_infer(c: Case, seen: Watched, settings: Any) -> Any:
    p = c.system
    return infer(lambda w: seen.F(w), jacobian(c, seen), p.w0, p.y, bounds=p.bounds, callback=seen.callback,
                 max_time=1e3, progress=c.bar, **settings)  # fmt: skip


def enter_root(c: Case, seen: Watched, settings: Any) -> Any:
    callback = {"callback": seen.callback} if c.method == "gauss-newton" else {}
    return root(lambda w: shifted(seen.F(w), c.system.y), c.system.w0, jac=jacobian(c, seen), method=c.method,
                **callback)  # fmt: skip


def enter_least_squares(c: Case, seen: Watched, settings: Any) -> Any:
    p, more = c.system, dict(settings)
    if "workers" in more:
        more["workers"] = seen.mapped
    callback = {} if c.method == "lm" else {"callback": seen.callback}
    return least_squares(lambda w: shifted(seen.F(w), p.y), p.w0, jacobian(c, seen), widened(p), c.method,
                         max_nfev=200, **callback, **more)  # fmt: skip


def enter_curve_fit(c: Case, seen: Watched, settings: Any) -> Any:
    p, jac = c.system, jacobian(c, seen)
    derivative = (lambda x, *w: jac(np.array(w))) if callable(jac) else None if c.method == "lm" else jac
    # fmt: off
    x, pcov, info, message, ier = curve_fit(lambda x, *w: seen.F(np.array(w)), np.arange(float(p.y.size)), p.y, p.w0,
                                            bounds=widened(p), method=c.method, jac=derivative, full_output=True)
    return OptimizeResult(x=x, fun=info["fvec"], nfev=info["nfev"], message=message, success=ier in (1, 2, 3, 4),
                          pcov=pcov, history=None)
    # fmt: on


def enter_batch(c: Case, seen: Watched, settings: Any) -> Any:
    W0 = c.system.w0 + np.arange(float(BATCH))[:, None]
    return solve_batch(lambda w: seen.F(w), jacobian(c, seen), W0, c.system.y, tol=TOL, max_iter=20, compiled=False,
                       restarts=c.seed % 2, rng=0)  # fmt: skip


ENTER = {
    "solve": enter_solve,
    "infer": enter_infer,
    "root": enter_root,
    "least_squares": enter_least_squares,
    "curve_fit": enter_curve_fit,
    "batch": enter_batch,
}


def shifted(f: Any, y: Any) -> Any:
    """F - y, where F is what it should be."""
    if isinstance(f, tuple):
        return shifted(f[0], y), f[1]
    fit = np.shape(f) == y.shape and np.asarray(f).dtype.kind == "f"
    return np.subtract(f, y) if fit else f


def widened(p: System) -> Any:
    """Bounds that differ, as scipy asks for."""
    return (-np.inf, np.inf) if p.bounds is None else (p.bounds[0] - 1e-3, p.bounds[1] + 1e-3)
