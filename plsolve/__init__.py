"""Solve over-parameterized systems of non-linear equations F(w) = y, with certificates from the tangent kernel."""

from plsolve.certificate import certify
from plsolve.kernel import TangentKernel, tangent_kernel
from plsolve.result import Result
from plsolve.solver import solve
from plsolve.stopping import Status
from plsolve.theory.certificates import Certificate

__all__ = ["Certificate", "Result", "Status", "TangentKernel", "certify", "solve", "tangent_kernel"]
