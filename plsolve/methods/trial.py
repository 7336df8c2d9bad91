"""Trial steps in either model: F at w + p, and the actual beside the predicted reduction of ||r||^2."""

from __future__ import annotations

import math
from typing import NamedTuple

from plsolve._linalg import HUGE, Array, norm
from plsolve._problem import Problem
from plsolve.methods.tuning import TUNING


class Step(NamedTuple):
    """A step p in a model."""

    p: Array
    Jp: Array
    length: float  # ||p|| in the metric of the step
    predicted: float  # reduction of ||r||^2
    full: bool  # the radius does not limit it


class Trial(NamedTuple):
    """The point that a step leads to, the actual reduction there, and the radii that follow from it."""

    w: Array
    r: Array
    size: float  # ||r||
    step: Step
    actual: float  # reduction of ||r||^2; -inf where F is not finite
    natural: float = 0.0  # radius at which the second-order part of F would be as long as the step
    minimiser: float = math.inf  # of the parabola through ||r||^2 at w, its slope, and ||r||^2 here, as a share of p

    @property
    def gain(self) -> float:
        """Actual over predicted reduction."""
        return self.actual / self.step.predicted


def attempt(problem: Problem, w: Array, r: Array, step: Step) -> Trial:
    new = problem.move(w, step.p)
    residual = problem.residual(new)
    size = norm(residual)
    actual = float((r - residual).dot(r + residual)) if size < HUGE else -math.inf
    return Trial(w=new, r=residual, size=size, step=step, actual=actual)


def better(first: Trial, second: Trial) -> Trial:
    return second if second.size < first.size else first


def doubled(problem: Problem, w: Array, r: Array, size: float, trial: Trial) -> Trial:
    """Twice the step where the root appears to be double, if that is better; ``size`` is ||r||.

    Near a root where J is singular, Newton's steps only halve the error: ||r|| falls to a quarter, and the second-order
    correction is half a step back. Twice the step restores fast convergence (Decker, Keller, Kelley, SIAM J. Numer.
    Anal. 20, 1983).
    """
    step, length = trial.step, trial.step.length
    quarters = 0.23 * size < trial.size < 0.27 * size and 1.9 * length < trial.natural < 2.1 * length
    if not quarters or problem.spent:
        return trial
    twice = step._replace(p=2.0 * step.p, Jp=2.0 * step.Jp, length=2.0 * length)
    return better(trial, attempt(problem, w, r, twice)._replace(natural=trial.natural))


def radius_by_natural(trial: Trial, most: float) -> float:
    """The natural radius, no shorter than the step and no longer than ``most``."""
    return max(min(trial.natural, most), trial.step.length)


def radius_by_gain(trial: Trial, radius: float, growth: float, shrinkage: float) -> float:
    """The next radius, by the gain ratio; growth and shrinkage are multiples of the step's length."""
    if trial.gain > TUNING.good_gain:
        return max(radius, growth * trial.step.length)
    return shrinkage * trial.step.length if trial.gain < TUNING.poor_gain else radius
