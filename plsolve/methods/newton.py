"""The method 'gauss-newton': which stages a system goes through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from plsolve._linalg import norm
from plsolve._problem import Problem
from plsolve.methods import tall, watch, watchdog
from plsolve.methods.method import Method, Stage
from plsolve.methods.tuning import TUNING

OPTIONS = ("nearest", "linear_solver")


def method(problem: Problem, options: Mapping[str, Any], beta: float) -> Method:
    """Gauss-Newton for a solution."""
    problem.linear_solver.loosen(problem.target)
    return Method(stages=stages(problem, beta, True), limit=200)


def stages(problem: Problem, beta: float, root: bool) -> list[Stage]:
    """The stages of Gauss-Newton; root: a minimum with nonzero residual is not accepted as an answer.

    A square system goes first through the steps for n <= m, which need fewer Jacobians, then through those with the
    curvature of the residual; if these end at a minimum with nonzero residual, kicks look for a solution around it.
    """
    n, m = problem.n, problem.m

    def watched(plan: int) -> Stage:
        return Stage(lambda limit, problem, before: watchdog.init(problem, beta, plan, root, before), watchdog.step)

    if n < m or problem.linear_solver.kind != "auto" or not is_tall(problem):
        return [watched(watch.PHASES if n <= m else watch.ALONE)]
    problem.metric.scale_unasked()
    curved = Stage(lambda limit, problem, before: tall.init(problem, beta, before), tall.step)
    if n > m:
        return [curved]
    return [watched(watch.HAND_OVER), curved, *([watched(watch.KICKS)] if root else [])]


def is_tall(problem: Problem) -> bool:
    """Whether n >= m, m is small enough for m x m matrices, and all entries of J are available."""
    n, m = problem.n, problem.m
    if not m <= min(n, TUNING.curved_unknowns) or norm(problem.r0) <= problem.target:
        return False
    if n * m <= TUNING.curved_entries or problem.differenced:
        return True
    return isinstance(problem.linearise(problem.w0, problem.r0, False).J, np.ndarray)
