"""Checks of the arguments of `least_squares`: scipy's, with its error types and beginnings of messages, and others."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular
from scipy.optimize import Bounds
from scipy.sparse import issparse
from scipy.sparse.linalg import lsmr

from plsolve._checks import (
    DIFFERENCES,
    Names,
    as_float,
    as_number,
    as_real,
    as_vector,
    check_finite,
    is_integer,
    is_real,
    refuse_masked,
    shown,
    warn,
)
from plsolve._linalg import UNIT, Array
from plsolve._losses import LOSSES

EPS = 2 * UNIT
SCIPY_METHODS = ("trf", "dogbox", "lm")
NO_BOUNDS = (-np.inf, np.inf)
PROCESSES = 1024  # at most: a larger number is taken for a mistake
FUN = Names("fun", "x", "x0")
MODEL = Names("f", "xdata, *p", "p0", "ydata")
METHODS = (*SCIPY_METHODS, "gauss-newton", "gd", "sgd")
# The keys of tr_options: scipy's own, and those of lsmr.
TR_OPTIONS = {"regularize", *list(inspect.signature(lsmr).parameters)[2:]}


class Call:
    """fun(w, *args, **kwargs) as a vector; picklable, so that it can be sent to workers."""

    def __init__(self, fun: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], names: Names) -> None:
        if not callable(fun):
            raise TypeError(f"`{names.F}` must be callable, got {type(fun).__name__}.")
        self.fun, self.args, self.kwargs, self.name = fun, args, kwargs, names.F
        self.value = f"{names.F}({names.w})"
        self.first = True
        self.target = fun.target if isinstance(fun, Data) else None

    def __call__(self, w: Array) -> Any:
        f = self.fun(w, *self.args, **self.kwargs)
        f = np.asarray(f) if w.dtype.kind == "c" else as_real(f, self.value)
        if self.first:
            self.first = False
            if f.ndim > 1:
                raise ValueError(f"`{self.name}` must return at most 1-d array_like. f0.shape: {f.shape}")
            if not np.isfinite(f).all():
                raise ValueError(f"`{self.name}`: Residuals are not finite in the initial point.")
        return f


class Remembered(Call):
    """The same, which keeps its last value."""

    last: tuple[Array, Any] | None = None

    def __call__(self, w: Array) -> Any:
        at = w.copy()  # fun may overwrite w
        f = super().__call__(w)
        self.last = at, f
        return f

    def again(self, w: Array) -> Any:
        """The value at w if the last call was there, else None."""
        return np.atleast_1d(self.last[1]).copy() if self.last and np.array_equal(self.last[0], w) else None


class Data:
    """A model with its data, weighted by 1/sigma, or by L^{-1} where the covariance is L L^T."""

    def __init__(self, f: Callable[..., Any], x: Any, y: Array, transform: Array | None, jac: Any) -> None:
        self.f, self.x, self.y, self.transform, self.jac = f, x, y, transform, jac
        #: None: the data are a single number, which numpy broadcasts, or are not finite, so that f - y is neither.
        self.target = None if y.size == 1 else self.weighed(y)
        if self.target is not None and not np.isfinite(self.target).all():
            self.target = None

    def weighed(self, value: Array) -> Array:
        if self.transform is None:
            return value
        with np.errstate(all="ignore"):
            if self.transform.ndim == 2:
                return np.asarray(solve_triangular(self.transform, value, lower=True, check_finite=False))
            return (self.transform * value.T).T

    def __call__(self, p: Array) -> Any:
        f = self.f(self.x, *p)
        f = np.asarray(f) if p.dtype.kind == "c" else as_real(f, "f(xdata, *p)")
        if f.shape != self.y.shape:
            f = self.broadcast(f)
        return self.weighed(f - self.y if self.target is None else f)

    def broadcast(self, f: Any) -> Any:
        """f broadcast to the data, or the data to f, if one of them is a single number."""
        if f.size != 1 and not (f.ndim == 1 and self.y.size == 1):
            count = self.y.size
            raise ValueError(f"`f` must return {count} numbers, as many as `ydata` has, got shape {f.shape}: ravel it.")
        return np.broadcast_to(f.reshape(-1), self.y.shape) if self.target is not None else f

    def jacobian(self, p: Array) -> Any:
        J = np.atleast_2d(as_real(self.jac(self.x, *p), "jac(xdata, *p)"))
        if self.y.size > 1:
            check_shape((self.y.size, p.size), J)
        return self.weighed(J)


class JacobianCall:
    """jac(w, *args, **kwargs) with checks of its value."""

    def __init__(
        self,
        jac: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        check: Callable[[Any], None],
    ) -> None:
        self.jac, self.args, self.kwargs, self.check = jac, args, kwargs, check

    def __call__(self, w: Array) -> Any:
        J = self.jac(w, *self.args, **self.kwargs)
        if not (type(J) is np.ndarray and J.ndim == 2) and not (issparse(J) or hasattr(J, "matvec")):
            J = np.atleast_2d(as_real(J, "jac(x)"))
        self.check(J)
        return J


def one_by_one(f: Callable[[Any], Any], points: Iterable[Any]) -> list[Any]:
    """f at all points; unlike the end of a `map`, a StopIteration of f is passed on."""
    return [f(point) for point in points]


def processes(workers: Any) -> AbstractContextManager[Callable[..., Iterable[Any]]]:
    """A map to evaluate a function at many points: ``workers``, or one over that many processes (-1: all cores)."""
    if workers is None or callable(workers):
        return nullcontext(one_by_one if workers is None else workers)
    if not is_integer(workers):
        raise TypeError(f"`workers` must be an integer or map-like, got {workers!r}.")
    if workers != -1 and not 1 <= workers <= PROCESSES:
        got = shown(workers)
        raise ValueError(f"`workers` must be -1 (all cores), from 1 to {PROCESSES}, or map-like, got {got}.")
    return nullcontext(one_by_one) if workers == 1 else pooled(None if workers == -1 else int(workers))


@contextmanager
def pooled(count: int | None) -> Iterator[Callable[..., Iterable[Any]]]:
    from multiprocessing import Pool  # not needed otherwise

    with Pool(count) as pool:
        yield pool.map


def check_sparsity(method: str, jac: Any, jac_sparsity: Any, tr_solver: str | None) -> Any:
    """The structure of J as a sparse matrix or an array (n, m), or None if it is not given or not needed."""
    if jac_sparsity is None:
        return None
    structure: Any = jac_sparsity if issparse(jac_sparsity) else np.atleast_2d(as_real(jac_sparsity, "jac_sparsity"))
    if structure.ndim != 2:
        raise ValueError(f"`jac_sparsity` must have shape (n, m), got {structure.shape}.")
    if callable(jac):
        return None
    if method == "lm":
        raise ValueError("method='lm' does not support `jac_sparsity`.")
    if tr_solver == "exact":
        raise ValueError("tr_solver='exact' is incompatible with `jac_sparsity`.")
    return structure


def check_shape(shape: tuple[int, int], J: Any) -> None:
    if J.shape != shape:
        raise ValueError(f"The return value of `jac` has wrong shape: expected {shape}, actual {J.shape}.")


def check_jacobian(
    size: Callable[[], tuple[int, int]], method: str, tr_solver: str | None, x_scale: Any, J: Any
) -> None:
    """Check the Jacobian's shape and type."""
    check_shape(size(), J)
    if isinstance(J, np.ndarray):
        return
    if method == "lm":
        raise ValueError("method='lm' works only with dense Jacobian matrices.")
    if tr_solver == "exact":
        raise ValueError("tr_solver='exact' works only with dense Jacobian matrices.")
    if not issparse(J) and x_scale is not None and isinstance(x_scale, str):
        raise ValueError("x_scale='jac' can't be used when `jac` returns LinearOperator.")


