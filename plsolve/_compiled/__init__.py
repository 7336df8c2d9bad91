"""Compiled solves: the only package that imports numba; it is imported at first use."""

from typing import Any

try:
    import numba  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError("Compiled solves need numba: python -m pip install 'plsolve[compiled]'") from error

from plsolve._compiled import engine, sgd
from plsolve._compiled.blas import one_thread
from plsolve._compiled.functions import NotCompilableError
from plsolve._problem import Problem
from plsolve.methods.sgd import other_step, step

__all__ = ["Engine", "NotCompilableError", "one_thread"]

SGD = step, other_step


def Engine(problem: Problem, step: Any) -> Any:
    """A problem in compiled code, for a run by this method and those that follow it.

    Raises NotCompilableError if the problem, F, jac or args cannot be used in compiled code.
    """
    return (sgd if step in SGD else engine).Engine(problem, step)
