"""Checks of the arguments of the systems."""

from __future__ import annotations

import math
from typing import Any

from plsolve._checks import as_count, as_float, as_number, check_finite, generator, shown
from plsolve.testing._system import Vector


def check_sizes(least: int = 1, **sizes: Any) -> None:
    """Raise unless all are whole numbers >= least."""
    for name, size in sizes.items():
        as_count(size, name, least)


def check_positive(**values: Any) -> None:
    """Raise unless all are positive and finite."""
    for name, value in values.items():
        if not 0.0 < as_number(value, name) < math.inf:
            raise ValueError(f"`{name}` must be positive and finite, got {shown(value)}.")


def check_within(low: float, high: float, **values: Any) -> None:
    """Raise unless all are finite and within [low, high]."""
    for name, value in values.items():
        if not (low <= as_number(value, name) <= high and math.isfinite(value)):
            raise ValueError(f"`{name}` must be finite, at least {low:g} and at most {high:g}, got {shown(value)}.")


def check_strength(**values: Any) -> None:
    """Raise unless all are within [0, 1)."""
    for name, value in values.items():
        if not 0.0 <= as_number(value, name) < 1.0:
            raise ValueError(f"`{name}` must be at least 0 and below 1, got {shown(value)}.")


def check_seed(seed: Any) -> None:
    """Raise unless numpy takes it as a seed."""
    generator(seed, "seed")


def as_data(X: Any, y: Any) -> tuple[Vector, Vector]:
    """Inputs (n, d) and values (n,), all finite."""
    X, y = as_float(X, "X"), as_float(y, "y")
    if X.ndim != 2 or X.size == 0:
        raise ValueError(f"`X` must have shape (n, d), got {X.shape}.")
    if y.shape != (len(X),):
        raise ValueError(f"`y` must have shape ({len(X)},), got {y.shape}.")
    check_finite(X, "X")
    check_finite(y, "y")
    return X, y
