"""`curve_fit` with scipy's signature: models with fewer or more parameters than data."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import LinAlgError, cholesky, qr, svd
from scipy.optimize import Bounds, OptimizeWarning

from plsolve import loop
from plsolve.checks import warn
from plsolve.linalg import Array, norm, trcon
from plsolve.methods import tall
from plsolve.methods.quadratic import NOWHERE, upper
from plsolve.problem import Problem
from plsolve.scipy_api.arguments import EPS, Call, Data, JacobianCall, as_sides, as_start, check_shape
from plsolve.scipy_api.fitting import Tolerances, concluded, least_squares, minimise, nearest_to_start, tangent_at

NO_COVARIANCE = "Covariance of the parameters could not be estimated"
NOT_FOUND = "Optimal parameters not found: "
TOLERANCES = {"ftol": 1.49012e-8, "xtol": 1.49012e-8, "gtol": 0.0}
#: The arguments of scipy's `leastsq` with their defaults; the last two say nothing to this library.
LEASTSQ = {**TOLERANCES, "maxfev": 0, "epsfcn": None, "diag": None, "col_deriv": False, "factor": 100}
LATEST = 1e-5  # of ||r|| that the last step may have changed, for the J before it to make the covariance
WELL = 1e-3  # reciprocal condition number for which one-sided differences do as well
NOISE = 1e-9  # relative error of differences: smaller singular values of J are none


def curve_fit(
    f: Callable[..., Any],
    xdata: Any,
    ydata: Any,
    p0: Any = None,
    sigma: Any = None,
    absolute_sigma: bool = False,
    check_finite: bool | None = None,
    bounds: Any = (-np.inf, np.inf),
    method: str | None = None,
    jac: Any = None,
    *,
    full_output: bool = False,
    nan_policy: str | None = None,
    **kwargs: Any,
) -> tuple[Any, ...]:
    """Fit f(xdata, *params) to ydata by least squares: `scipy.optimize.curve_fit`, also for more parameters than data.

    Parameters are scipy's. With more parameters than data, the fit is the one with the smallest change ||p - p0||.

    Returns
    -------
    popt : ndarray (n,)
    pcov : ndarray (n, n)
        As in scipy, for 'lm' from the Jacobian of the last step where that was short; all inf, with an
        `OptimizeWarning`, where J lacks rank or there are not more data than parameters, and ``absolute_sigma`` is
        False. With ``absolute_sigma`` True it is finite for the parameters that the data determine, and inf in the
        rows and columns of the others.
    infodict : dict
        With ``full_output``: scipy's entries, and ``rank`` of J, ``null_space`` (n, n - rank), an orthonormal basis of
        the changes of the parameters that the data do not see.
    mesg, ier
        With ``full_output``, as in scipy.

    Raises
    ------
    ValueError, TypeError, RuntimeError
        As scipy does; RuntimeError where no fit is found.

    Examples
    --------
    >>> import numpy as np
    >>> from plsolve import curve_fit
    >>> x = np.linspace(0, 4, 50)
    >>> popt, pcov = curve_fit(lambda x, a, b: a * np.exp(-b * x), x, 2.5 * np.exp(-1.3 * x))
    >>> popt.round(9)
    array([2.5, 1.3])
    """
    start, bounded = as_parameters(f, p0, bounds)
    if method is None:
        method = "trf" if bounded else "lm"
    if method == "lm" and bounded:
        raise ValueError("Method 'lm' only works for unconstrained problems. Use 'trf' or 'dogbox' instead.")
    xdata, ydata, sigma = as_data(xdata, ydata, sigma, check_finite, nan_policy)
    if "args" in kwargs:
        raise ValueError("'args' is not a supported keyword argument.")
    data = Data(f, xdata, ydata, as_transform(sigma, ydata.size), jac)
    if method == "lm":
        fit = by_leastsq(data, start, kwargs, full_output)
    else:
        if "max_nfev" not in kwargs:
            kwargs["max_nfev"] = kwargs.pop("maxfev", None)
        fit = by_least_squares(data, start, bounds=bounds, method=method, **kwargs)
    space = determined(fit.A, 0.0 if callable(jac) else NOISE)
    pcov = covariance(space, fit, absolute_sigma)
    if np.isinf(pcov).all():
        warn(NO_COVARIANCE, OptimizeWarning)
    if not full_output:
        return fit.x, pcov
    return fit.x, pcov, information(fit, space, method), fit.message, fit.ier


def as_parameters(f: Callable[..., Any], p0: Any, bounds: Any) -> tuple[Array, bool]:
    """The start, as many ones as f has parameters by default, and whether there are bounds."""
    if p0 is None:
        parameters = inspect.signature(f).parameters.values()
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        n = sum(p.kind in kinds for p in parameters) - 1
        if n < 1:
            raise ValueError("Unable to determine number of fit parameters.")
    else:
        p0 = np.atleast_1d(p0)
        n = p0.size
    lower, upper = (bounds.lb, bounds.ub) if isinstance(bounds, Bounds) else as_sides(bounds, n)
    bounded = bool(np.any((lower > -np.inf) | (upper < np.inf)))
    if p0 is None:
        below, above = np.isfinite(lower), np.isfinite(upper)
        low, high = np.where(below, lower, 0.0), np.where(above, upper, 0.0)
        p0 = np.select([below & above, below, above], [0.5 * (low + high), low + 1.0, high - 1.0], 1.0)
        p0 = np.resize(p0, n) if p0.size == 1 else p0
    return p0, bounded


def as_data(
    xdata: Any, ydata: Any, sigma: Any, check_finite: bool | None, nan_policy: str | None
) -> tuple[Any, Array, Any]:
    """The data as float64, without the points that nan_policy='omit' leaves out."""
    if check_finite is None:
        check_finite = nan_policy is None
    convert = np.asarray_chkfinite if check_finite else np.asarray
    ydata = convert(ydata, float)
    if isinstance(xdata, (list, tuple, np.ndarray)):
        xdata = convert(xdata, float)
    if ydata.size == 0:
        raise ValueError("`ydata` must not be empty!")
    if check_finite or nan_policy is None:
        return xdata, ydata, sigma
    missing = incomplete(xdata, ydata, nan_policy)
    if not missing.any():
        return xdata, ydata, sigma
    if sigma is not None:
        sigma = np.asarray(sigma)
        sigma = sigma[~missing] if sigma.ndim == 1 else sigma[~missing][:, ~missing] if sigma.ndim == 2 else sigma
    numeric = np.issubdtype(np.asarray(xdata).dtype, np.number)
    return (xdata[..., ~missing] if numeric else xdata), ydata[~missing], sigma


def incomplete(xdata: Any, ydata: Array, nan_policy: str) -> Any:
    """Which data points have a NaN."""
    if nan_policy == "propagate":
        raise ValueError("`nan_policy='propagate'` is not supported by this function.")
    if nan_policy not in ("raise", "omit"):
        raise ValueError("nan_policy must be one of {None, 'raise', 'omit'}")
    missing = np.isnan(ydata)
    if np.issubdtype(np.asarray(xdata).dtype, np.number):
        missing = missing | np.isnan(xdata).any(axis=tuple(range(np.ndim(xdata) - 1)))
    if missing.any() and nan_policy == "raise":
        raise ValueError("The input contains nan values")
    return missing


def as_transform(sigma: Any, size: int) -> Array | None:
    """1 / sigma, or the Cholesky factor L of a covariance L L^T."""
    if sigma is None:
        return None
    sigma = np.asarray(sigma)
    if sigma.size == 1 or sigma.shape == (size,):
        return np.asarray(1.0 / sigma)
    if sigma.shape != (size, size):
        raise ValueError("`sigma` has incorrect shape.")
    try:
        return np.asarray(cholesky(sigma, lower=True))
    except LinAlgError as error:
        raise ValueError("`sigma` must be positive definite.") from error


class Fit(NamedTuple):
    """The parameters found, their residuals and Jacobian, and how the fit ended."""

    x: Array
    fun: Array
    cost: float
    A: Array  # makes the covariance (A^T A)^+: J, or R of J = Q R
    J: Array
    nfev: int
    message: str
    ier: int


def by_leastsq(data: Data, start: Any, kwargs: dict[str, Any], full: bool) -> Fit:
    """The fit with the arguments of scipy's `leastsq`; full: with J at x in any case."""
    for name in kwargs:
        if name not in LEASTSQ:
            raise TypeError(f"leastsq() got an unexpected keyword argument '{name}'")
    given, start = LEASTSQ | kwargs, as_start(start)
    limit = given["maxfev"] or 200 * (start.size + 1)
    scale: Any = 1.0 if 1 < data.y.size < start.size else "jac"
    if given["diag"] is not None:
        scale = 1.0 / np.asarray(given["diag"], dtype=float)
    derivative = data.jac
    if callable(derivative):
        derivative = JacobianCall(data.jacobian, (), {}, lambda J: check_shape((problem.n, problem.m), J)).__call__
    problem = Problem(
        *(Call(data, (), {}).__call__, derivative, start, data.target, (), None, scale, 0.0, None),
        diff_step=None if given["epsfcn"] is None else np.sqrt(given["epsfcn"]),
        max_nfev=limit,
    )
    tolerances = Tolerances(*(given[name] for name in TOLERANCES))
    end, s, _ = minimise(problem, "gauss-newton", tolerances, None, 0)
    status, message = concluded(problem, s, end, tolerances, np.inf)
    if status <= 0:
        reached = f"Number of calls to function has reached maxfev = {limit}."
        raise RuntimeError(NOT_FOUND + (reached if status == 0 else message))
    with problem.at_work():
        if problem.n < problem.m:
            s = nearest_to_start(problem, s)
        A = last_triangle(s)
        J = tangent_at(problem, s, True).toarray() if full or not A.size else A
    nfev, cost = problem.nfev + problem.nfev_jac, 0.5 * float(s.r.dot(s.r))
    return Fit(s.w, s.r, cost, A if A.size else J, J, nfev, *leastsq_message(status, tolerances))


