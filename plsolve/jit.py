"""Solvers that users call inside their own numba functions; importing this module needs the extra 'compiled'."""

from plsolve._compiled.inside import Solution, gauss_newton

__all__ = ["Solution", "gauss_newton"]
