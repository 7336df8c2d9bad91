"""The user's F and jac behind one interface, which counts their calls and protects arrays from being overwritten."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import issparse
from scipy.sparse.linalg import LinearOperator

from plsolve import _clock
from plsolve import _differences as differences
from plsolve._checks import DIFFERENCES, Names, as_float, as_matrix, as_real, as_vector, product, shown, takes_rows
from plsolve._geometry import EMPTY, Box
from plsolve._lasting import lasting
from plsolve._linalg import FLOAT64, UNIT, Array, norm
from plsolve._run import Run
from plsolve._stopping import Ended, Status
from plsolve._tangent.rows import PIECE_NUMBERS, pieces

Indices = npt.NDArray[np.int64]
PIECE_ROWS = 2048  # rows in one call of F, where it is evaluated by rows


class System:
    """The system F(w) = y as given.

    Attributes
    ----------
    n, m : int
        Numbers of equations and unknowns; n is known from the first value of F.
    y : ndarray (n,)
        Target.
    nfev, njev, nfev_jac : int
        Calls of F, Jacobians evaluated at a point, calls of F for differences.
    max_nfev : float
        Limit of nfev.
    rows_F : bool
        Whether F can evaluate some equations only.
    differenced : bool
        Whether J comes from differences, and so is not exact.
    precision : float
        Relative spacing of the floats in the last value of F.
    narrow : bool
        Whether F or jac has returned less than double precision.
    names : Names
        The names of the functions and arguments in messages.
    """

    n = 0
    nfev = njev = nfev_jac = 0
    precision = 2 * UNIT
    narrow = False
    _pair: tuple[Array, Any] | None = None  # a point and J there, if F returns both

    def __init__(
        self,
        F: Any,
        jac: Any,
        *,
        m: int,
        y: Any,
        args: Any,
        box: Box,
        run: Run,
        diff_step: Array | None,
        mapped: Callable[..., Iterable[Any]] | None,
        max_nfev: float,
        by_rows: bool,
        names: Names,
    ) -> None:
        self.names, self.m, self.max_nfev = names, m, max_nfev
        self._F, self._jac, self._box, self._run = F, jac, box, run
        self.differenced = not (callable(jac) or jac is True)
        self._F_reads = bool(getattr(F, "reads_only", False))
        self._jac_reads = bool(getattr(jac, "reads_only", False))
        self._args: tuple[Any, ...] = args if isinstance(args, tuple) else (args,)
        self.y = EMPTY if y is None else as_vector(y, names.y)
        self._diff_step, self._mapped = diff_step, mapped
        self.rows_F, self._full_F = self._rows_protocol(F, y is None)
        self._rows_jac, self._full_jac = self._rows_protocol(jac, y is None)
        self._wanted_by_rows = by_rows

    def first(self, w0: Array) -> Array:
        """F(w0) (n,), which determines n; it may be the user's own array."""
        f0 = self._whole(w0)
        self.n = f0.size
        if self.y is EMPTY:
            self.y = np.zeros(self.n)
        return f0

    def _rows_protocol(self, function: Any, no_target: bool) -> tuple[bool, dict[str, Any]]:
        """Whether F or jac takes `rows`, and the keywords with which all rows are evaluated."""
        takes, required = takes_rows(function, len(self._args))
        if required and no_target:
            name = self.names.y
            raise ValueError(
                f"`{name}` is required when {self.names.F} or jac has a parameter `rows` without a default."
            )
        return takes, {"rows": np.arange(self.y.size)} if required else {}

    # -- properties of the functions -----------------------------------------------------------------------------------

    def functions(self) -> tuple[Any, Any, tuple[Any, ...], tuple[bool, bool], tuple[bool, bool]]:
        """F, jac, args; whether F and jac take `rows`; whether they require it."""
        required = bool(self._full_F), bool(self._full_jac)
        return self._F, self._jac, self._args, (self.rows_F, self._rows_jac), required

    @property
    def of_numba(self) -> bool:
        """Whether F is a numba function, and jac is one or not given."""
        if not type(self._F).__module__.startswith("numba."):
            return False
        return not callable(self._jac) or type(self._jac).__module__.startswith("numba.")

    @property
    def rows_of_J(self) -> bool:
        """Whether some rows of J can be computed without the others."""
        return self._rows_jac or (self._jac is True and self.rows_F)

    @property
    def by_rows(self) -> bool:
        """Whether F and J are evaluated by rows and never as a whole: it was requested, is possible, and J is large."""
        return self._wanted_by_rows and self.rows_F and self.rows_of_J and self.y.size * self.m > PIECE_NUMBERS

    def read_by_rows(self) -> None:
        """Evaluate F and J by rows if that is possible and J is large."""
        self._wanted_by_rows = True

    def count(self, nfev: int = 0, njev: int = 0, nfev_jac: int = 0) -> None:
        """Add calls that were made elsewhere."""
        self.nfev += nfev
        self.njev += njev
        self.nfev_jac += nfev_jac

    def go_on(self, counts: dict[str, int], narrow: bool) -> None:
        """Add the counts of an earlier process, and whether its F or jac returned less than double precision."""
        self.count(**counts)
        self.narrow |= narrow

    @property
    def counts(self) -> dict[str, int]:
        """The counts of calls so far, by their names in a Result."""
        return {"nfev": self.nfev, "njev": self.njev, "nfev_jac": self.nfev_jac}

    def forget(self) -> None:
        """Release the last J."""
        self._pair = None

    # -- F -------------------------------------------------------------------------------------------------------------

    def residual(self, w: Array) -> Array:
        """F(w) - y (n,), a new array."""
        return self._whole(w) - self.y

    def residual_rows(self, w: Array, rows: Indices) -> Array:
        """F(w) - y for some equations (s,), if F takes `rows`."""
        return self._call_rows(w, rows) - self.y[rows]

    def _whole(self, w: Array) -> Array:
        """F(w) (n,), which may be the user's own array; evaluated in pieces if by rows, which reserves time for it."""
        if not self.by_rows:
            self.nfev += 1
            return self._call(w, self.n or None)
        begun, size = _clock.now(), max(1, PIECE_NUMBERS // self.m) if self._jac is True else PIECE_ROWS
        f = np.concatenate([self._call_rows(w, rows) for rows in pieces(self.y.size, size)])
        self._pair = None
        self._run.reserve(_clock.now() - begun)
        return f

    def _call_rows(self, w: Array, rows: Indices) -> Array:
        """The entries ``rows`` of F(w)."""
        self.nfev += 1
        f = self._run.theirs(self._F, given(self._F_reads, w), *self._args, rows=rows.copy())
        if self._jac is True:
            f, J = self._both(f)
            self._pair = w, J  # valid until F is called again
        return self._vector(f, rows.size)

    def _call(self, w: Array, size: int | None = None) -> Array:
        """F(w), called with a copy of w, so that F may overwrite it (but see `given`)."""
        f = self._run.theirs(self._F, given(self._F_reads, w), *self._args, **fresh(self._full_F))
        if self._jac is True:
            f, *J = self._both(f)
            self._pair = w, lasting(J.pop())
        return self._vector(f, size)

    def _both(self, value: Any) -> list[Any]:
        """F(w) and J, where F returns the pair."""
        try:
            parts = list(value)
        except TypeError:
            parts = []
        if len(parts) != 2:
            pair = "({0}({1}), J({1}))".format(*self.names)
            raise ValueError(f"`jac=True` means that {self.names.F} returns the pair {pair}; it did not.")
        return parts

    def _vector(self, f: Any, size: int | None) -> Array:
        """The value of F as float64 (n,); it may be the user's own array and must not be kept or overwritten."""
        if type(f) is np.ndarray and f.dtype is FLOAT64 and f.shape == (size or f.size or 1,):  # the usual case
            self.precision = 2 * UNIT
            return f
        name = self.names.F
        numbers = as_real(f, f"{name}({self.names.w})")
        value, self.precision = as_float(numbers, name), precision(numbers)
        self.narrow |= self.precision > 2 * UNIT
        if value.ndim == 0:
            value = value.reshape(1)
        if value.ndim != 1 or value.size == 0:
            raise ValueError(f"`{name}` must return a vector with at least one entry, got shape {value.shape}.")
        if size is not None and value.size != size:
            raise ValueError(f"`{name}` must return {size} numbers here, got {value.size}.")
        return value

    # -- J -------------------------------------------------------------------------------------------------------------

    def jacobian(self, w: Array, r: Array, precise: bool) -> Any:
        """J at w, where F(w) - y is r; precise asks for central differences where jac is None."""
        self.njev += 1
        if callable(self._jac):
            jac = partial(self._jac, given(self._jac_reads, w), *self._args, **fresh(self._full_jac))
            return lasting(self._matrix(self._run.theirs(jac)))
        if self._jac is True:
            if self._pair is None or self._pair[0] is not w:
                self.residual(w)
            assert self._pair is not None
            return self._matrix(self._pair[1])
        central = self._jac == "3-point" or (self._jac is None and precise)
        build = partial(self._differences, w=w, r=r, central=central)
        f = self._complex if self._jac == "cs" else self._moved
        return build(f) if self._mapped is None else differences.ahead(build, f, self._all_at_once, w, r)

    def jacobian_rows(self, w: Array, rows: Indices) -> Any:
        """The given rows of J without the others; if F returns both, it was called for the same rows before."""
        self.njev += 1
        if self._jac is True:
            assert self._pair is not None
            return as_matrix(self._pair[1], rows.size, self.m)
        J = self._run.theirs(self._jac, given(self._jac_reads, w), *self._args, rows=rows.copy())
        return as_matrix(J, rows.size, self.m)

    def part(self, w: Array, rows: Indices) -> Any:
        """The given rows of J, for use outside the run's steps."""
        if self._jac is True:
            self._call_rows(w, rows)
        return self.jacobian_rows(w, rows)

    def _matrix(self, J: Any) -> Any:
        """The value of jac for all equations, checked and in a uniform type."""
        if type(J) is not np.ndarray and not (isinstance(J, LinearOperator) or issparse(J)):
            J = as_real(J, "jac(w)")
        matrix = as_matrix(J, self.n, self.m)
        self.narrow |= precision(J) > 2 * UNIT
        return matrix

    # -- differences ---------------------------------------------------------------------------------------------------

    def _differences(self, f: Callable[[Any], Any], w: Array, r: Array, central: bool) -> Array:
        """DF(w) from values of f, where f is F - y, or F at complex points."""
        if self._jac == "cs":
            return differences.complex_jacobian(f, w, self.n)
        if self._diff_step is None:
            magnitude = np.abs(r) + np.abs(self.y)
            return differences.jacobian(f, w, r, magnitude, central, self._box, self.precision)
        steps = self._diff_step * np.abs(w)
        least = (2 * UNIT) ** (1 / 3 if central else 1 / 2) * np.maximum(1.0, np.abs(w))  # scipy's, if |w| = 0
        steps = np.where((w + steps) - w == 0.0, least, steps)
        return differences.stepped_jacobian(f, w, r, steps, central, self._box)

    def _moved(self, w: Array) -> Array:
        """F - y at a point of a difference scheme."""
        if self._run.late():
            raise Ended(Status.MAX_TIME)
        if not (norm(w) < math.inf or np.isfinite(w).all()):
            return np.full(self.n, np.nan)
        self.nfev_jac += 1
        return self._call(w, self.n) - self.y

    def _complex(self, z: Any) -> Any:
        """F at a complex point."""
        self.nfev_jac += 1
        values = np.atleast_1d(np.asarray(self._run.theirs(self._F, z, *self._args, **fresh(self._full_F))))
        if values.shape != (self.n,) or values.dtype.kind != "c":
            raise ValueError(
                f"`jac='cs'` needs {self.names.F} to return {self.n} complex numbers at a complex {self.names.w}, "
                f"got dtype {values.dtype}, shape {values.shape}."
            )
        return values

    def _all_at_once(self, points: list[Any]) -> list[Array]:
        """F - y at all points, or F at complex points, by the map that the caller has provided."""
        self.nfev_jac += len(points)
        called, mapped = partial(_called, self._F, self._args, self._full_F), self._mapped
        assert mapped is not None
        values = self._run.theirs(lambda: as_values(mapped(called, points), len(points)))
        if self._jac == "cs":
            return [np.asarray(value).reshape(self.n) for value in values]
        return [self._vector(value, self.n) - self.y for value in values]


def check_functions(F: Any, jac: Any, names: Names) -> None:
    """Raise unless F is callable and jac is a valid choice."""
    if not callable(F):
        raise TypeError(f"`{names.F}` must be callable, got {type(F).__name__}.")
    if not (jac is None or jac is True or callable(jac) or (isinstance(jac, str) and jac in DIFFERENCES)):
        error = ValueError if isinstance(jac, str) else TypeError
        raise error(f"`jac` must be callable, True, None or one of {', '.join(DIFFERENCES)}, got {shown(jac)}.")


def given(reads_only: bool, w: Array) -> Array:
    """The argument for a function: a copy of w, or w itself, read-only, if its attribute ``reads_only`` is True."""
    if not reads_only:
        return w.copy()
    w.flags.writeable = False
    return w


def fresh(keywords: dict[str, Any]) -> dict[str, Any]:
    """The keywords with copies of their arrays, which a function may overwrite."""
    return {name: value.copy() for name, value in keywords.items()} if keywords else keywords


def precision(value: Any) -> float:
    """The relative spacing of the floats in a value of F or jac, at least that of float64."""
    kind = getattr(value, "dtype", None)
    if kind is None and not isinstance(value, LinearOperator):
        kind = np.asarray(value).dtype
    if kind is None or kind is FLOAT64 or np.dtype(kind).kind != "f":
        return 2 * UNIT
    return max(float(np.finfo(kind).eps), 2 * UNIT)


def as_values(values: Any, count: int) -> list[Any]:
    """What the map of ``workers`` has made of so many points."""
    if not hasattr(values, "__iter__"):
        raise TypeError(f"`workers` must return one value for each point, got {type(values).__name__}.")
    found = list(values)
    if len(found) != count:
        raise ValueError(f"`workers` must return one value for each of {count} points, got {len(found)}.")
    return found


def _called(F: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any], w: Array) -> Any:
    f = F(w.copy(), *args, **fresh(keywords))  # F may overwrite w
    return f.copy() if isinstance(f, np.ndarray) else f  # F may fill the same array at every call


def some(J: Any, rows: Indices) -> Any:
    """The given rows of J, which may be an array, sparse or an operator."""
    if not isinstance(J, LinearOperator):
        return J[rows]
    n = J.shape[0]

    def rmatvec(z: Array) -> Array:
        full = np.zeros(n)
        np.add.at(full, rows, z.ravel())
        return product(J, "rmatvec", full)

    return LinearOperator((rows.size, J.shape[1]), lambda v: product(J, "matvec", v)[rows], rmatvec, dtype=np.float64)
