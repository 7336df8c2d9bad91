"""Checks of the options that first-order methods share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from plsolve._problem import Problem

CONSTANTS = ("lipschitz", "mu")


class Constants(NamedTuple):
    """Constants of the system in the metric of the step; 0: not known."""

    lipschitz: float  # >= ||J||
    beta: float  # Lipschitz constant of J
    mu: float  # <= lambda_min(K)


def constants(problem: Problem, options: Mapping[str, Any], beta: float) -> Constants:
    """The given constants in the metric of the step, where a step has length 1 if it is as long as x_scale."""
    high = float(problem.scale.max()) if problem.scale.size else 1.0
    low = float(problem.scale.min()) if problem.scale.size else 1.0
    return Constants(
        lipschitz=positive(options, "lipschitz") * high,
        beta=beta * high * high,
        mu=positive(options, "mu") * low * low,
    )


def positive(options: Mapping[str, Any], name: str) -> float:
    """The option, a positive number; 0 where it is not given."""
    if name not in options:
        return 0.0
    value = options[name]
    if not is_positive(value):
        raise ValueError(f"`options`: {name!r} must be a positive number, got {value!r}.")
    return float(value)


def is_positive(value: Any) -> bool:
    """Whether it is a positive finite real number."""
    real = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    return real and 0.0 < value < math.inf


def named(options: Mapping[str, Any], name: str, known: Mapping[str, Any]) -> Any:
    """The entry of ``known`` whose name is the value of the option."""
    value = options[name]
    if not (isinstance(value, str) and value in known):
        raise ValueError(f"`options`: {name!r} must be one of {', '.join(known)}, got {value!r}.")
    return known[value]


def step_size(value: Any, rules: Mapping[str, int], fixed: int) -> tuple[int, float]:
    """The rule's number and the fixed step that goes with it."""
    if isinstance(value, str) and value in rules:
        return rules[value], 0.0
    if is_positive(value):
        return fixed, float(value)
    raise ValueError(f"`options`: 'step_size' must be a positive number or one of {', '.join(rules)}, got {value!r}.")
