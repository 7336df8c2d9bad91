"""The theory of PL* and tangent kernels as functions on numbers; plsolve/theory/README.md has their sources.

Every function states its guarantee with the number that it has there. Nothing here depends on F, J or the rest of the
package, so that each statement can be checked, compiled and quoted on its own.
"""

from plsolve.theory import certificates, forecasts, steps

__all__ = ["certificates", "forecasts", "steps"]
