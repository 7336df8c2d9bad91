"""Solve over-parameterized systems of non-linear equations F(w) = y, with certificates from the tangent kernel."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plsolve import choice, jit, loop, networks, testing  # noqa: F401
    from plsolve.batch import BatchResult, solve_batch
    from plsolve.certificate import certify
    from plsolve.kernel import TangentKernel, tangent_kernel
    from plsolve.result import Result
    from plsolve.scipy_api import curve_fit, least_squares, root
    from plsolve.solver import solve
    from plsolve.stopping import Status
    from plsolve.theory.certificates import Certificate

# Modules that users reach into; jit loads numba.
_MODULES = ("choice", "jit", "loop", "networks", "testing")

# Where each name lives: it is imported when first asked for, so that nobody waits for what he does not use.
_ROOMS = {
    "BatchResult": "plsolve.batch",
    "Certificate": "plsolve.theory.certificates",
    "Result": "plsolve.result",
    "Status": "plsolve.stopping",
    "TangentKernel": "plsolve.kernel",
    "certify": "plsolve.certificate",
    "curve_fit": "plsolve.scipy_api",
    "least_squares": "plsolve.scipy_api",
    "root": "plsolve.scipy_api",
    "solve": "plsolve.solver",
    "solve_batch": "plsolve.batch",
    "tangent_kernel": "plsolve.kernel",
}

__all__ = [
    "BatchResult",
    "Certificate",
    "Result",
    "Status",
    "TangentKernel",
    "certify",
    "curve_fit",
    "least_squares",
    "root",
    "solve",
    "solve_batch",
    "tangent_kernel",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        value = globals()[name] = getattr(import_module(_ROOMS[name]), name)
        return value
    if name in _MODULES:
        return import_module(f"plsolve.{name}")
    raise AttributeError(f"module 'plsolve' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, *__all__})
