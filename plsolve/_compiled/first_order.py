"""gd, its momenta and sgd compiled: many of their ordinary steps at a time.

A step that is out of the ordinary (F or jac fails, a number leaves the range, none makes progress, momentum is to start
anew) ends a chunk of steps before it, and is then made interpreted. So verdicts, exceptions and messages are written
once, and so is what seldom happens.
"""

from __future__ import annotations

import math
import time
from functools import cache, partial
from typing import Any, NamedTuple, get_type_hints

import numpy as np
from numba import types
from numba.extending import register_jitable

from plsolve import loop
from plsolve._compiled.cache import entry
from plsolve._compiled.functions import OK, NotCompilableError, arguments, as_gradient, as_matrix, functions
from plsolve._compiled.words import address, call, data
from plsolve._linalg import HUGE, Array
from plsolve._problem import Indices, Problem
from plsolve._record import Record
from plsolve._stopping import RUNNING
from plsolve._tangent import Tangent
from plsolve.loop import Native
from plsolve.methods import momentum, sgd
from plsolve.methods.ending import FLAT
from plsolve.methods.gradient_descent import CAUCHY, FIXED, POLYAK, SMALLEST, THEOREM, Constants, State
from plsolve.methods.momentum import FLATTEST, NESTEROV, SWING, coefficients
from plsolve.theory.steps import chebyshev, gd_rate, gd_step, heavy_ball, nesterov

STEPS, ROWS, SECONDS = 1024, 1 << 16, 0.05  # in a chunk, at most
COLUMNS = loop.ROW + 8  # of a chunk's log: what the history is made of, and what else changes of a state
ENTRIES = 1 << 18  # of J, beyond which a step takes as long interpreted


class System(NamedTuple):
    """The problem in compiled code."""

    F: int  # addresses: of the trampolines, and of the table of arguments
    jac: int
    args: int
    rows: Indices  # all of them, for functions that must be given some
    y: Array
    size_y: float
    precision: float
    bounded: bool
    lower: Array
    upper: Array
    scale: Array
    writes: bool  # whether F or jac may write to what they get
    lent: Array  # the point and the rows that they get then
    lent_rows: Indices
    w: Array  # where a chunk ends: the point, r there, and momentum's last step or where sgd takes its next gradient
    r: Array
    p: Array
    calls: Indices  # of F, and of jac
    best_w: Array
    best_r: Array
    least: Array  # ||best_r||


norm = np.linalg.norm
for function in (heavy_ball, nesterov, chebyshev, gd_step, gd_rate, coefficients):
    register_jitable(function)
project, raised = register_jitable(Problem.project), register_jitable(Tangent.raised)


@register_jitable
def copy(x: Any, out: Any) -> None:
    for i in range(x.size):  # quicker to compile than a slice
        out[i] = x[i]


@register_jitable
def arrive(system: Any, w: Any, r: Any, p: Any) -> None:
    """Where steps have led: not returned, since Ctrl-C spoils what numba makes of arrays for Python."""
    copy(w, system.w)
    copy(r, system.r)
    copy(p, system.p)


@register_jitable
def metric(system: Any, p: Any) -> Any:
    """||p / scale||."""
    return norm(p / system.scale if system.scale.size else p)


@register_jitable
def evaluate(system: Any, function: Any, w: Any, rows: Any, out: Any, n: Any) -> Any:
    """Whether F or jac could be evaluated; it gets copies, which it may write to, unless it is said to only read."""
    if system.writes:
        copy(w, system.lent)
        copy(rows, system.lent_rows)
        w, rows = system.lent, system.lent_rows[: rows.size]
    return call(function, data(w), w.size, system.args, data(rows), rows.size, data(out), n) == OK


@register_jitable
def residual(system: Any, w: Any) -> Any:
    """r at w and ||r||; NaN where F failed."""
    system.calls[0] += 1
    f = np.empty(system.y.size)
    if not evaluate(system, system.F, w, system.rows, f, f.size):
        f[0] = np.nan
    r = f - system.y
    size = norm(r)
    if size < system.least[0]:
        system.least[0] = size
        copy(w, system.best_w)
        copy(r, system.best_r)
    return r, size


@register_jitable
def linearise(system: Any, w: Any, r: Any) -> Any:
    """J and J^T r at w; NaN where jac failed."""
    system.calls[1] += 1
    J = np.empty((r.size, w.size))
    if not evaluate(system, system.jac, w, system.rows, J, r.size):
        J[0, 0] = np.nan
    return J, r @ J


