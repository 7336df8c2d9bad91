"""The record that every family of systems returns."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class System:
    """F(w) = y with its known constants; a constant that is not known is None.

    Attributes
    ----------
    name : str
        The name of the family.
    F, jac : callable
        w (m,) -> (n,), and w -> (n, m) ndarray or scipy.sparse. Some also take ``rows``, for SGD.
    w0, y : ndarray (m,), (n,)
        Start and target.
    solution : ndarray (m,) or None
        One solution. With m > n there are others.
    solvable : bool or None
        Whether a solution exists.
    mu : float or None
        min over all w of lambda_min(J J^T), or a lower bound where the docstring says so; 0 for m < n.
    lipschitz : float or None
        L_F = max over all w of ||J(w)||_2.
    beta, beta_rows : float or None, ndarray (n,) or None
        Global Lipschitz constants of J in the 2-norm, and of each of its rows: rigorous upper bounds.
    kappa : float or None
        The condition number of K = J J^T that the system was built with (of J^T J for m < n).
    n, m : int
        Equations and unknowns.
    """

    name: str
    F: Callable[..., Vector]
    jac: Callable[..., Any]
    w0: Vector
    y: Vector
    solution: Vector | None = None
    solvable: bool | None = None
    mu: float | None = None
    lipschitz: float | None = None
    beta: float | None = None
    beta_rows: Vector | None = None
    kappa: float | None = None

    @property
    def n(self) -> int:
        """Number of equations."""
        return self.y.size

    @property
    def m(self) -> int:
        """Number of unknowns."""
        return self.w0.size
