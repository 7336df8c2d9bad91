"""The user's system made uniform once: F, jac, y, bounds and scale behind two methods that count what they call."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext, suppress
from contextvars import copy_context
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import issparse
from scipy.sparse.linalg import LinearOperator

from plsolve import _differences as differences
from plsolve._checks import (
    DIFFERENCES,
    Names,
    as_bounds,
    as_float,
    as_matrix,
    as_real,
    as_vector,
    check_finite,
    check_operator,
    is_finite,
    refuse_jacobian,
    shown,
    size_of,
    takes_rows,
)
from plsolve._lasting import lasting
from plsolve._linalg import FLOAT64, HUGE, UNIT, Array, column_lengths, norm
from plsolve._losses import Loss, scaled_rows
from plsolve._stopping import JACOBIAN_NOT_FINITE, JACOBIAN_OUT_OF_RANGE, Ended, Status
from plsolve._tangent import LinearSolver, Tangent, tangent

Indices = npt.NDArray[np.int64]
EMPTY: Array = np.zeros(0)
NOTHING = nullcontext()
CALLED = Names()
SMALL = 1e-6  # of the terms of F: a residual that counts as zero
NEGLIGIBLE = 1e-7  # times the largest x_scale: squares of smaller ones are lost beside it in J D^2 J^T
DIFFERENT = 1e3  # times the least norm of a column of J: unknowns that are scaled unasked; 30 to 1e4 do as well


def given(reads_only: bool, w: Array) -> Array:
    """What a function gets: a copy of w, or w itself, made read-only, where its attribute ``reads_only`` is True."""
    if not reads_only:
        return w.copy()
    w.flags.writeable = False
    return w


def fresh(keywords: dict[str, Any]) -> dict[str, Any]:
    """The same with copies, which a function may write to."""
    return {name: value.copy() for name, value in keywords.items()} if keywords else keywords


class AtWork:
    """Overflow is expected here, and whatever is raised carries the best point to the user.

    F, jac and callback see his settings for floating-point errors, those that were in force outside.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem, self._numpy, self._inside = problem, np.errstate(all="ignore"), problem.working

    def __enter__(self) -> None:
        if not self._inside:
            self._problem.theirs, self._problem.working = copy_context().run, True
        self._numpy.__enter__()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._numpy.__exit__(kind, error, trace)
        self._problem.working = self._inside
        if error is not None:
            self._problem.attach_best(error)


