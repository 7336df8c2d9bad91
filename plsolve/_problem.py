"""`Problem`, the interface of a system for the methods: r(w) = F(w) - y and its linearisation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import nullcontext, suppress
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from plsolve._checks import Names, as_vector, check_finite, check_operator, is_finite, refuse_jacobian, size_of
from plsolve._geometry import EMPTY, Box, Metric
from plsolve._linalg import HUGE, Array, column_lengths, norm
from plsolve._losses import Loss, Robust, scaled_rows
from plsolve._run import AtWork, Goal, Run
from plsolve._stopping import JACOBIAN_NOT_FINITE, JACOBIAN_OUT_OF_RANGE, Ended, Status
from plsolve._system import Indices, System, check_functions, some
from plsolve._tangent import Learnt, LinearSolver, RowsJacobian, Tangent, tangent

NOTHING = nullcontext()
CALLED = Names()
BIT_GENERATORS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")  # numpy's


class Progress(NamedTuple):
    """What a Problem has learnt in a run, and later steps depend on.

    Attributes
    ----------
    best, best_residual, least, value, target, note
        As in its Run and its Goal.
    counts, narrow
        As in its System.
    columns : tuple of two ndarrays, or None
        As in its Metric.
    solver : Learnt
        As in its LinearSolver.
    rng : dict or None
        State of the random numbers; None if none was drawn.
    precise : bool
        Whether J at the point is there already, by central differences.
    """

    best: Array
    best_residual: Array
    least: float
    value: float
    target: float
    note: str
    counts: dict[str, int]
    narrow: bool
    columns: tuple[Array, Array] | None
    solver: Learnt
    rng: Any
    precise: bool


class Problem:
    """The user's system, the geometry of its unknowns, and the run that solves it.

    The parameters are those of `plsolve.solve`, which documents them; all of them are checked here, before any step.

    Attributes
    ----------
    system : System
        F, jac and y as given, with the counts of calls.
    box, metric : Box, Metric
        Bounds and x_scale.
    run, goal : Run, Goal
        The best point, the time and the reason for the end; the criteria for a solved system.
    robust : Robust or None
        A robust loss, by which the residual of the problem is transformed.
    n, m : int
        Numbers of equations and unknowns.
    w0, r0 : ndarray (m,), (n,)
        The start, and the residual there.
    size_y, size0 : float
        ||y||, and max(||y||, ||F(w0)||).
    bounded, lower, upper, project, move, differenced
        As in ``box`` and ``system``.
    flat, flat_gradient : float
        The run may end where the predicted relative reduction of ||r||^2 is at most ``flat``, or where no entry of
        J^T r exceeds ``flat_gradient``, given as a multiple of min(1, ||r0||).
    linear_solver : LinearSolver
        The method by which J^+ is applied.
    """

    _last: tuple[Array, bool, Tangent] | None = None
    _sample: tuple[Indices, Tangent] | None = None  # the last tangent of some equations

    def __init__(
        self,
        F: Any,
        jac: Any,
        w0: Any,
        y: Any = None,
        *,
        args: Any = (),
        bounds: Any = None,
        x_scale: Any = 1.0,
        tol: float = 0.0,
        eps: float = 0.0,
        deadline: float = math.inf,
        rng: np.random.Generator | None = None,
        linear_solver: str = "auto",
        diff_step: Array | None = None,
        mapped: Callable[..., Iterable[Any]] | None = None,
        loss: Loss | None = None,
        max_nfev: float = math.inf,
        flat: float = 0.0,
        flat_gradient: float = 0.0,
        by_rows: bool = False,
        names: Names = CALLED,
    ) -> None:
        check_functions(F, jac, names)
        self.w0 = as_vector(w0, names.w0)
        self.m = self.w0.size
        self.box = box = Box(bounds, self.w0, names.w0)
        self.metric = Metric(x_scale, self.w0)
        self.bounded, self.lower, self.upper = box.bounded, box.lower, box.upper
        self.project, self.move = box.project, box.move
        self.run = Run(self.w0, deadline)
        self.system = System(
            F,
            jac,
            m=self.m,
            y=y,
            args=args,
            box=box,
            run=self.run,
            diff_step=diff_step,
            mapped=mapped,
            max_nfev=max_nfev,
            by_rows=by_rows and not self.metric.by_columns,
            names=names,
        )
        self.differenced = self.system.differenced
        self.robust = None if loss is None else Robust(loss)
        self.linear_solver = LinearSolver(linear_solver, self.run.check_time)
        self._rng = rng
        f0 = self._start(names)
        self.size_y = 0.0 if y is None else norm(self.system.y)
        self.size0 = max(self.size_y, norm(f0))
        system = self.system
        self.goal = Goal(
            tol=tol,
            eps=eps,
            size_y=self.size_y,
            size0=self.size0,
            precision=system.precision,
            narrow=system.narrow,
        )
        self.flat, self.flat_gradient = flat, flat_gradient * min(1.0, self.run.least)

    def _start(self, names: Names) -> Array:
        """F(w0), and the residual there."""
        system, run = self.system, self.run
        try:
            f0 = system.first(self.w0)
        except BaseException as error:
            run.attach_best(error)
            raise
        self.n = system.n
        if system.y.size != self.n:
            at = f"{names.F}({names.w0})"
            raise ValueError(f"`{names.y}` must have as many entries as {at}, {self.n}, got {system.y.size}.")
        size = norm(f0)
        if not size < math.inf:
            check_finite(f0, f"{names.F}({names.w0})")
        with np.errstate(all="ignore") if size > HUGE or self.robust is not None else NOTHING:
            self.r0 = self._carrying(self.w0, f0 - system.y)
        run.offer(self.w0, self.r0, norm(self.r0))
        return f0

    def at_work(self) -> AtWork:
        """The context in which the library computes: see `AtWork`."""
        return AtWork(self.run)

    @cached_property
    def rng(self) -> np.random.Generator:
        return np.random.default_rng() if self._rng is None else self._rng

    def progress(self, w: Array) -> Progress:
        """What has been learnt until w, the point from which the next step starts."""
        run, rng = self.run, self.__dict__.get("rng", self._rng)
        return Progress(
            best=run.best,
            best_residual=run.best_residual,
            least=run.least,
            value=run.value,
            target=self.goal.target,
            note=run.note,
            counts=self.system.counts,
            narrow=self.system.narrow,
            columns=self.metric.columns,
            solver=self.linear_solver.learnt,
            rng=None if rng is None else rng.bit_generator.state,
            precise=self._last is not None and self._last[0] is w and self._last[1] and self.differenced,
        )

    def go_on(self, progress: Progress, s: Any) -> None:
        """Go on with the progress of an earlier process from the state s, None if no step will follow."""
        self.run.resume(progress.best, progress.best_residual, progress.least, progress.value, progress.note)
        self.goal.aim(progress.target)
        self.system.go_on(progress.counts, progress.narrow)
        self.linear_solver.take(progress.solver)
        if progress.columns is not None:
            self.metric.take_columns(progress.columns)
        if progress.rng is not None:
            self._draw_on(progress.rng)
        self._last = None
        if progress.precise and s is not None:
            with suppress(Ended):  # the time is over, which ends the run before the next step
                self.linearise(s.w, s.r, True)

    def _draw_on(self, state: dict[str, Any]) -> None:
        """Go on with the random numbers of an earlier process."""
        kind = str(state["bit_generator"])
        if type(self.rng.bit_generator).__name__ != kind:
            if kind not in BIT_GENERATORS:
                raise ValueError(f"`rng` must be a numpy Generator of {kind}, whose numbers `checkpoint` goes on with.")
            self.rng = np.random.Generator(getattr(np.random, kind)())
        self.rng.bit_generator.state = state

    @property
    def scale(self) -> Array:
        """The scale of the unknowns; empty: all ones."""
        return self.metric.scale

    @property
    def target(self) -> float:
        """||r|| at which the system counts as solved, as far as known now."""
        return self.goal.target

    @property
    def spent(self) -> bool:
        """Whether F may not be called again, because of max_nfev."""
        return self.system.nfev >= self.system.max_nfev

    # -- r -------------------------------------------------------------------------------------------------------------

    def residual(self, w: Array) -> Array:
        """F(w) - y (n,), a new array; it may be non-finite, and is so where w is non-finite."""
        if not (norm(w) < math.inf or np.isfinite(w).all()):
            return np.full(self.n, np.nan)
        r = self._carrying(w, self.system.residual(w))
        size = norm(r)
        if size < self.run.least:
            self.run.offer(w, r, size)
        return r

    def _carrying(self, w: Array, r: Array) -> Array:
        """The residual, transformed by the robust loss if there is one."""
        return r if self.robust is None else self.robust.residual(w, r)

    def plain_residual(self, w: Array, r: Array) -> Array:
        """F(w) - y (n,) where r is the residual of the problem at w."""
        if self.robust is None:
            return r
        plain = self.robust.plain(w)
        if plain is None:
            self.residual(w)
            plain = self.robust.plain(w)
        assert plain is not None
        return plain

    def residual_rows(self, w: Array, rows: Indices) -> Array:
        """The residual of some equations (s,); all are evaluated where F has no `rows`."""
        if self.system.rows_F:
            return self.system.residual_rows(w, rows)
        return self.residual(w)[rows]

    # -- J -------------------------------------------------------------------------------------------------------------

    def linearise(self, w: Array, r: Array, precise: bool) -> Tangent:
        """The tangent at w, where r is the residual; precise asks for central differences where jac is None."""
        system = self.system
        if self._last is not None and self._last[0] is w and self._last[1] >= (precise and self.differenced):
            return self._last[2]
        self._last = None  # so that there are never two of them in memory
        if system.by_rows:
            T = tangent(RowsJacobian(partial(self._piece, w), self.n, self.m), self.scale, self.linear_solver)
            self._last = w, precise, T
            return T
        plain = self.plain_residual(w, r)
        J = system.jacobian(w, plain, precise)
        size = size_of(J)
        if not size < HUGE and not is_finite(J):
            if system.njev > 1:
                raise Ended(Status.STALLED, JACOBIAN_NOT_FINITE)
            refuse_jacobian(J, self.differenced, system.names)
        if system.njev == 1:
            check_operator(J)
        if self.robust is not None:
            J = self.robust.jacobian(J, plain)
        if self.metric.by_columns:
            self.metric.update(J)
        scale = self.metric.scale
        if scale.size and not size * float(scale.max()) < HUGE:
            size = norm(scale * column_lengths(J))
        if not size < HUGE:
            raise Ended(Status.STALLED, JACOBIAN_OUT_OF_RANGE)
        T = tangent(J, scale, self.linear_solver)
        self._last = w, precise, T
        return T

    def part(self, w: Array, rows: Indices, scale: Array) -> Tangent:
        """The tangent of some equations, for use outside the run's steps; only these rows of J, where possible."""
        return tangent(self.system.part(w, rows), scale, self.linear_solver)

    def _piece(self, w: Array, rows: Indices, scale: Array) -> Tangent:
        """The tangent of some rows of a J that is read by rows."""
        self.run.check_time()
        T = self.part(w, rows, scale)
        if not size_of(T.J) < HUGE:
            raise Ended(Status.STALLED, JACOBIAN_NOT_FINITE)
        return T

    def read_by_rows(self) -> None:
        """Evaluate F and J by rows if that is possible and J is large."""
        if not self.metric.by_columns:
            self.system.read_by_rows()

    def linearise_rows(self, w: Array, rows: Indices) -> Tangent:
        """The tangent of some equations; the last call of `residual_rows` must have been with these w and rows."""
        self._sample = None  # so that there are never two of them in memory
        if self.system.rows_of_J:
            J = self.system.jacobian_rows(w, rows)
        else:
            plain = self.plain_residual(w, self.residual(w) if self.differenced else EMPTY)
            J = self.system.jacobian(w, plain, False)
            J = J.T[:, rows].T if isinstance(J, np.ndarray) and J.flags.f_contiguous else some(J, rows)
            J = J if self.robust is None else scaled_rows(J, self.robust.loss.derivative(plain[rows]))
        T = tangent(J, self.scale, self.linear_solver)
        self._sample = rows, T
        return T

    @property
    def latest(self) -> tuple[Array, Tangent] | None:
        """The point of the last linearisation and the tangent there, or None."""
        return None if self._last is None else (self._last[0], self._last[2])

    def remembered(self, w: Array) -> Array:
        """w, as the very array of the last linearisation if that was at w, so that it is not repeated."""
        return self._last[0] if self._last is not None and np.array_equal(self._last[0], w) else w

    def is_linearised(self, w: Array) -> bool:
        """Whether the last linearisation was at w and cannot be made more precise."""
        last = self._last
        return last is not None and (last[1] or not self.differenced) and not np.count_nonzero(last[0] != w)

    def known(self, w: Array) -> Array | None:
        """J at w, in C order, if the last linearisation was there and not by central differences; else None."""
        last = self._last
        if last is None or last[0] is not w or (last[1] and self.differenced) or not isinstance(last[2].J, np.ndarray):
            return None
        return np.ascontiguousarray(last[2].J)

    def forget(self) -> None:
        """Release the last J."""
        self._last = self._sample = None
        self.system.forget()
        if self.robust is not None:
            self.robust.J = None

    # -- sizes ---------------------------------------------------------------------------------------------------------

    def terms(self, w: Array, p: Array) -> float:
        """|| |J| (|w| + |p|) || with the last J, estimated from a sample of rows if only these are available."""
        if self._sample is not None:
            rows, T = self._sample
            return math.sqrt(self.n / rows.size) * (T.magnitude(w) + T.magnitude(p))
        if self._last is None:
            return 0.0
        T = self._last[2]
        return T.magnitude(w) + T.magnitude(p)

    def rounding_seen(self, w: Array, r: Array) -> float:
        """`rounding_level` with the last J; 0 if there is none."""
        if self._sample is None and self._last is None:
            return 0.0
        system = self.system
        return 2 * system.precision * (norm(r + system.y) + self.size_y + self.terms(w, np.zeros(self.m)))

    @property
    def sampled(self) -> bool:
        """Whether the last J has the rows of some equations only."""
        return self._sample is not None

    def magnitudes(self, r: Array) -> Array:
        """|F(w)| + |y| (n,), where r is the residual at w: the size of the numbers whose rounding limits r."""
        y = self.system.y
        return np.abs(r + y) + np.abs(y)

    def rounding_level(self, w: Array, r: Array, T: Tangent) -> float:
        """||r|| that rounding in F can cause: 4 u (||F|| + ||y|| + || |J| |w| ||), u the roundoff of F's floats."""
        system = self.system
        return 2 * system.precision * (norm(r + system.y) + self.size_y + T.magnitude(w))
