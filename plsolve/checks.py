"""Bad input is refused before any step: every check names the argument, what came, and what was expected."""

from __future__ import annotations

import inspect
import math
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sps
from scipy.sparse.linalg import LinearOperator

from plsolve.linalg import FLOAT64, Array, norm

_FEW = 10_000
_PACKAGE = __name__.partition(".")[0]
LINEAR_SOLVERS = ("auto", "cholesky", "qr", "cg")
DIFFERENCES = ("2-point", "3-point", "cs")


def as_float(value: Any, name: str) -> Array:
    """A float64 array (not a copy where it is one), or a TypeError that names the argument."""
    if type(value) is np.ndarray and value.dtype == np.float64:
        return value
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise TypeError(f"`{name}` must be real numbers, but entries of it are masked.")
    try:
        array = np.asarray(value)
    except Exception as error:
        raise TypeError(f"`{name}` must be real numbers, but no array can be made of it: {error}") from error
    if array.dtype == np.float64:
        return array
    if array.dtype.kind not in "fiub":
        what = "None" if value is None else f"dtype {array.dtype}"
        raise TypeError(f"`{name}` must be real numbers, got {what}.")
    return array.astype(np.float64)


def as_vector(value: Any, name: str, size: int | None = None) -> Array:
    """A new finite float64 vector; scalars are vectors of one entry."""
    if type(value) is np.ndarray and value.dtype is FLOAT64 and value.ndim == 1 and value.size:
        array = value.copy()  # the quick way
    else:
        array = np.atleast_1d(as_float(value, name)).astype(np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"`{name}` must be a vector with at least one entry, got shape {array.shape}.")
    if size is not None and array.size != size:
        raise ValueError(f"`{name}` must have shape ({size},), got {array.shape}.")
    check_finite(array, name)
    return array


def check_finite(array: Array, name: str) -> None:
    """A vector must be."""
    if not math.isfinite(norm(array)) and not np.isfinite(array).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        where = ", ".join(map(str, index))
        raise ValueError(f"`{name}` must be finite, but {name}[{where}] is {array[index]}.")


def as_bounds(bounds: Any, w0: Array) -> tuple[Array, Array]:
    """Lower and upper bounds (m,) from a pair or a scipy Bounds; w0 must lie inside."""
    if hasattr(bounds, "lb") and hasattr(bounds, "ub"):
        bounds = (bounds.lb, bounds.ub)
    try:
        lower, upper = bounds
    except (TypeError, ValueError):
        raise ValueError(
            f"`bounds` must be a pair (lower, upper) or a scipy.optimize.Bounds, got {bounds!r}."
        ) from None
    sides = []
    for side, name in ((lower, "lower"), (upper, "upper")):
        side = as_float(side, f"bounds: {name}")
        if side.shape not in ((), (1,), w0.shape):
            raise ValueError(f"`bounds`: {name} must be a number or {w0.shape} numbers, got {side!r}.")
        sides.append(np.full(w0.shape, side))
    lower, upper = sides
    if np.count_nonzero((lower <= w0) & (w0 <= upper)) == w0.size:
        return lower, upper
    for side, name in ((lower, "lower"), (upper, "upper")):
        if np.isnan(side).any():
            raise ValueError(f"`bounds`: {name} must be without NaN, got {side!r}.")
    if (bad := np.flatnonzero(lower > upper)).size:
        i = bad[0]
        raise ValueError(f"`bounds` are inverted at index {i}: lower {lower[i]} > upper {upper[i]}.")
    i = np.flatnonzero((w0 < lower) | (w0 > upper))[0]
    raise ValueError(f"`w0` is infeasible: w0[{i}] = {w0[i]} lies outside `bounds` [{lower[i]}, {upper[i]}].")


def as_matrix(J: Any, rows: int | None, m: int) -> Any:
    """What jac returned, as a float64 array, a CSR matrix or a LinearOperator of shape (rows, m); None: any rows."""
    if type(J) is np.ndarray and J.dtype is FLOAT64 and J.shape == (rows, m):
        return J
    if isinstance(J, LinearOperator) or sps.issparse(J):
        kind = np.dtype(getattr(J, "dtype", None) or float)
        if kind.kind not in "fiub":
            raise TypeError(f"`jac(w)` must be real numbers, got dtype {kind}.")
    if isinstance(J, LinearOperator):
        pass
    elif sps.issparse(J):
        J = J.tocsr()  # type: ignore[attr-defined]
        J = J if J.dtype == np.float64 else J.astype(np.float64)
    else:
        J = as_float(J, "jac(w)")
        if J.ndim < 2 and J.size == m and rows in (1, None):
            J = J.reshape(1, m)
        elif J.ndim == 1 and m == 1:
            J = J.reshape(-1, 1)
    if len(J.shape) != 2 or J.shape[1] != m or rows not in (J.shape[0], None):
        shape = ("n" if rows is None else rows, m)
        raise ValueError(f"`jac` must return shape (n, m) = ({shape[0]}, {m}) to go with F and w, got {J.shape}.")
    return J


def as_beta(beta: Any, n: int) -> Array | None:
    """A Lipschitz constant of jac, one entry or one per equation, or None."""
    if beta is None:
        return None
    value = as_float(beta, "beta")
    if value.shape not in ((), (1,), (n,)):
        raise ValueError(f"`beta` must be a number or have shape (n,) = ({n},), got {value.shape}.")
    value = np.array(value, np.float64).reshape(-1)
    if not (np.isfinite(value).all() and (value >= 0.0).all()):
        raise ValueError(f"`beta` must be finite and >= 0, got {beta!r}.")
    return value


