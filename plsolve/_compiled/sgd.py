"""sgd in compiled code: the ordinary steps of an epoch, many at a time.

Before an exceptional step (F or jac fails, a number overflows) a chunk of steps ends. This step, and the last one of
every epoch, are made by interpreted code, so that verdicts, exceptions and messages exist only there.
"""

from __future__ import annotations

import time
from functools import cache, partial
from typing import Any

import numpy as np
from numba import types
from numba.extending import register_jitable

from plsolve import _loop as loop
from plsolve._compiled.cache import entry
from plsolve._compiled.functions import OK, NotCompilableError, arguments, as_gradient, functions
from plsolve._compiled.words import call, data
from plsolve._linalg import HUGE
from plsolve._loop import Native
from plsolve._problem import Problem
from plsolve._record import Record
from plsolve.methods import sgd

ROWS, SECONDS = 1 << 16, 0.05  # in a chunk, at most

norm = np.linalg.norm


@register_jitable
def evaluate(function: Any, user: Any, w: Any, rows: Any, lent: Any, lent_rows: Any, out: Any) -> Any:
    """Evaluate F or jac; returns whether that succeeded. It gets copies, unless it is marked as ``reads_only``."""
    args, writes = user
    if writes:
        lent[:] = w
        lent_rows[:] = rows
        w, rows = lent, lent_rows
    return call(function, data(w), w.size, args, data(rows), rows.size, data(out), rows.size) == OK


@register_jitable
def project(w: Any, lower: Any, upper: Any) -> Any:
    return np.minimum(np.maximum(w, lower), upper) if lower.size else w


def batches(
    F: Any, jac: Any, user: Any, drawn: Any, safe: Any, how: Any, y: Any, box: Any, square: Any, w: Any, u: Any,
    calls: Any,
) -> Any:  # fmt: skip
    """Make the steps of `sgd.step` on these batches (k, s), in place on w and u; returns how many were made.

    u: the point where the gradient is evaluated; square: of x_scale, or empty; how: eta of w+ = w - eta J_B^T r_B, and
    gamma and kick of MaSS; calls: counts of F and jac; safe: steps are limited as in `sgd.moved`, so that they do not
    increase the linear loss of the batch.
    """
    s, (lower, upper), (eta, gamma, kick) = drawn.shape[1], box, how
    both, lent, lent_rows = np.empty(s + w.size), np.empty(w.size), np.empty(s, np.int64)
    r, g = both[:s], both[s:]
    for made in range(len(drawn)):
        rows = drawn[made]
        calls[0] += 1
        fine = evaluate(F, user, u, rows, lent, lent_rows, both)
        r -= y[rows]
        loss = r @ r
        if not (fine and norm(r) < HUGE):
            return made
        calls[1] += 1
        fine = evaluate(jac, user, u, rows, lent, lent_rows, both)
        d = square * g if square.size else g
        a = eta
        if safe:
            slope = g @ d
            if a * slope > 2.0 * loss:
                a = loss / slope
            if not slope > 0.0:
                a = 0.0
        new = project(u - a * d, lower, upper)
        if not (fine and new @ new < HUGE * HUGE):
            return made
        u[:] = project(new + gamma * (new - w) - kick * (new - u), lower, upper) if gamma or kick else new
        w[:] = new
    return len(drawn)


@cache
def kernel() -> Any:
    """The compiled `batches`."""
    word, numbers, words = types.int64, types.float64[::1], types.int64[::1]
    user, how, box = types.UniTuple(word, 2), types.UniTuple(types.float64, 3), types.UniTuple(numbers, 2)
    drawn = types.Array(word, 2, "C")
    return entry(batches, (word, word, user, drawn, types.boolean, how, numbers, box, numbers, numbers, numbers, words))


class Engine:
    """A problem in compiled code. Raises NotCompilableError if that is not possible, or not faster."""

    def __init__(self, problem: Problem, step: Any) -> None:
        p, (F, jac, args, takes, _) = problem, problem.system.functions()
        if not callable(jac) or p.metric.column_norms(p.n).size:
            raise NotCompilableError("sgd is interpreted with `x_scale='jac'`, and where jac is no function")
        if step is sgd.other_step or not all(takes):
            raise NotCompilableError(
                "sgd is as quick when interpreted where F or jac has no `rows`, all rows are looked at or shuffled, or "
                "steps need all of J_B ('batch_size' = 'auto' asks for gradient steps)"
            )
        self._problem, self._args = p, arguments(args)
        self._functions = functions(F, jac, self._args.kinds, (True, True), as_gradient)
        writes = not all(getattr(f, "reads_only", False) for f in (F, jac))
        user = self._args.address, int(writes)
        self._kernel = partial(kernel(), *self._functions.addresses, user)
        self._known = p.system.y, (p.lower, p.upper), p.scale * p.scale
        self._count = 1  # how many steps are made at once

    def run(self, step: Any, record: Record) -> Native:
        """`loop.advance` with the rest of an epoch as one step."""
        return partial(loop.advance, self._problem, self._epoch, record, loop.residual_norm)

    def _epoch(self, problem: Problem, s: sgd.State) -> sgd.State:
        plan, nit, w, u, epoch = s.plan, s.nit, s.w.copy(), s.ahead.copy(), -(-problem.n // s.plan.batch)
        last = min(nit + epoch - nit % epoch, plan.last) - 1  # this step is interpreted, since its state is checked
        mass = (s.gamma, s.kick) if plan.mass else (0.0, 0.0)
        keeper = problem.run.keeper
        how = sgd.safeguarded(plan), (s.shrink * s.eta * problem.n / plan.batch, *mass)
        while nit < last and not problem.run.late():
            count = max(min(last - nit, ROWS // plan.batch, self._count), 1)
            before, begun = problem.rng.bit_generator.state, time.monotonic()
            calls = np.zeros(2, np.int64)
            made = self._kernel(sgd.drawn(problem, plan, nit, count), *how, *self._known, w, u, calls)
            problem.system.count(int(calls[0]), int(calls[1]))
            now = time.monotonic()
            share = min(problem.run.deadline - now, SECONDS) / max(now - begun, 1e-7)
            self._count = int(count * min(share, 2.0))  # so that Ctrl-C and max_time take effect soon
            if made < count:
                problem.rng.bit_generator.state = before
                sgd.drawn(problem, plan, nit, made)
                last = 0
            nit += made
            if keeper is not None and keeper.due():
                keeper.within(s._replace(w=w.copy(), ahead=u.copy(), nit=nit, step=0.0, checked=False, noted=False))
        return sgd.step(problem, s._replace(w=w, ahead=u, nit=nit, checked=False))
