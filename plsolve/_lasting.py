"""Copies of what the user's functions return, made only where the function may overwrite it at its next call."""

from __future__ import annotations

from sys import getrefcount
from typing import Any

import numpy as np
import scipy.sparse as sps


def references(x: Any) -> int:
    """The reference count of an object that no variable but x refers to."""
    return getrefcount(x)


ALONE = references(np.empty(0))


def lasting(J: Any) -> Any:
    """J, or a copy of it where something else holds its memory; the caller must not keep J in a variable.

    A function may fill one array again at every call. An array made for this call alone, the usual case, is not copied,
    nor is a LinearOperator.
    """
    if isinstance(J, np.ndarray):
        held = getrefcount(J) > ALONE or (J.base is not None and getrefcount(J.base) > ALONE)
        return J.copy(order="K") if held else J
    if isinstance(J, (sps.csr_array, sps.csr_matrix)):
        held = getrefcount(J) > ALONE or getrefcount(J.data) > ALONE
        held |= J.data.base is not None and getrefcount(J.data.base) > ALONE
        return J.copy() if held else J
    return J