@register_jitable
def rounding_level(system: Any, J: Any, w: Any, r: Any) -> Any:
    """`Problem.rounding_level`."""
    return 2 * system.precision * (norm(r + system.y) + system.size_y + norm(np.abs(J) @ np.abs(w)))


@register_jitable
def bend(system: Any, J: Any, w: Any, r: Any, p: Any, new: Any, beta: Any) -> Any:
    """`ending.bend`."""
    if not beta > 0.0:
        return 0.0
    rest, square = norm(new - r - J @ p), p @ p
    if 2.0 * rest <= beta * square:
        return 0.0
    return 2.0 * max(rest - 4.0 * rounding_level(system, J, w, r), 0.0) / square


@register_jitable
def fell(system: Any, J: Any, s: Any, r: Any, promised: Any) -> Any:
    """`gradient_descent.fell`."""
    drop = 0.5 * ((s.r - r) @ (s.r + r))
    return s.exact or drop >= promised or drop + rounding_level(system, J, s.w, s.r) * norm(s.r) >= promised


@register_jitable
def step_size(s: Any, J: Any, g: Any, d: Any, r2: Any, M: Any) -> Any:
    """`gradient_descent.step_size`."""
    if s.rule == POLYAK:
        return r2 / (g @ d)
    if s.rule == CAUCHY:
        return (g @ d) / norm(J @ d) ** 2
    return s.eta if s.rule == FIXED else 1.0 / M


def descend(system: Any, s: Any, enough: Any, log: Any) -> Any:
    """Steps of `gradient_descent.step`, one for each row of the log or fewer: their number."""
    first, size, enough = s.nit, norm(s.r), max(enough, 1.0 / HUGE)  # below, squares may be zero
    while s.nit - first < len(log) and size > enough:
        J, g = linearise(system, s.w, s.r)
        d, r2, excess = raised(system, g), size * size, s.excess
        M = excess * (s.lipschitz * s.lipschitz + s.beta * size)
        eta = step_size(s, J, g, d, r2, M)
        while True:
            w = project(system, s.w - eta * d)
            p = w - s.w
            length, slope = metric(system, p), g @ p
            if not (SMALLEST * metric(system, s.w) < length < HUGE and -slope > FLAT * r2 * eta * M):
                return s.nit - first
            r, new = residual(system, w)
            if not new < HUGE:
                return s.nit - first
            if s.rule != THEOREM or (new <= size and fell(system, J, s, r, -slope - 0.5 * M * length * length)):
                break
            excess, M, eta = 2.0 * excess, 2.0 * M, 0.5 * eta
        pl, most = (g @ g) / r2, max(s.bend, bend(system, J, s.w, s.r, p, r, s.beta))
        row = log[s.nit - first]
        row[0], row[1], row[2], row[3], row[4] = s.nit + 1, 0.5 * new * new, length, pl, most
        row[5], row[6] = eta, excess
        arrive(system, w, r, p)
        size, (L, beta, exact) = new, (s.lipschitz, s.beta, s.exact)
        s = State(w, r, RUNNING, s.nit + 1, length, True, s.rule, eta, L, beta, exact, excess, pl, most)
    return s.nit - first


def swing(system: Any, s: Any, enough: Any, log: Any) -> Any:
    """The same of `momentum.step`."""
    first, size, enough = s.nit, norm(s.r), max(enough, 1.0 / HUGE)
    while s.nit - first < len(log) and size > enough:
        (L, beta, mu), u, ru, ru_size, start = s.known, s.w, s.r, size, s.start
        M = s.swell * (L * L + beta * size)
        low = max(mu, FLATTEST * M)
        a, b = coefficients(s.kind, M, low, s.before, s.age)
        if s.kind == NESTEROV and s.age > 0:
            u = project(system, s.w + b * s.p)
            ru, ru_size = residual(system, u)
        J, g = linearise(system, u, ru)
        w = project(system, s.w + b * s.p - a * raised(system, g))
        p = w - s.w
        length = metric(system, p)
        if not 0.0 < length < HUGE:
            return s.nit - first
        r, new = residual(system, w)
        loss, pl, window = 0.5 * new * new, (g @ g) / (ru_size * ru_size), s.window + 1
        least, ceiling = min(s.least, loss), s.ceiling * gd_rate(gd_step(L, beta, float(size)), mu)
        if not loss <= min(ceiling, SWING * s.least):
            return s.nit - first
        if window >= 4.0 * math.sqrt(M / low) + 10.0:
            if not least < start * gd_rate(1.0 / M, low) ** window:
                return s.nit - first
            window, start, least = 0, least, loss
        if not s.exact and pl > 0.0 and r.size <= w.size:
            L, mu = max(L, math.sqrt(pl)), min(mu, pl)
        most = max(s.bend, bend(system, J, u, ru, w - u, r, beta))
        row = log[s.nit - first]
        row[0], row[1], row[2], row[3], row[4] = s.nit + 1, loss, length, pl, most
        age, size = 0 if s.kind == NESTEROV and g @ p > 0.0 else s.age + 1, new
        row[5], row[6], row[7], row[8], row[9], row[10], row[11], row[12] = L, mu, a, age, ceiling, least, start, window
        arrive(system, w, r, p)
        s = momentum.State(
            w, r, RUNNING, s.nit + 1, length, True, s.kind, p, a, age, Constants(L, beta, mu), s.exact, s.swell,
            ceiling, least, start, window, pl, most,
        )  # fmt: skip
    return s.nit - first


