"""Compiled solves: the only room that knows numba, entered when it is first needed."""

from plsolve.compiled.blas import one_thread
from plsolve.compiled.engine import Engine
from plsolve.compiled.functions import NotCompilableError

__all__ = ["Engine", "NotCompilableError", "one_thread"]