def check_choices(method: Any, jac: Any, tr_solver: Any, tr_options: Any, loss: Any, verbose: Any) -> None:
    if not isinstance(method, str) or method not in METHODS:
        raise ValueError(f"`method` must be 'trf', 'dogbox' or 'lm', or {', '.join(map(repr, METHODS[3:]))}.")
    if not (callable(jac) or (isinstance(jac, str) and jac in DIFFERENCES)):
        raise ValueError("`jac` must be '2-point', '3-point', 'cs' or callable.")
    if not (tr_solver is None or (isinstance(tr_solver, str) and tr_solver in ("exact", "lsmr"))):
        raise ValueError("`tr_solver` must be None, 'exact' or 'lsmr'.")
    for key in as_mapping(tr_options, "tr_options"):
        if tr_solver != "exact" and key not in TR_OPTIONS:
            raise TypeError(f"lsmr() got an unexpected keyword argument '{key}'")
    if not (callable(loss) or (isinstance(loss, str) and loss in ("linear", *LOSSES))):
        raise ValueError(f"`loss` must be one of {dict.fromkeys(('linear', *LOSSES)).keys()} or a callable.")
    if method == "lm" and loss != "linear":
        raise ValueError("method='lm' supports only 'linear' loss function.")
    if not (isinstance(verbose, (bool, np.bool_)) or (is_real(verbose) and verbose in (0, 1, 2))):
        raise ValueError("`verbose` must be in [0, 1, 2].")


def as_mapping(value: Any, name: str) -> dict[str, Any]:
    """The keywords as a dict, empty for None."""
    if value is None:
        return {}
    if not (isinstance(value, Mapping) and all(isinstance(key, str) for key in value)):
        raise TypeError(f"`{name}` must be a dict with names as keys, got {shown(value)}.")
    return dict(value)


def as_arguments(args: Any) -> tuple[Any, ...]:
    if not isinstance(args, (tuple, list, np.ndarray)):
        raise TypeError(f"`args` must be a tuple, got {type(args).__name__}.")
    return tuple(args)


def as_limit(value: Any, name: str, default: int, zero: bool = False) -> int:
    """A limit of calls, which may be a float such as 1e4; the default for None and, if ``zero``, for 0."""
    if value is None or (zero and is_real(value) and value == 0):
        return default
    number = min(as_number(value, name), sys.maxsize)
    if not (number >= 1 and number == int(number)):
        raise ValueError(f"`{name}` must be None or positive integer, got {shown(value)}.")
    return int(number)