def batches(system: Any, drawn: Any, polyak: Any, eta: Any, mass: Any, gamma: Any, kick: Any, w: Any, u: Any) -> Any:
    """Steps of `sgd.step` on these batches (k, s) or fewer: their number. u: where the gradient is taken."""
    s = drawn.shape[1]
    both = np.empty(s + w.size)
    r, g = both[:s], both[s:]
    made = 0
    while made < len(drawn):
        rows = drawn[made]
        system.calls[0] += 1
        fine = evaluate(system, system.F, u, rows, both, s)
        for i in range(s):
            r[i] -= system.y[rows[i]]
        if not (fine and norm(r) < HUGE):
            break
        system.calls[1] += 1
        fine, d, a = evaluate(system, system.jac, u, rows, both, s), raised(system, g), eta
        if polyak:
            slope = g @ d
            a = (r @ r) / slope if slope > 0.0 else 1.0
        new = project(system, u - a * d)
        if not (fine and new @ new < HUGE * HUGE):
            break
        u = project(system, new + gamma * (new - w) - kick * (new - u)) if mass else new
        w, made = new, made + 1
    arrive(system, w, r, u)
    return made


def type_of(kind: Any) -> Any:
    """What numba calls a state, and what it is made of."""
    if hasattr(kind, "_fields"):
        return types.BaseTuple.from_types([type_of(part) for part in get_type_hints(kind).values()], kind)
    named = {int: types.int64, float: types.float64, bool: types.boolean, Indices: types.int64[::1]}
    return named.get(kind, types.float64[::1])


@cache
def kernel(step: Any) -> Any:
    """Many such steps."""
    words, numbers, flags = types.int64, types.float64, types.boolean
    if step is sgd.step:
        how = flags, numbers, flags, numbers, numbers, numbers[::1], numbers[::1]
        return entry(batches, (type_of(System), words[:, ::1], *how))
    steps, state = (swing, momentum.State) if step is momentum.step else (descend, State)
    return entry(steps, (type_of(System), type_of(state), numbers, numbers[:, ::1]))


# -- runs --------------------------------------------------------------------------------------------------------------