def last_triangle(s: loop.State) -> Array:
    """R of the J = Q R that the last step was made with, as in MINPACK; empty where a better J is needed."""
    if not isinstance(s, tall.State) or not s.memory.s.size:
        return NOWHERE
    last = s.memory
    R = upper(last.R) / last.d
    good = norm(R.dot(last.s)) <= LATEST * norm(s.r) and (last.precise or trcon(last.R) > WELL)
    return R if good else NOWHERE


def leastsq_message(status: int, tolerances: Tolerances) -> tuple[str, int]:
    """MINPACK's message and integer for one of scipy's statuses."""
    sums = f"Both actual and predicted relative reductions in the sum of squares\n  are at most {tolerances.ftol:f}"
    iterates = "he relative error between two consecutive iterates is at"
    cosine = "The cosine of the angle between func(x) and any column of the\n  Jacobian is at most "
    return {
        1: (f"{cosine}{tolerances.gtol:f} in absolute value", 4),
        2: (sums, 1),
        3: (f"T{iterates} most {tolerances.xtol:f}", 2),
        4: (f"{sums} and t{iterates} \n  most {tolerances.xtol:f}", 3),
    }[status]


def by_least_squares(data: Data, start: Any, **kwargs: Any) -> Fit:
    """The fit with the arguments of scipy's `least_squares`, and with J at x."""
    jac = data.jacobian if callable(data.jac) else data.jac or "2-point"
    res = least_squares(data, start, jac=jac, **kwargs)
    if not res.success:
        raise RuntimeError(NOT_FOUND + res.message)
    x, fun, J = res.x, res.fun, res.jac
    problem: Problem = res._problem
    if problem.n < problem.m and not problem.bounded:
        with problem.at_work():
            s = nearest_to_start(problem, loop.Start(x, fun, nit=res.nit))
            x, fun, J = s.w, s.r, tangent_at(problem, s, True).J
    J = J if isinstance(J, np.ndarray) else J.toarray()
    return Fit(x, fun, res.cost, J, J, problem.nfev, res.message, res.status)


