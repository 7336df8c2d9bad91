"""The history of a run, as users see it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from plsolve._linalg import Array


class History(NamedTuple):
    """The run, one entry per checked iteration; entry 0 is w0.

    Attributes
    ----------
    nit : ndarray (k,)
        Iteration numbers.
    loss : ndarray (k,)
        L = 1/2 ||F(w) - y||^2.
    step : ndarray (k,)
        Length of the step that led here, in the metric of ``x_scale``.
    pl : ndarray (k,)
        The PL ratio 1/2 ||g||^2 / L = r^T K r / r^T r, between lambda_min(K) and lambda_max(K): the PL* constant along
        the path. NaN where the method did not need the gradient: in SGD, and mostly at the last point.
    bound : ndarray (k,)
        What L was guaranteed not to exceed: for gd L_0 times the product of 1 - eta PL (its steps make L fall by
        eta ||g||^2 / 2, theory 1.1), for its momenta (1 - eta mu)^t L_0 (6.3). NaN for the other methods and step
        sizes, and with bounds or ``x_scale``.
    """

    nit: npt.NDArray[np.int64]
    loss: Array
    step: Array
    pl: Array
    bound: Array
