"""The theory of PL* and tangent kernels as functions on numbers; the formulas and their sources are in README.md.

Every function states its guarantee with its number in README.md. Nothing here depends on F, J or the rest of the
package, so that each statement can be checked, compiled and quoted on its own.
"""

from plsolve.theory import certificates, forecasts, steps

__all__ = ["certificates", "forecasts", "steps"]