class Space(NamedTuple):
    """What the data determine: J D^{-1} = U diag(s) V^T with columns of unit length, in units d."""

    d: Array  # (n,) lengths of the columns of J, 1 for zero
    s: Array  # (rank,)
    V: Array  # (n, n), the first ``rank`` columns belong to s
    rank: int


@np.errstate(all="ignore")
def determined(J: Array, noise: float) -> Space:
    """The singular values of J above rounding and noise, and the directions that go with them."""
    if not np.isfinite(J).all():
        return Space(np.ones(J.shape[1]), np.empty(0), np.eye(J.shape[1]), 0)
    d = np.sqrt(np.einsum("ij,ij->j", J, J))
    d[d == 0.0] = 1.0
    A = J / d
    if A.shape[0] > A.shape[1]:
        A = qr(A, mode="r")[0][: A.shape[1]]
    _, s, Vt = svd(A, full_matrices=True)
    rank = int(np.count_nonzero(s > max(EPS * max(J.shape), noise) * s[0]))
    return Space(d, s[:rank], Vt.T, rank)


@np.errstate(all="ignore")
def covariance(space: Space, fit: Fit, absolute: bool) -> Array:
    """(J^T J)^+ in the units of the parameters, inf where these are not determined."""
    m, n = fit.fun.size, fit.x.size
    if not absolute and (space.rank < n or m <= n):
        return np.full((n, n), np.inf)
    V = space.V[:, : space.rank]
    half = V / space.s / space.d[:, None]
    pcov = half @ half.T
    if not absolute:
        pcov *= 2.0 * fit.cost / (m - n)
    lost = np.einsum("ij,ij->i", V, V) < 1.0 - 1e-9
    pcov[lost] = pcov[:, lost] = np.inf
    return np.asarray(pcov)


def information(fit: Fit, space: Space, method: str) -> dict[str, Any]:
    """scipy's infodict, with rank and null space."""
    null = qr(space.V[:, space.rank :] / space.d[:, None], mode="economic")[0]
    info = {"nfev": fit.nfev, "fvec": fit.fun, "rank": space.rank, "null_space": null}
    if method == "lm":
        (packed, _tau), _R, order = qr(fit.J, mode="raw", pivoting=True)
        Q = qr(fit.J, mode="economic", pivoting=True)[0]
        info |= {"fjac": packed.T, "ipvt": order + 1, "qtf": Q.T @ fit.fun}
    return info
