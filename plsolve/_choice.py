"""The choice of the method: the one that the caller names, or the one with the fewest operations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from plsolve._linalg import HUGE
from plsolve._problem import Problem
from plsolve._stopping import OUT_OF_RANGE, Ended, Status
from plsolve._tangent import Tangent, is_sparse
from plsolve.methods.method import Method, Stage
from plsolve.methods.spectrum import ends

_KERNEL_BYTES = 2 << 30  # a larger kernel counts as not fitting into memory
_FEW_ROWS = 1000  # with fewer, Gauss-Newton costs no more than the estimate of its cost
_NEWTON_STEPS = 5.0  # assumed number of Gauss-Newton iterations
_PROBES = 30  # Lanczos steps for kappa


def choose(problem: Problem, method: str) -> tuple[str, str]:
    """The method with the fewest operations (theory 4.3, with kappa by Lanczos at w0), and the reason in one line."""
    if method != "auto":
        return method, f"{method}: chosen by the caller."
    k = min(problem.n, problem.m)
    fits = 8 * k * k <= _KERNEL_BYTES
    if not fits and problem.system.rows_F and problem.system.rows_of_J:
        return "sgd", f"sgd: a {k} x {k} kernel does not fit into memory, and F and jac have `rows`."
    if k <= _FEW_ROWS or problem.differenced:
        return "gauss-newton", f"gauss-newton: its {k} x {k} kernel is small."
    with problem.at_work():
        try:
            T = problem.linearise(problem.w0, problem.r0, False)
        except Ended:
            return "gauss-newton", "gauss-newton: J(w0) is out of range."
        low, high = ends(problem, T, _PROBES)
    kappa = high / low if low > 0.0 else math.inf
    ours, descent = operations(T, kappa, fits)
    what = f"its {k} x {k} kernel fits into memory"
    if not fits:
        what = f"by conjugate gradients, since a {k} x {k} kernel does not fit into memory"
    numbers = f"kappa is about {kappa:.2g}: {ours:.1e} operations, against {descent:.1e} for gd"
    if descent < ours:
        return "gd", f"gd: kappa is about {kappa:.2g}: {descent:.1e} operations, against {ours:.1e} for gauss-newton."
    return "gauss-newton", f"gauss-newton: {what}, and {numbers}."


def operations(T: Tangent, kappa: float, fits: bool) -> tuple[float, float]:
    """Operations that Gauss-Newton and gd will take; a pass over a stored J is memory-bound and counts 20 per entry."""
    n, m = T.shape
    k, entries = min(n, m), float(n) * m
    once = 4.0 * entries  # J^T r, J v of an operator
    newton = 3.0 * k * entries + k**3 / 3.0  # K by products with unit vectors
    if is_sparse(T.J):
        entries = float(T.J.nnz)
        once, newton = 40.0 * entries, (entries / n + 30.0) * entries
    elif isinstance(T.J, np.ndarray):
        once, newton = 40.0 * entries, k * entries + k**3 / 3.0
    elif hasattr(T.J, "gram"):
        newton = k**3 / 3.0 + 10.0 * once
    if not fits:
        newton = 20.0 * math.sqrt(kappa) * once
    return _NEWTON_STEPS * newton, 18.0 * kappa * once


def prepared(problem: Problem, make: Callable[[], Method]) -> Method:
    """The method; if F or J is out of range at w0, one that ends the run at once."""
    try:
        with problem.at_work():
            check_range(problem)
            return make()
    except Ended as end:
        return Method(stages=[over(end)], limit=0)


def check_range(problem: Problem) -> None:
    """End the run if ||r||^2 overflows or underflows at w0."""
    if not in_range(problem.run.least):
        raise Ended(Status.STALLED, OUT_OF_RANGE)


def over(end: Ended) -> Stage:
    """The stage of a run that ends before its first step."""

    def init(limit: int, problem: Problem, before: Any) -> Any:
        raise end

    return Stage(init, no_step)


def no_step(problem: Problem, s: Any) -> Any:
    """The step of a run that makes no steps."""
    return s


def in_range(size: float) -> bool:
    """Whether ||r||^2 neither overflows nor underflows; size = ||r||."""
    return size == 0.0 or 1.0 / HUGE < size < HUGE
