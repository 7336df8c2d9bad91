"""Solve over-parameterized systems of non-linear equations F(w) = y, with certificates from the tangent kernel."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plsolve import distributed, jit, methods, models, networks, testing, theory  # noqa: F401
    from plsolve._batch import BatchResult, solve_batch
    from plsolve._infer import infer
    from plsolve._inference.uncertainty import Uncertainty
    from plsolve._kernel import TangentKernel, tangent_kernel
    from plsolve._proofs.certificate import Certificate
    from plsolve._proofs.certify import certify
    from plsolve._result import Result
    from plsolve._scipy_api import curve_fit, least_squares, root
    from plsolve._solver import solve
    from plsolve._stopping import Status

__version__ = "0.2.0"

# Public submodules; importing jit imports numba.
_MODULES = ("distributed", "jit", "methods", "models", "networks", "testing", "theory")

# The module of each public name; names are imported at first use, to keep `import plsolve` fast.
_ROOMS = {
    "BatchResult": "plsolve._batch",
    "Certificate": "plsolve._proofs.certificate",
    "Result": "plsolve._result",
    "Status": "plsolve._stopping",
    "TangentKernel": "plsolve._kernel",
    "Uncertainty": "plsolve._inference.uncertainty",
    "certify": "plsolve._proofs.certify",
    "curve_fit": "plsolve._scipy_api",
    "infer": "plsolve._infer",
    "least_squares": "plsolve._scipy_api",
    "root": "plsolve._scipy_api",
    "solve": "plsolve._solver",
    "solve_batch": "plsolve._batch",
    "tangent_kernel": "plsolve._kernel",
}

__all__ = [
    "BatchResult",
    "Certificate",
    "Result",
    "Status",
    "TangentKernel",
    "Uncertainty",
    "certify",
    "curve_fit",
    "infer",
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
