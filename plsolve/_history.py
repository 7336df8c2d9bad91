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
        L = 1/2 ||F(w) - y||^2; of sgd with shuffled rows that of the rows as they were met, where F was not evaluated.
    step : ndarray (k,)
        Length of the step to this point, in the metric of ``x_scale``.
    pl : ndarray (k,)
        The PL ratio 1/2 ||g||^2 / L = r^T K r / r^T r, between lambda_min(K) and lambda_max(K): the PL* constant along
        the path. NaN where the method did not compute the gradient: for SGD, and usually at the last point.
    bound : ndarray (k,)
        The guaranteed upper bound of L: for gd L_0 times the product of 1 - eta PL (each step reduces L by at least
        eta ||g||^2 / 2, theory 1.1), with momentum (1 - eta mu)^t L_0 (6.3). NaN for other methods and step sizes, and
        with bounds or ``x_scale``.
    """

    nit: npt.NDArray[np.int64]
    loss: Array
    step: Array
    pl: Array
    bound: Array
