"""Solve over-parameterized systems of non-linear equations F(w) = y, with certificates from the tangent kernel."""

from plsolve.result import Result
from plsolve.solver import solve
from plsolve.stopping import Status

__all__ = ["Result", "Status", "solve"]