def as_start(x0: Any, name: str) -> Array:
    start = np.atleast_1d(as_float(x0, name))
    if start.ndim > 1:
        raise ValueError(f"`{name}` must have at most 1 dimension.")
    if start.size == 0:
        raise ValueError(f"`{name}` must have at least one entry.")
    check_finite(start, name)
    return start


def as_sides(bounds: Any, size: int) -> tuple[Array, Array]:
    """Lower and upper bounds as vectors."""
    sides = (bounds.lb, bounds.ub) if isinstance(bounds, Bounds) else bounds
    if isinstance(sides, (str, bytes, Mapping)) or not hasattr(sides, "__len__") or len(sides) != 2:
        raise ValueError("`bounds` must contain 2 elements.")
    lower, upper = (as_float(side, "bounds") for side in sides)
    if np.isnan(lower).any() or np.isnan(upper).any():
        raise ValueError("`bounds` must be without NaN.")
    return tuple(np.resize(side, size) if side.ndim == 0 else side for side in (lower, upper))  # type: ignore[return-value]


def check_bounds(bounds: Any, x0: Array, method: str, name: str) -> tuple[Array, Array] | None:
    """The bounds, or None if all are infinite."""
    if isinstance(bounds, tuple) and all(isinstance(side, float) for side in bounds) and bounds == NO_BOUNDS:
        return None
    lower, upper = as_sides(bounds, x0.size)
    if isinstance(bounds, Bounds):
        lower, upper = (np.resize(side, x0.size) if side.shape == (1,) else side for side in (lower, upper))
    free = bool(np.all(lower == -np.inf) and np.all(upper == np.inf))
    if method == "lm" and not free:
        raise ValueError("Method 'lm' doesn't support bounds.")
    if lower.shape != x0.shape or upper.shape != x0.shape:
        raise ValueError(f"Inconsistent shapes between bounds and `{name}`.")
    if np.any(lower >= upper):
        raise ValueError("Each lower bound must be strictly less than each upper bound: see `bounds`.")
    if not np.all((x0 >= lower) & (x0 <= upper)):
        raise ValueError(f"Initial guess is outside of provided bounds: see `{name}`.")
    return None if free else (lower, upper)


def check_x_scale(x_scale: Any, x0: Array, name: str) -> Any:
    if x_scale is None:
        return None
    if isinstance(x_scale, str) and x_scale == "jac":
        return x_scale
    refuse_masked(x_scale, "x_scale")
    try:
        x_scale = as_float(x_scale, "x_scale")
        valid = bool(np.all(np.isfinite(x_scale)) and np.all(x_scale > 0))
    except (ValueError, TypeError):
        valid = False
    if not valid:
        raise ValueError("`x_scale` must be 'jac' or array_like with positive numbers.")
    if x_scale.ndim and x_scale.shape != x0.shape:
        raise ValueError(f"Inconsistent shapes between `x_scale` and `{name}`.")
    return x_scale if x_scale.ndim else None  # one number for all unknowns has no effect


def check_tolerances(tolerances: Mapping[str, float | None], method: str) -> Iterable[float]:
    """The tolerances, with 0 for those that are switched off."""
    for name, tol in tolerances.items():
        if tol is not None and not as_number(tol, name) < np.inf:
            raise ValueError(f"`{name}` must be None or a finite number, got {shown(tol)}.")
        if tol is not None and tol < EPS:
            warn(
                f"Setting `{name}` below the machine epsilon ({EPS:.2e}) effectively disables the corresponding "
                "termination condition."
            )
    off = [tol is None or tol < EPS for tol in tolerances.values()]
    if method == "lm" and any(off):
        names = ", ".join(f"`{name}`" for name in tolerances)
        raise ValueError(f"All tolerances must be higher than machine epsilon ({EPS:.2e}) for method 'lm': {names}.")
    if all(off):
        names = ", ".join(f"`{name}`" for name in tolerances)
        raise ValueError(f"At least one of the tolerances must be higher than machine epsilon ({EPS:.2e}): {names}.")
    return [float(tol or 0.0) for tol in tolerances.values()]


def as_steps(diff_step: Any, size: int) -> Array | None:
    """Relative steps of differences."""
    if diff_step is None:
        return None
    steps = np.abs(as_float(diff_step, "diff_step"))
    if steps.shape not in ((), (1,), (size,)) or not np.isfinite(steps).all():
        raise ValueError(f"`diff_step` must be a finite number or {size} of them, got {shown(diff_step)}.")
    return steps


def as_scale(f_scale: Any) -> float:
    scale = as_number(f_scale, "f_scale")
    if not 0.0 < scale < np.inf:
        raise ValueError(f"`f_scale` must be positive and finite, got {shown(f_scale)}.")
    return scale


def as_weights(diag: Any, size: int, name: str) -> Array:
    """MINPACK's ``diag``: positive numbers."""
    d = as_vector(diag, name, size)
    if not (d > 0.0).all():
        raise ValueError(f"`{name}` must be positive, got {shown(diag)}.")
    return d