class Engine:
    """A problem in compiled code. Raises NotCompilableError where that is not possible, or gains nothing."""

    def __init__(self, problem: Problem, step: Any) -> None:
        p, (F, jac, args, takes, full), batched = problem, problem.functions(), step is sgd.step
        if not callable(jac) or p.column_norms()[1].size:
            raise NotCompilableError("gd and sgd are interpreted with `x_scale='jac'`, and where jac is no function")
        if step is sgd.other_step or (batched and not all(takes)):
            raise NotCompilableError("sgd that looks at all rows, or needs all of J_B, is as quick when interpreted")
        if not batched and p.n * p.m > ENTRIES:
            raise NotCompilableError("gd with so large a Jacobian is as quick when interpreted")
        self._problem, self._args = p, arguments(args)
        table, rows = np.frombuffer(self._args.table, np.int64), np.arange(p.n if any(full) else 0)
        how = ((True, True), as_gradient) if batched else (full, as_matrix)
        self._functions = functions(F, jac, self._args.kinds, *how)
        places = *self._functions.addresses, address(table)
        writes = not all(getattr(f, "reads_only", False) for f in (F, jac))
        known = p.y, p.size_y, p.precision, p.bounded, p.lower, p.upper, p.scale, writes
        memory = np.empty(p.m), np.empty(p.n, np.int64), np.empty(p.m), np.empty(p.n), np.empty(p.m)
        seen = np.zeros(2, np.int64), p.w0.copy(), p.r0.copy(), np.array([math.inf])
        self._system = System._make((*places, rows, *known, *memory, *seen))

    def run(self, step: Any, record: Record) -> Native:
        """The run of a method."""
        self._step, self._record, self._kernel = step, record, kernel(step)
        self._count, self._begun = 1, 0.0
        self._log: Array | None = None  # what there is to note of the last steps
        self._own = True  # the first step is the method's own, which knows J at w0
        return self._advance

    def _advance(self, s: Any, best: Any, stop: int, enough: float, max_iter: int) -> tuple[Any, int]:
        """`loop.advance`, where what it takes for one step are many, or of sgd the rest of an epoch."""
        many = loop.kept(self._epoch if self._step is sgd.step else partial(self._chunk, enough, max_iter))
        return loop.advance(self._problem, many, self._observe, loop.residual_norm, s, best, stop, enough, max_iter)

    def _observe(self, s: Any) -> int:
        log, self._log = self._log, None
        return self._record(s) if log is None else self._record.extend(s, log)

    def _chunk(self, enough: float, max_iter: int, problem: Problem, s: Any) -> Any:
        if self._own:
            self._own = False
            return self._step(problem, s)
        log = np.empty((self._begin(1 if self._record.every else min(STEPS, max_iter - s.nit)), COLUMNS))
        try:
            made = self._kernel(self._system, s._replace(w=s.w.copy()), enough, log)  # it may be read-only
        finally:
            self._end()
        if made == 0:
            return self._step(problem, s)
        new, self._log = arrived(s, self._system, log[made - 1]), log[:made, : loop.ROW]
        solved = norm(new.r) <= enough
        if solved:  # J tells whether it is
            problem.linearise(new.w, new.r, False)
        self._own = not (solved or made == len(log))
        return new

    def _epoch(self, problem: Problem, s: sgd.State) -> sgd.State:
        plan, nit, w, u, epoch = s.plan, s.nit, s.w.copy(), s.ahead.copy(), -(-problem.n // s.plan.batch)
        last = min(nit + epoch - nit % epoch, plan.last) - 1  # whose step is interpreted, as it is to be judged
        how = plan.rule == sgd.POLYAK, s.shrink * s.eta * problem.n / plan.batch, plan.mass, s.gamma, s.kick
        while nit < last and not problem.late():
            count, before = self._begin(min(last - nit, ROWS // plan.batch)), problem.rng.bit_generator.state
            made = self._kernel(self._system, sgd.drawn(problem, plan, nit, count), *how, w, u)
            w, u = self._system.w.copy(), self._system.p.copy()
            self._end()
            if made < count:
                problem.rng.bit_generator.state = before
                sgd.drawn(problem, plan, nit, made)
                last = 0
            nit += made
        return sgd.step(problem, s._replace(w=w, ahead=u, nit=nit, checked=False))

    def _begin(self, most: int) -> int:
        """How many steps to make now, so that Ctrl-C and the limit of time are heeded."""
        self._count, self._begun = max(min(most, self._count), 1), time.monotonic()
        return self._count

    def _end(self) -> None:
        """They are made, or as many as could be: let the problem know."""
        p, (*_, calls, w, r, size), now = self._problem, self._system, time.monotonic()
        p.nfev, p.njev = p.nfev + int(calls[0]), p.njev + int(calls[1])
        calls[:] = 0
        if size[0] < p.least:
            p.best, p.best_residual, p.least = w, r, float(size[0])
        share = min(p.deadline - now, SECONDS) / max(now - self._begun, 1e-7)
        self._count = int(self._count * min(share, 2.0))


def arrived(s: Any, system: System, row: Array) -> Any:
    """The state after steps from s."""
    nit, _, step, pl, bend, *rest = row.tolist()
    new = s._replace(w=system.w.copy(), r=system.r.copy(), nit=int(nit), step=step, pl=pl, bend=bend)
    if isinstance(s, State):
        return new._replace(eta=rest[0], excess=rest[1])
    L, mu, before, age, ceiling, least, start, window = rest
    new = new._replace(p=system.p.copy(), known=Constants(L, s.known.beta, mu), before=before, age=int(age))
    return new._replace(ceiling=ceiling, least=least, start=start, window=int(window))
