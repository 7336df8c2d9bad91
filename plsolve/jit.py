"""Solvers to be called inside the user's own numba functions; importing this imports numba."""

from plsolve._compiled.inside import Solution, gauss_newton

__all__ = ["Solution", "gauss_newton"]
