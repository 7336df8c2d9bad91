"""What the user's functions return is used as it was then, though they may fill the same arrays with every call."""

from __future__ import annotations

from sys import getrefcount
from typing import Any

import numpy as np
import scipy.sparse as sps


def references(x: Any) -> int:
    """How many there are to what this variable alone refers to, that of the count included."""
    return getrefcount(x)


ALONE = references(np.empty(0))


def lasting(J: Any) -> Any:
    """J, handed over from no variable, or a copy where someone else holds its memory, and may fill it anew.

    Programs do so with every call of F or jac. What was made for this call alone, as it mostly is, is not copied; nor
    is a LinearOperator.
    """
    if isinstance(J, np.ndarray):
        held = getrefcount(J) > ALONE or (J.base is not None and getrefcount(J.base) > ALONE)
        return J.copy(order="K") if held else J
    if isinstance(J, (sps.csr_array, sps.csr_matrix)):
        held = getrefcount(J) > ALONE or getrefcount(J.data) > ALONE
        held |= J.data.base is not None and getrefcount(J.data.base) > ALONE
        return J.copy() if held else J
    return J
