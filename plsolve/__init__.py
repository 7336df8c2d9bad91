"""Solve over-parameterized systems of non-linear equations F(w) = y, with certificates from the tangent kernel."""

from plsolve.certificate import certify
from plsolve.kernel import TangentKernel, tangent_kernel
from plsolve.result import Result
from plsolve.scipy_api import curve_fit, least_squares, root
from plsolve.solver import solve
from plsolve.stopping import Status
from plsolve.theory.certificates import Certificate

__all__ = [
    "Certificate",
    "Result",
    "Status",
    "TangentKernel",
    "certify",
    "curve_fit",
    "least_squares",
    "root",
    "solve",
    "tangent_kernel",
]
