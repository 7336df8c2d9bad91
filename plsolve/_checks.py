"""Checks of the arguments before any step: each message names the argument, what was expected, and what was given."""

from __future__ import annotations

import inspect
import math
import sys
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sps
from scipy.sparse.linalg import LinearOperator

from plsolve import _clock
from plsolve._lasting import lasting
from plsolve._linalg import FLOAT64, Array, norm

_FEW = 10_000
_PLAIN = {float, int, np.float64}
_SOURCES = (np.random.Generator, np.random.BitGenerator, np.random.SeedSequence, np.random.RandomState)
_PACKAGE = __name__.partition(".")[0]
LINEAR_SOLVERS = ("auto", "cholesky", "qr", "cg")
DIFFERENCES = ("2-point", "3-point", "cs")


class Names(NamedTuple):
    """The names of the functions and arguments in messages."""

    F: str = "F"
    w: str = "w"
    w0: str = "w0"
    y: str = "y"


def as_real(value: Any, name: str) -> npt.NDArray[Any]:
    """An array of real numbers of any precision; no copy, if value is one. Errors name the argument.

    Torch tensors are detached and copied from any device. Exceptions for other reasons, such as a lack of memory, are
    passed on.
    """
    if type(value) is np.ndarray and value.dtype.kind in "fiub":
        return value
    refuse_masked(value, name)
    try:
        array = np.asarray([as_numbers(v) for v in value] if is_nested(value) else as_numbers(value))
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"`{name}` must be real numbers, but cannot be converted to an array: {error}") from error
    if array.dtype.kind == "O" and array.size and all(isinstance(v, Real) for v in array.flat):
        try:
            return array.astype(np.float64)
        except OverflowError:
            raise ValueError(f"`{name}` must be finite, but has an integer beyond the range of float64.") from None
    if array.dtype.kind == "c":
        raise ValueError(f"`{name}` must be real, got dtype {array.dtype}.")
    if array.dtype.kind not in "fiub":
        what = f"dtype {array.dtype}"
        if array.dtype.kind == "O" and array.ndim == 0:
            what = "None" if value is None else type(value).__name__
        raise TypeError(f"`{name}` must be real numbers, got {what}.")
    return array


def refuse_masked(value: Any, name: str) -> None:
    """Raise where entries are masked: numpy would use the values below the mask."""
    if any(isinstance(v, np.ma.MaskedArray) and np.ma.is_masked(v) for v in (value if is_nested(value) else (value,))):
        raise TypeError(f"`{name}` must be real numbers, but entries of it are masked.")


def is_nested(value: Any) -> bool:
    """Whether it is a list or tuple with entries other than plain numbers."""
    return type(value) in (list, tuple) and not _PLAIN.issuperset(map(type, value))


def as_numbers(value: Any) -> Any:
    """The numbers of a torch tensor as an array; any other value unchanged."""
    return value.numpy(force=True) if hasattr(value, "detach") and hasattr(value, "numpy") else value


def as_float(value: Any, name: str) -> Array:
    """An array of float64; see `as_real`."""
    if type(value) is np.ndarray and value.dtype == np.float64:
        return value
    array = as_real(value, name)
    if array.dtype == np.float64:
        return array
    with np.errstate(over="ignore"):
        return array.astype(np.float64)


def as_vector(value: Any, name: str, size: int | None = None) -> Array:
    """A new finite float64 vector; scalars are vectors of one entry."""
    if type(value) is np.ndarray and value.dtype is FLOAT64 and value.ndim == 1 and value.size:
        array = value.copy()  # the usual case, without the general checks
    else:
        array = np.atleast_1d(as_float(value, name)).astype(np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"`{name}` must be a vector with at least one entry, got shape {array.shape}.")
    if size is not None and array.size != size:
        raise ValueError(f"`{name}` must have shape ({size},), got {array.shape}.")
    check_finite(array, name)
    return array


def check_finite(array: Array, name: str) -> None:
    """Raise unless all entries are finite."""
    entries = array if array.ndim == 1 else array.ravel()
    if entries.size and not math.isfinite(norm(entries)) and not np.isfinite(array).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        where = f"{name}[{', '.join(map(str, index))}]" if index else "it"
        raise ValueError(f"`{name}` must be finite, but {where} is {array[index]}.")


