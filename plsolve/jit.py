"""Solvers that users call inside their own numba functions; importing this module imports numba."""

from plsolve._compiled.inside import Solution, gauss_newton

__all__ = ["Solution", "gauss_newton"]