def is_finite(J: Any) -> bool:
    """Whether all entries of an array or a CSR matrix are finite; True for a LinearOperator, whose are not at hand."""
    if type(J) is np.ndarray and 0 < J.size < _FEW:
        return math.isfinite(norm(J.ravel(order="K"))) or bool(np.isfinite(J).all())
    if isinstance(J, LinearOperator):
        return True
    entries = J.ravel(order="K") if isinstance(J, np.ndarray) else J.data
    if entries.size == 0:
        return True
    with np.errstate(over="ignore", invalid="ignore"):
        square = float(entries.dot(entries))  # five times faster than looking at every one
    return math.isfinite(square) or bool(np.isfinite(entries).all())


def refuse_jacobian(J: Any, differenced: bool) -> None:
    """Say where J(w0) is not finite."""
    if differenced:
        i, j = np.argwhere(~np.isfinite(J))[0]
        raise ValueError(f"`jac`: F must be finite around w0 to be differenced, but is not where w0[{j}] changes.")
    if isinstance(J, np.ndarray):
        i, j = np.argwhere(~np.isfinite(J))[0]
        raise ValueError(f"`jac(w0)` must be finite, but jac(w0)[{i}, {j}] is {J[i, j]}.")
    i = int(np.searchsorted(J.indptr, np.flatnonzero(~np.isfinite(J.data))[0], side="right")) - 1
    raise ValueError(f"`jac(w0)` must be finite, but row {i} of jac(w0) is not.")


def check_operator(J: Any) -> None:
    """A LinearOperator must give J^T z and J v, of the right size; one that has its kernel is not tried."""
    if not isinstance(J, LinearOperator) or hasattr(J, "gram"):
        return
    n, m = J.shape
    for name, product, size in (("rmatvec", J.rmatvec, n), ("matvec", J.matvec, m)):
        try:
            product(np.zeros(size))
        except (NotImplementedError, ValueError) as error:
            raise not_working(J, name, error) from error


def not_working(J: Any, name: str, error: Exception) -> ValueError:
    """What to raise where a product of an operator fails."""
    return ValueError(f"`jac`: the LinearOperator of shape {J.shape} has no working {name}: {error}")


def takes_rows(function: Any, n_args: int) -> tuple[bool, bool]:
    """Whether the function has a parameter ``rows`` that args do not fill, and whether that must be given."""
    if not callable(function):
        return False, False
    inner = function.func if isinstance(function, partial) else function
    inner = getattr(inner, "__wrapped__", inner)  # numba functions wrap plain ones
    code = getattr(inner, "__code__", None) or getattr(type(inner).__call__, "__code__", None)
    told = hasattr(inner, "__wrapped__") or hasattr(function, "__signature__")
    if code is not None and "rows" not in code.co_varnames and not told:
        return False, False  # the quick way: inspect.signature costs 16 us
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return False, False
    positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    for p in parameters:
        if (
            p.name == "rows"
            and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
            and p.name not in positional[: 1 + n_args]
        ):
            return True, p.default is p.empty
    return False, False


def check_options(method: Any, options: Any, methods: Mapping[str, Sequence[str]]) -> Mapping[str, Any]:
    """The options, for a method that is known and knows them; methods: their names and those of their options."""
    if not isinstance(method, str) or method not in methods:
        raise ValueError(f"`method` must be one of {', '.join(methods)}, got {method!r}.")
    if type(options) is not dict and not isinstance(options, Mapping):
        raise TypeError(f"`options` must be a dict, got {type(options).__name__}.")
    if not options:
        return options
    known = methods[method]
    for key in options:
        if key not in known:
            raise ValueError(f"`options` of method {method!r} has no {key!r}; known are: {', '.join(known)}.")
    if not isinstance(options.get("nearest", False), (bool, np.bool_)):
        raise TypeError(f"`options`: 'nearest' must be True or False, got {options['nearest']!r}.")
    if (kind := options.get("linear_solver", "auto")) not in LINEAR_SOLVERS:
        raise ValueError(f"`options`: 'linear_solver' must be one of {', '.join(LINEAR_SOLVERS)}, got {kind!r}.")
    return options


def generator(rng: Any) -> np.random.Generator | None:
    """None stays None: a fresh generator takes as long as a small step, and only SGD needs it."""
    if rng is None:
        return None
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise type(error)(f"`rng` must be None, an integer >= 0 or a numpy Generator, got {rng!r}.") from None


def is_real(value: Any) -> bool:
    """Whether the value is one real number, and not a truth value."""
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def check_limits(tol: Any, xtol: Any, eps: Any, max_iter: Any, max_time: Any) -> tuple[int | None, float]:
    """max_iter and the moment at which max_time has passed."""
    limits = (("tol", tol), ("xtol", xtol), ("eps", eps), ("max_time", 0.0 if max_time is None else max_time))
    for name, value in limits:
        if type(value) is float and 0.0 <= value < math.inf:
            continue  # the quick way
        if not is_real(value):
            raise TypeError(f"`{name}` must be a number, got {type(value).__name__}.")
        if not value >= 0.0 or (value == math.inf and name != "max_time"):
            raise ValueError(f"`{name}` must be >= 0 and finite, got {value!r}.")
    if max_iter is not None:
        if isinstance(max_iter, bool) or not isinstance(max_iter, (int, np.integer)):
            raise (ValueError if isinstance(max_iter, float) else TypeError)(
                f"`max_iter` must be an integer >= 0, got {max_iter!r}."
            )
        if max_iter < 0:
            raise ValueError(f"`max_iter` must be >= 0, got {max_iter!r}.")
    deadline = math.inf if max_time is None else time.monotonic() + float(max_time)
    return max_iter, deadline


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn of the user's line: the nearest caller outside the package."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == _PACKAGE:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