def as_bounds(bounds: Any, w0: Array, name: str = "w0") -> tuple[Array, Array]:
    """Lower and upper bounds (m,) from a pair or a scipy Bounds; w0 must lie inside."""
    if hasattr(bounds, "lb") and hasattr(bounds, "ub"):
        bounds = (bounds.lb, bounds.ub)
    try:
        lower, upper = bounds
    except (TypeError, ValueError):
        raise ValueError(
            f"`bounds` must be a pair (lower, upper) or a scipy.optimize.Bounds, got {shown(bounds)}."
        ) from None
    sides = []
    for side, which in ((lower, "lower"), (upper, "upper")):
        side = as_float(side, f"bounds: {which}")
        if side.shape not in ((), (1,), w0.shape):
            raise ValueError(f"`bounds`: {which} must be a number or have shape {w0.shape}, got shape {side.shape}.")
        sides.append(np.full(w0.shape, side))
    lower, upper = sides
    if np.count_nonzero((lower <= w0) & (w0 <= upper)) == w0.size:
        return lower, upper
    for side, which in ((lower, "lower"), (upper, "upper")):
        if np.isnan(side).any():
            raise ValueError(f"`bounds`: {which} must be without NaN, got {side!r}.")
    if (bad := np.flatnonzero(lower > upper)).size:
        i = bad[0]
        raise ValueError(f"`bounds` are inverted at index {i}: lower {lower[i]} > upper {upper[i]}.")
    i = np.flatnonzero((w0 < lower) | (w0 > upper))[0]
    raise ValueError(f"`{name}` is infeasible: {name}[{i}] = {w0[i]} lies outside `bounds` [{lower[i]}, {upper[i]}].")


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
        raise ValueError(f"`jac` must return shape (n, m) = ({shape[0]}, {m}), got {J.shape}.")
    return J


def as_beta(beta: Any, n: int) -> Array | None:
    """The Lipschitz constant of jac (1,), or one for each equation (n,), or None."""
    if beta is None:
        return None
    value = as_float(beta, "beta")
    if value.shape not in ((), (1,), (n,)):
        raise ValueError(f"`beta` must be a number or have shape (n,) = ({n},), got {value.shape}.")
    value = np.array(value, np.float64).reshape(-1)
    if not (np.isfinite(value).all() and (value >= 0.0).all()):
        raise ValueError(f"`beta` must be finite and >= 0, got {beta!r}.")
    return value


def size_of(J: Any) -> float:
    """The root of the sum of squares of all entries, not finite where one is not; 0 for a LinearOperator."""
    if isinstance(J, LinearOperator):
        return 0.0
    entries = J.ravel(order="K") if isinstance(J, np.ndarray) else J.data
    if entries.size < _FEW:
        return norm(entries) if entries.size else 0.0
    return math.sqrt(abs(float(entries.dot(entries))))  # several times faster


def is_finite(J: Any) -> bool:
    """Whether all entries of an array or a CSR matrix are finite; True for a LinearOperator, which has none."""
    return isinstance(J, LinearOperator) or bool(np.isfinite(J if isinstance(J, np.ndarray) else J.data).all())


def refuse_jacobian(J: Any, differenced: bool, names: Names) -> None:
    """Raise the error that says where J(w0) is not finite."""
    if differenced:
        i, j = np.argwhere(~np.isfinite(J))[0]
        raise ValueError(
            f"`jac`: {names.F} must be finite around {names.w0} to be differenced, but is not where {names.w0}[{j}] "
            "changes."
        )
    if isinstance(J, np.ndarray):
        i, j = np.argwhere(~np.isfinite(J))[0]
        raise ValueError(f"`jac({names.w0})` must be finite, but jac({names.w0})[{i}, {j}] is {J[i, j]}.")
    i = int(np.searchsorted(J.indptr, np.flatnonzero(~np.isfinite(J.data))[0], side="right")) - 1
    raise ValueError(f"`jac({names.w0})` must be finite, but row {i} of jac({names.w0}) is not.")


def check_operator(J: Any) -> None:
    """Raise unless a LinearOperator has working products J^T z and J v; one with ``gram`` is not called."""
    if not isinstance(J, LinearOperator):
        return
    n, m = J.shape
    if all(getattr(type(J), name) is getattr(LinearOperator, name) for name in ("_matvec", "_matmat")):
        raise not_working(J, "matvec", "it implements neither _matvec nor _matmat")
    if hasattr(J, "gram"):
        return
    product(J, "rmatvec", np.zeros(n))
    product(J, "matvec", np.zeros(m))


def product(J: Any, name: str, v: Array, argument: str = "jac") -> Array:
    """The product of an operator with v by its method of this name, as float64; errors name the argument.

    Exceptions of the operator's own are passed on. It is copied where the operator may fill the same array again.
    """
    single = {"matmat": "matvec", "rmatmat": "rmatvec"}.get(name)
    if single is not None and getattr(type(J), f"_{name}") is getattr(LinearOperator, f"_{name}"):
        return np.column_stack([product(J, single, column, argument) for column in v.T])  # as scipy, but with copies
    try:
        value = lasting(getattr(J, name)(v))
    except (NotImplementedError, TypeError, ValueError) as error:
        if not is_scipys(error):
            raise
        raise not_working(J, name, error, argument) from error
    return value if type(value) is np.ndarray and value.dtype is FLOAT64 else as_float(value, f"{argument}: {name}")