class Problem:
    """r(w) = F(w) - y and its linearisation, with bounds and the metric of the step.

    Parameters are those of `plsolve.solve`, which documents them; every one is checked here, before any step.

    Attributes
    ----------
    n, m : int
        Numbers of equations and unknowns.
    size0 : float
        max(||y||, ||F(w0)||).
    target, enough, sure : float
        What ||r|| must fall to, as far as is known; what it must fall to before `accepts` is worth a look; what it
        accepts wherever the run is.
    best, best_residual, least : ndarray (m,), ndarray (n,), float
        The best point F was evaluated at (those of differences do not count), r there, and ||r||.
    nfev, njev, nfev_jac : int
        Calls of F, Jacobians evaluated at a point, calls of F for differences.
    max_nfev : float
        Limit of nfev: see ``spent``.
    diff_step : ndarray or None
        Steps of differences as multiples of |w|, where they are given.
    mapped : callable or None
        What evaluates F at the points of differences, as ``map`` does.
    flat, flat_gradient : float
        The run may end where no step promises to reduce ||r||^2 by more than the share ``flat`` of it, or where no
        entry of J^T r exceeds ``flat_gradient``.
    names : Names
        What messages call the functions and arguments.
    loss : Loss or None
        With a robust loss the residual of the problem is the transformed one.
    plain_J : ndarray, sparse or LinearOperator
        With a robust loss: DF at the point of the last linearisation.
    """

    bounded = False
    lower = upper = EMPTY
    nfev = njev = nfev_jac = 0
    flat = flat_gradient = 0.0
    precision = 2 * UNIT  # of what F returns
    narrow = False  # F or jac has returned less than double precision
    deadline = math.inf
    note = ""  # why the run ended, where the status does not say it
    working = False  # inside `at_work`
    failed = False  # the last step ended the run; compiled code cannot raise exceptions
    ended: Ended | None = None  # what it raised
    _last: tuple[Array, bool, Tangent] | None = None
    _pair: tuple[Array, Any] | None = None
    _sample: tuple[Indices, Tangent] | None = None  # the last tangent of some equations
    _least_plain = math.inf
    _largest: Array = EMPTY  # norms of the columns of J so far

    def __init__(
        self,
        F: Any,
        jac: Any,
        w0: Any,
        y: Any,
        args: Any,
        bounds: Any,
        x_scale: Any,
        tol: float,
        rng: np.random.Generator | None,
        *,
        eps: float = 0.0,
        diff_step: Array | None = None,
        mapped: Callable[..., Iterable[Any]] | None = None,
        loss: Loss | None = None,
        max_nfev: float = math.inf,
        names: Names = CALLED,
    ) -> None:
        self.names = names
        if not callable(F):
            raise TypeError(f"`{names.F}` must be callable, got {type(F).__name__}.")
        if not (jac is None or jac is True or callable(jac) or (isinstance(jac, str) and jac in DIFFERENCES)):
            error = ValueError if isinstance(jac, str) else TypeError
            raise error(f"`jac` must be callable, True, None or one of {', '.join(DIFFERENCES)}, got {shown(jac)}.")
        self.w0 = as_vector(w0, names.w0)
        self.m = self.w0.size
        self._F, self._jac = F, jac
        self.theirs = copy_context().run  # calls a function of the user's: see `AtWork`
        self._F_reads = bool(getattr(F, "reads_only", False))
        self._jac_reads = bool(getattr(jac, "reads_only", False))
        self._args: tuple[Any, ...] = args if isinstance(args, tuple) else (args,)
        self.y = EMPTY if y is None else as_vector(y, names.y)
        if bounds is not None:
            self.lower, self.upper = as_bounds(bounds, self.w0, names.w0)
            self.bounded = bool(np.isfinite(self.lower).any() or np.isfinite(self.upper).any())
        self._jac_scale = isinstance(x_scale, str) or x_scale is None
        self._auto_scale = x_scale is None  # 'jac' where that may not disturb the minimum-norm step
        self.scale = EMPTY if type(x_scale) is float and x_scale == 1.0 else self._as_scale(x_scale)
        self.max_nfev = max_nfev
        self.loss = loss
        self.plain_J: Any = None
        self._plain: list[tuple[Array, Array]] = []
        self._diff_step, self._mapped = diff_step, mapped
        self._rng = rng
        self.linear_solver = LinearSolver()
        self._rows_F, self._full_F = self._rows_protocol(F, y is None)
        self._rows_jac, self._full_jac = self._rows_protocol(jac, y is None)
        self.nfev += 1
        self.best = self.w0
        try:
            f0 = self._call(self.w0)
        except BaseException as error:
            self.attach_best(error)
            raise
        self.n = f0.size
        if y is None:
            self.y = np.zeros(self.n)
        if self.y.size != self.n:
            at = f"{names.F}({names.w0})"
            raise ValueError(f"`{names.y}` must have as many entries as {at}, {self.n}, got {self.y.size}.")
        size = norm(f0)
        if not size < math.inf:
            check_finite(f0, f"{names.F}({names.w0})")
        with np.errstate(all="ignore") if size > HUGE or loss is not None else NOTHING:
            self.r0 = self.best_residual = self._transformed(self.w0, f0 - self.y)
        self.size_y = 0.0 if y is None else norm(self.y)
        self.least = norm(self.r0)
        self.size0 = max(self.size_y, size)
        self._tol, self._noise = tol, math.sqrt(2.0 * eps)
        self.sure = max(self._noise, tol * self.size_y)
        self._coarse = self.narrow and tol > 0.0  # tol may be below what the floats of F can tell
        self.target = (max(tol, 2.0 * self.precision) if self._coarse else tol) * self.size0
        self.enough = max(self.target, self._noise)

    def at_work(self) -> AtWork:
        """Where the library computes."""
        return AtWork(self)

    def attach_best(self, error: BaseException) -> None:
        """Let an exception that is to reach the user carry ``best``."""
        with suppress(Exception):  # it may refuse attributes
            error.best = self.best.copy()  # type: ignore[attr-defined]

    def _as_scale(self, x_scale: Any) -> Array:
        if x_scale is None:
            return EMPTY
        if isinstance(x_scale, str):
            if x_scale != "jac":
                raise ValueError(f"`x_scale` must be 'jac' or positive numbers, got {shown(x_scale)}.")
            return EMPTY
        scale = as_float(x_scale, "x_scale")
        if scale.shape not in ((), (1,), (self.m,)):
            raise ValueError(f"`x_scale` must be a number or have shape ({self.m},), got {scale.shape}.")
        if np.count_nonzero((scale > 0.0) & (scale < math.inf)) < scale.size:
            raise ValueError(f"`x_scale` must be positive and finite, got {shown(x_scale)}.")
        if (scale == 1.0).all():
            return EMPTY
        return np.full(self.m, np.maximum(scale, NEGLIGIBLE * scale.max()))

    @cached_property
    def rng(self) -> np.random.Generator:
        return np.random.default_rng() if self._rng is None else self._rng

    # -- F ------------------------------------------------------------------------------------------------------------

    def _rows_protocol(self, function: Any, no_target: bool) -> tuple[bool, dict[str, Any]]:
        """Whether F or jac takes `rows`, and the keywords of its full evaluations."""
        takes, required = takes_rows(function, len(self._args))
        if required and no_target:
            name = self.names.y
            raise ValueError(
                f"`{name}` is required when {self.names.F} or jac has a parameter `rows` without a default."
            )
        return takes, {"rows": np.arange(self.y.size)} if required else {}

    def _vector(self, f: Any, size: int | None) -> Array:
        """What F returned, as float64 (n,): perhaps the user's own array, so not to be kept or written to."""
        if type(f) is np.ndarray and f.dtype is FLOAT64 and f.shape == (size or f.size or 1,):  # the quick way
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

    def _call(self, w: Array, size: int | None = None) -> Array:
        """F(w), of a copy of w, so that F may write into it (but see `given`)."""
        f = self.theirs(self._F, given(self._F_reads, w), *self._args, **fresh(self._full_F))
        if self._jac is True:
            try:
                f, *J = f
            except TypeError:
                J = []
            if len(J) != 1:
                pair = "({0}({1}), J({1}))".format(*self.names)
                raise ValueError(f"`jac=True` means that {self.names.F} returns the pair {pair}; it did not.")
            self._pair = w, lasting(J.pop())
        return self._vector(f, size)

    def residual(self, w: Array) -> Array:
        """F(w) - y (n,), a new array, which may be non-finite, as it is where w is."""
        if not (norm(w) < math.inf or np.isfinite(w).all()):
            return np.full(self.n, np.nan)
        self.nfev += 1
        r = self._transformed(w, self._call(w, self.n) - self.y)
        size = norm(r)
        if size < self.least:
            self.best, self.best_residual, self.least = w, r, size
        return r

    def late(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() >= self.deadline

    def accepts(self, w: Array, r: Array) -> bool:
        """Whether r at w counts as solved: noise, or within `tol` of what F was at w0, and small beside its terms at w.

        F(w0) may be so large that a residual small beside it proves nothing; |J| (|w| + |w - w0|) is what cancels in F
        near w. Where with the last J at hand, of the point before, it leaves a doubt, J at w decides, and `tol` is
        relative to the terms of w and of the last step.
        """
        size = norm(r)
        if size <= self.sure:
            return True
        if size > self.enough:
            return False
        bound = self._tol * self.size0
        if bound > max(SMALL, self._tol) * max(self.size_y, self._terms(w, w - self.w0)):
            before = w
            if self._last is not None and self._sample is None:
                before = self._last[0]
                self.linearise(w, r, False)
            bound = self._tol * min(self.size0, max(self.size_y, self._terms(w, w - before)))
        if self._coarse and self._last is not None:
            bound = max(bound, self.rounding_level(w, r, self._last[2]))
        self.target = bound
        return size <= bound

    def _terms(self, w: Array, p: Array) -> float:
        """|| |J| (|w| + |p|) || with the last J at hand, or what a sample of its rows tells of it."""
        if self._sample is not None:
            rows, T = self._sample
            return math.sqrt(self.n / rows.size) * (T.magnitude(w) + T.magnitude(p))
        if self._last is None:
            return 0.0
        T = self._last[2]
        return T.magnitude(w) + T.magnitude(p)

    @property
    def spent(self) -> bool:
        """Whether F may not be called any more."""
        return self.nfev >= self.max_nfev

    def _transformed(self, w: Array, r: Array) -> Array:
        """The residual that carries the robust loss; the plain one of the best point and of the last is kept."""
        if self.loss is None:
            return r
        t = self.loss.transform(r)
        size = norm(t)
        if not self._plain or size <= self._least_plain:
            self._least_plain, self._plain = size, [(w, r)]
        else:
            self._plain[1:] = [(w, r)]
        return t

    def plain_residual(self, w: Array, r: Array) -> Array:
        """F(w) - y (n,) where r is the residual of the problem at w."""
        if self.loss is None:
            return r
        for point, plain in self._plain:
            if np.array_equal(point, w):
                return plain
        self.residual(w)
        return self._plain[-1][1]

    def residual_rows(self, w: Array, rows: Indices) -> Array:
        """The residual of some equations (s,); all are evaluated where F has no `rows`."""
        if not self._rows_F and self.loss is None:
            return self.residual(w)[rows]
        self.nfev += 1
        if self._rows_F:
            f = self.theirs(self._F, given(self._F_reads, w), *self._args, rows=rows.copy())
            if self._jac is True:
                f, J = f
                self._pair = w, J  # to be used before F is called again
            f = self._vector(f, rows.size)
        else:
            f = self._call(w, self.n)[rows]
        return f - self.y[rows]

    # -- J ------------------------------------------------------------------------------------------------------------

    def linearise(self, w: Array, r: Array, precise: bool) -> Tangent:
        """The tangent at w, where r is the residual; precise asks for central differences where jac is None."""
        if self._last is not None and self._last[0] is w and self._last[1] >= (precise and self.differenced):
            return self._last[2]
        self._last = None  # so that there are never two of them in memory
        self.njev += 1
        plain = self.plain_residual(w, r)
        J = self._jacobian(w, plain, precise)
        size = size_of(J)
        if not size < HUGE and not is_finite(J):
            if self.njev > 1:
                raise Ended(Status.STALLED, JACOBIAN_NOT_FINITE)
            refuse_jacobian(J, self.differenced, self.names)
        if self.njev == 1:
            check_operator(J)
        if self.loss is not None:
            self.plain_J = J
            J = scaled_rows(J, self.loss.derivative(plain))
        if self._jac_scale and not (self._auto_scale and (self.n < self.m or isinstance(J, LinearOperator))):
            self._update_scale(J)
        if self.scale.size and not size * float(self.scale.max()) < HUGE:
            size = norm(self.scale * column_lengths(J))
        if not size < HUGE:
            raise Ended(Status.STALLED, JACOBIAN_OUT_OF_RANGE)
        T = tangent(J, self.scale, self.linear_solver)
        self._last = w, precise, T
        return T

    def remembered(self, w: Array) -> Array:
        """The point of the last linearisation where that equals w, so that it need not be made again."""
        return self._last[0] if self._last is not None and np.array_equal(self._last[0], w) else w

    def is_linearised(self, w: Array) -> bool:
        """Whether the last linearisation was at w, and is as good as it can be."""
        last = self._last
        return last is not None and (last[1] or not self.differenced) and not np.count_nonzero(last[0] != w)

    def forget(self) -> None:
        """Let go of the last J."""
        self._last = self._pair = self._sample = self.plain_J = None

    @property
    def latest(self) -> tuple[Array, Tangent] | None:
        """The point of the last linearisation, and the tangent there."""
        return None if self._last is None else (self._last[0], self._last[2])

    def known(self, w: Array) -> Array | None:
        """J at w, in C order, where the last linearisation was there, and differences not central ones."""
        last = self._last
        if last is None or last[0] is not w or (last[1] and self.differenced) or not isinstance(last[2].J, np.ndarray):
            return None
        return np.ascontiguousarray(last[2].J)

    def linearise_rows(self, w: Array, rows: Indices) -> Tangent:
        """The tangent of some equations."""
        self.njev += 1
        if self._jac is True and self._rows_F:
            assert self._pair is not None  # the residual of the same rows came first
            J = as_matrix(self._pair[1], rows.size, self.m)
        elif self._rows_jac:
            J = self.theirs(self._jac, given(self._jac_reads, w), *self._args, rows=rows.copy())
            J = as_matrix(J, rows.size, self.m)
        else:
            r = self.residual(w) if self.differenced else EMPTY
            J = self._jacobian(w, r, False)
            J = J.T[:, rows].T if isinstance(J, np.ndarray) and J.flags.f_contiguous else _take(J, rows)
        T = tangent(J, self.scale, self.linear_solver)
        self._sample = rows, T
        return T

    @property
    def differenced(self) -> bool:
        """Whether jac comes from differences that can still be refined or that never are exact."""
        return not (callable(self._jac) or self._jac is True)

    def functions(self) -> tuple[Any, Any, tuple[Any, ...], tuple[bool, bool], tuple[bool, bool]]:
        """F, jac, args, whether F and jac take `rows`, and whether they must be given them."""
        required = bool(self._full_F), bool(self._full_jac)
        return self._F, self._jac, self._args, (self._rows_F, self._rows_jac), required

    @property
    def weights(self) -> Any:
        """What makes unknowns of different size comparable: 1/x_scale, or the norms of the columns of J (MINPACK)."""
        if self._largest.size:
            return self._largest
        return 1.0 / self.scale if self.scale.size else 1.0

    def column_norms(self) -> tuple[Array, Array]:
        """The scale, and where it comes from J the largest norms of its columns so far (0: none), else empty."""
        if not self._jac_scale or (self._auto_scale and self.n < self.m):
            return self.scale, EMPTY
        largest = self._largest if self._largest.size else np.zeros(self.m)
        return (self.scale if self.scale.size else np.ones(self.m)), largest

    def take_norms(self, largest: Array, scaled: bool) -> None:
        """The largest norms of the columns of J, and whether they are the scale: from a run in compiled code."""
        if largest.any():
            self._largest = largest
            self.scale = self._scale_of(largest) if scaled else EMPTY

    @property
    def unasked(self) -> bool:
        """Whether the scale comes from J without being asked for: see `scale_unasked`."""
        return self._auto_scale

    @property
    def tolerance(self) -> tuple[float, bool]:
        """`tol`, and whether the floats that F returns may not tell so much."""
        return self._tol, self._coarse

    @property
    def of_numba(self) -> bool:
        """Whether F and jac are numba functions, or F is and jac is to be differenced."""
        if not type(self._F).__module__.startswith("numba."):
            return False
        return not callable(self._jac) or type(self._jac).__module__.startswith("numba.")

    @property
    def has_rows(self) -> bool:
        """Whether both F and jac can evaluate some equations alone."""
        return self._rows_F and (self._rows_jac or self._jac is True)

    def _matrix(self, J: Any) -> Any:
        """What jac returned for all equations."""
        if type(J) is not np.ndarray and not (isinstance(J, LinearOperator) or issparse(J)):
            J = as_real(J, "jac(w)")
        matrix = as_matrix(J, self.n, self.m)
        self.narrow |= precision(J) > 2 * UNIT
        return matrix

    def _jacobian(self, w: Array, r: Array, precise: bool) -> Any:
        if callable(self._jac):
            jac = partial(self._jac, given(self._jac_reads, w), *self._args, **fresh(self._full_jac))
            return lasting(self._matrix(self.theirs(jac)))
        if self._jac is True:
            if self._pair is None or self._pair[0] is not w:
                self.residual(w)
            assert self._pair is not None
            return self._matrix(self._pair[1])
        central = self._jac == "3-point" or (self._jac is None and precise)
        build = partial(self._differences, w=w, r=r, central=central)
        return build(self) if self._mapped is None else differences.ahead(self, build, self._mapped, w, r)

    def _differences(self, source: Any, w: Array, r: Array, central: bool) -> Array:
        """DF(w) from the values of F that the source gives."""
        if self._jac == "cs":
            return differences.complex_jacobian(source, w, self.n)
        if self._diff_step is not None:
            steps = self._diff_step * np.abs(w)
            least = (2 * UNIT) ** (1 / 3 if central else 1 / 2) * np.maximum(
                1.0, np.abs(w)
            )  # scipy's, where that is no step
            steps = np.where((w + steps) - w == 0.0, least, steps)
            return differences.stepped_jacobian(source, w, r, steps, central)
        return differences.jacobian(source, w, r, np.abs(r) + np.abs(self.y), central, self.precision)

    def difference_residual(self, w: Array) -> Array:
        """F - y at a point of a difference scheme."""
        if self.late():
            raise Ended(Status.MAX_TIME)
        if not (norm(w) < math.inf or np.isfinite(w).all()):
            return np.full(self.n, np.nan)
        self.nfev_jac += 1
        return self._call(w, self.n) - self.y

    def values_ahead(self, mapped: Callable[..., Iterable[Any]], points: list[Any]) -> list[Array]:
        """What differences want to know of F at the points, evaluated all at once."""
        self.nfev_jac += len(points)
        called = partial(_called, self._F, self._args, self._full_F)
        values = self.theirs(lambda: list(mapped(called, points)))
        if self._jac == "cs":
            return [np.asarray(value).reshape(self.n) for value in values]
        return [self._vector(value, self.n) - self.y for value in values]

    def complex_values(self, z: Any) -> Any:
        """F at a complex point."""
        self.nfev_jac += 1
        values = np.atleast_1d(np.asarray(self.theirs(self._F, z, *self._args, **fresh(self._full_F))))
        if values.shape != (self.n,) or values.dtype.kind != "c":
            raise ValueError(
                f"`jac='cs'` needs {self.names.F} to return {self.n} complex numbers at a complex {self.names.w}, "
                f"got dtype {values.dtype}, shape {values.shape}."
            )
        return values

    def scale_unasked(self) -> None:
        """Scale unknowns of very different size, as with x_scale None, where x_scale is not given."""
        if not self._jac_scale and not self.scale.size:
            self._jac_scale = self._auto_scale = True

    @cached_property
    def _alike(self) -> bool:
        """Whether the unknowns are of one size at the start, and so hardly in units of different kinds."""
        size = np.abs(self.w0)
        return bool(size.min() > size.max() / DIFFERENT)

    def _update_scale(self, J: Any) -> None:
        """x_scale='jac': the inverse of the largest norm that each column of J has had.

        Unasked for only where these are of very different size, and for n = m the unknowns too: else the first steps
        would be other ones than in the units that were chosen, and lead to other minima.
        """
        if isinstance(J, LinearOperator):
            raise ValueError("`x_scale='jac'` needs the entries of J; jac returned a LinearOperator.")
        size = column_lengths(J)
        self._largest = np.maximum(self._largest, size) if self._largest.size else np.where(size == 0.0, 1.0, size)
        alike = self.n == self.m and self._alike
        different = self._largest.max() > DIFFERENT * self._largest.min() and not alike
        self.scale = self._scale_of(self._largest) if different or not self._auto_scale else EMPTY

    def _scale_of(self, largest: Array) -> Array:
        return float(largest.min()) * (1.0 / largest) if self._auto_scale else 1.0 / largest

    # -- measures -----------------------------------------------------------------------------------------------------

    def repeat(self) -> None:
        """Raise what ended the run; after compiled code by calling once more what failed."""
        assert self.ended is not None
        ended, self.ended, self.failed = self.ended, None, False
        raise ended

    def project(self, w: Array) -> Array:
        """The point of the box nearest to w."""
        return np.minimum(np.maximum(w, self.lower), self.upper) if self.bounded else w

    def move(self, w: Array, p: Array) -> Array:
        """w + p in the box, exactly on a bound where p was made to lead there."""
        if not self.bounded:
            return w + p
        t = np.where(p == self.lower - w, self.lower, self.project(w + p))
        return np.where(p == self.upper - w, self.upper, t)

    def magnitudes(self, r: Array) -> Array:
        """|F(w)| + |y| (n,), where r is the residual: the numbers that rounding in r goes by."""
        return np.abs(r + self.y) + np.abs(self.y)

    def rounding_level(self, w: Array, r: Array, T: Tangent) -> float:
        """What rounding in F alone can make of ||r||: 4 u (||F|| + ||y|| + || |J| |w| ||), u that of F's floats."""
        return 2 * self.precision * (norm(r + self.y) + self.size_y + T.magnitude(w))


def precision(value: Any) -> float:
    """The relative spacing of the floats that F or jac returned, at least that of float64."""
    kind = getattr(value, "dtype", None)
    if kind is None and not isinstance(value, LinearOperator):
        kind = np.asarray(value).dtype
    if kind is None or kind is FLOAT64 or np.dtype(kind).kind != "f":
        return 2 * UNIT
    return max(float(np.finfo(kind).eps), 2 * UNIT)


def _called(F: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any], w: Array) -> Any:
    f = F(w, *args, **fresh(keywords))
    return f.copy() if isinstance(f, np.ndarray) else f  # it may be one array that is filled again and again


def _take(J: Any, rows: Indices) -> Any:
    """The given rows of any kind of J."""
    if not isinstance(J, LinearOperator):
        return J[rows]
    n = J.shape[0]

    def rmatvec(z: Array) -> Array:
        full = np.zeros(n)
        np.add.at(full, rows, z)
        return J.rmatvec(full)

    return LinearOperator((rows.size, J.shape[1]), lambda v: J.matvec(v)[rows], rmatvec, dtype=np.float64)
