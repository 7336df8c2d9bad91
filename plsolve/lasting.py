"""What the user's functions return is used as it was then, though they may fill the same arrays with every call."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import scipy.sparse as sps


def references(x: Any) -> int:
    """How many there are to x, with those of this call."""
    return sys.getrefcount(x)


def alone() -> int:
    """The same for an array that only one variable, or attribute, refers to."""
    x = np.empty(0)
    return references(x)


ALONE = alone()


def shared(x: Any) -> bool:
    """Whether more than one variable or attribute refers to x."""
    return x is not None and references(x) > ALONE + 1


def lasting(J: Any) -> Any:
    """J, handed over from no variable, or a copy where someone else holds its memory, and may fill it anew.

    Programs do so with every call of F or jac. What was made for this call alone, as it mostly is, is not copied; nor
    is a LinearOperator.
    """
    held, sparse = references(J) > ALONE, isinstance(J, (sps.csr_array, sps.csr_matrix))
    if sparse and (held or shared(J.data) or shared(J.data.base)):
        return J.copy()
    if isinstance(J, np.ndarray) and (held or shared(J.base)):
        return J.copy(order="K")
    return J