def is_scipys(error: Exception) -> bool:
    """Whether scipy raised it: a product is not implemented, or what it returned has another shape or type.

    No frame of the user's is then below that of `product`, the first one.
    """
    trace = error.__traceback__
    while trace is not None and (trace := trace.tb_next) is not None:
        if not str(trace.tb_frame.f_globals.get("__name__")).startswith(("scipy.", "numpy.", "plsolve.")):
            return False
    return True


def not_working(J: Any, name: str, error: Exception | str, argument: str = "jac") -> ValueError:
    """The error for a product of an operator that fails."""
    return ValueError(f"`{argument}`: the LinearOperator of shape {J.shape} has no working {name}: {error}")


def takes_rows(function: Any, n_args: int) -> tuple[bool, bool]:
    """Whether the function has a parameter ``rows`` that args do not fill, and whether it has no default."""
    if not callable(function):
        return False, False
    inner = function.func if isinstance(function, partial) else function
    inner = getattr(inner, "__wrapped__", inner)  # numba functions wrap plain ones
    code = getattr(inner, "__code__", None) or getattr(type(inner).__call__, "__code__", None)
    declared = hasattr(inner, "__wrapped__") or hasattr(function, "__signature__")
    if code is not None and "rows" not in code.co_varnames and not declared:
        return False, False  # saves inspect.signature, which takes 16 us
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
    """The options, after a check of the method and of their names; methods: the options of each method."""
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
    kind = options.get("linear_solver", "auto")
    if not (isinstance(kind, str) and kind in LINEAR_SOLVERS):
        raise ValueError(f"`options`: 'linear_solver' must be one of {', '.join(LINEAR_SOLVERS)}, got {kind!r}.")
    return options


def as_choice(value: Any, name: str, known: Sequence[str]) -> str:
    """A string that is one of the known ones."""
    if not (isinstance(value, str) and value in known):
        raise ValueError(f"`{name}` must be one of {', '.join(known)}, got {shown(value)}.")
    return value


def generator(rng: Any, name: str = "rng") -> np.random.Generator | None:
    """A generator from a seed. None for None: creating one takes as long as a small step, and only SGD needs it."""
    if rng is None:
        return None
    seeds = rng if isinstance(rng, (list, tuple, np.ndarray)) else [rng]
    refusal = f"`{name}` must be None, an integer >= 0 or a numpy Generator, got {shown(rng)}."
    if not (isinstance(rng, _SOURCES) or all(map(is_integer, seeds))):
        raise TypeError(refusal)
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise type(error)(refusal) from None


def is_integer(value: Any) -> bool:
    """Whether the value is one integer, and not a truth value."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def as_flag(value: Any, name: str) -> bool:
    """True or False."""
    if isinstance(value, (bool, np.bool_)) or (is_integer(value) and value in (0, 1)):
        return bool(value)
    raise TypeError(f"`{name}` must be True or False, got {shown(value)}.")


def as_count(value: Any, name: str, least: int, most: int = sys.maxsize) -> int:
    """An integer >= least and <= most; if most is sys.maxsize, larger integers are allowed, too."""
    if not is_integer(value):
        raise TypeError(f"`{name}` must be an integer >= {least}, got {shown(value)}.")
    if value < least:
        raise ValueError(f"`{name}` must be an integer >= {least}, got {shown(value)}.")
    if most < sys.maxsize and value > most:
        raise ValueError(f"`{name}` must be at most {most}, got {shown(value)}.")
    return min(int(value), most)


def is_real(value: Any) -> bool:
    """Whether the value is one real number, and not a truth value."""
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def as_number(value: Any, name: str) -> float:
    """One real number."""
    if type(value) is float:
        return value  # the usual case
    if not is_real(value):
        raise TypeError(f"`{name}` must be a number, got {type(value).__name__}.")
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def as_tolerance(value: Any, name: str) -> float:
    """A number >= 0, finite."""
    number = as_number(value, name)
    if not 0.0 <= number < math.inf:
        raise ValueError(f"`{name}` must be >= 0 and finite, got {shown(value)}.")
    return number


def as_deadline(max_time: Any) -> float:
    """The time of the clock at which max_time will have passed."""
    seconds = math.inf if max_time is None else as_number(max_time, "max_time")
    return _clock.now() + as_tolerance(seconds, "max_time") if seconds != math.inf else math.inf


def shown(value: Any) -> str:
    """The value in a message, shortened where it is long."""
    text = repr(value) if not is_integer(value) or abs(value) < 1 << 64 else f"an integer of {value.bit_length()} bits"
    return text if len(text) <= 80 else f"{text[:60]} ... {text[-15:]}"


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Issue a warning at the nearest caller outside the package."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == _PACKAGE:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
