"""scipy.optimize's `least_squares`, `root` and `curve_fit`, by this library's methods and for any shape of system."""

from plsolve._scipy_api.curves import curve_fit
from plsolve._scipy_api.fitting import least_squares
from plsolve._scipy_api.roots import root

__all__ = ["curve_fit", "least_squares", "root"]
