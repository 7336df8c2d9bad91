"""Systems F(w) = y with known answers: used by the tests, the benchmarks and the documentation.

Each function returns a `System`: the callbacks, a start, a target, and all constants that are known exactly. The module
`more_garbow_hillstrom` has the classical problems of least squares.
"""

from plsolve.testing import more_garbow_hillstrom
from plsolve.testing._classics import broyden_tridiagonal, chandrasekhar, planar_arm, powell_singular, tanh_system
from plsolve.testing._known import (
    no_solution,
    prescribed_spectrum,
    quadratic,
    repeated_equations,
    singular_start,
    smooth_kernel,
)
from plsolve.testing._nets import collocation, first_layer_tanh, two_layer_tanh
from plsolve.testing._system import System

__all__ = [
    "System",
    "broyden_tridiagonal",
    "chandrasekhar",
    "collocation",
    "first_layer_tanh",
    "more_garbow_hillstrom",
    "no_solution",
    "planar_arm",
    "powell_singular",
    "prescribed_spectrum",
    "quadratic",
    "repeated_equations",
    "singular_start",
    "smooth_kernel",
    "tanh_system",
    "two_layer_tanh",
]
