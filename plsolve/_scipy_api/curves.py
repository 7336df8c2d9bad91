"""`curve_fit` with scipy's signature: models with fewer or more parameters than data."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import LinAlgError, cholesky, qr
from scipy.optimize import Bounds, OptimizeWarning

from plsolve._checks import DIFFERENCES, as_flag, as_float, as_tolerance, refuse_masked, shown, warn
from plsolve._checks import check_finite as refuse_not_finite
from plsolve._inference.noise import Noise
from plsolve._inference.posterior import BySingularValues, flat_posterior
from plsolve._linalg import Array, Mask, norm, trcon
from plsolve._problem import Problem
from plsolve._scipy_api.arguments import (
    METHODS,
    MODEL,
    Call,
    Data,
    JacobianCall,
    as_limit,
    as_sides,
    as_start,
    as_weights,
    check_shape,
)
from plsolve._scipy_api.fitting import Tolerances, concluded, least_squares, minimise, nearest_to_start, tangent_at
from plsolve._state import Start, State
from plsolve.methods import tall
from plsolve.methods.quadratic import NOWHERE, upper

NO_COVARIANCE = "Covariance of the parameters could not be estimated"
WRONG_SHAPE = "`sigma` has incorrect shape: {} for {} numbers in `ydata`."
NOT_FOUND = "Optimal parameters not found: "
TOLERANCES = {"ftol": 1.49012e-8, "xtol": 1.49012e-8, "gtol": 0.0}
#: The arguments of scipy's `leastsq` with their defaults; the last two have no effect here.
LEASTSQ = {**TOLERANCES, "maxfev": 0, "epsfcn": None, "diag": None, "col_deriv": False, "factor": 100}
LATEST = 1e-5  # of ||r||: if the last step changed it by less, the J before it gives the covariance
WELL = 1e-3  # reciprocal condition number from which one-sided differences are accurate enough
NOISE = 1e-9  # relative error of differences: smaller singular values of J count as zero


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
    """Fit ``f(xdata, *params)`` to ydata by least squares: scipy's `curve_fit`, also for more parameters than data.

    The parameters are scipy's. With more parameters than data, the fit is the one with the least change ||p - p0||.

    Parameters
    ----------
    f : callable
        ``f(xdata, *params)``, which returns an array of the shape of ydata.
    xdata : array_like or object
        The first argument of f.
    ydata : array_like (M,)
        The data.
    p0 : array_like (n,), optional
        Start; ones by default, or within the bounds.
    sigma : float or array_like (M,) or (M, M), optional
        Standard deviations of the data, or their covariance.
    absolute_sigma : bool
        Whether sigma is in units of the data; if not, only its ratios count.
    check_finite : bool, optional
        Whether non-finite data are an error; by default they are, unless ``nan_policy`` is given.
    bounds : (lower, upper) or scipy.optimize.Bounds
        Limits of the parameters.
    method : {'lm', 'trf', 'dogbox', 'gauss-newton', 'gd', 'sgd'}, optional
        As for `plsolve.least_squares`; 'lm' without bounds, else 'trf'.
    jac : callable or {'2-point', '3-point', 'cs'}, optional
        ``jac(xdata, *params) -> (M, n)``.
    full_output : bool
        Whether infodict, mesg and ier are returned, too.
    nan_policy : {'raise', 'omit'}, optional
        The treatment of NaN in the data.
    **kwargs
        The keywords of scipy's leastsq (for 'lm') or of `plsolve.least_squares`.

    Returns
    -------
    popt : ndarray (n,)
        The parameters.
    pcov : ndarray (n, n)
        The covariance of the parameters, as in scipy; for 'lm' from the Jacobian of the last step if that was short.
        With ``absolute_sigma`` False all entries are inf, with an OptimizeWarning, if J is rank-deficient or there
        are no more data than parameters. With ``absolute_sigma`` True they are finite for the parameters that the data
        determine, and inf in the rows and columns of the others.
    infodict : dict
        With ``full_output``: scipy's entries, the ``rank`` of J, and ``null_space`` (n, n - rank), an orthonormal basis
        of the parameter changes that do not affect the fit.
    mesg : str
        With ``full_output``: how the fit ended.
    ier : int
        With ``full_output``: scipy's number for how the fit ended.

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
    check_choices(f, method, jac)
    full_output, absolute_sigma = as_flag(full_output, "full_output"), as_flag(absolute_sigma, "absolute_sigma")
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
    seen = determined(fit.A, 0.0 if callable(jac) else NOISE)
    pcov = covariance(seen, fit, absolute_sigma)
    if np.isinf(pcov).all():
        warn(NO_COVARIANCE, OptimizeWarning)
    if not full_output:
        return fit.x, pcov
    return fit.x, pcov, information(fit, seen, method), fit.message, fit.ier


def check_choices(f: Any, method: Any, jac: Any) -> None:
    if not callable(f):
        raise TypeError(f"`f` must be callable, got {type(f).__name__}.")
    if not (method is None or isinstance(method, str)):
        raise ValueError(f"`method` must be None or one of {', '.join(map(repr, METHODS))}, got {shown(method)}.")
    if not (jac is None or callable(jac) or (isinstance(jac, str) and jac in DIFFERENCES)):
        raise ValueError(f"`jac` must be '2-point', '3-point', 'cs', callable or None, got {shown(jac)}.")


def as_parameters(f: Callable[..., Any], p0: Any, bounds: Any) -> tuple[Array, bool]:
    """The start, by default one entry for each parameter of f, and whether there are bounds."""
    if p0 is None:
        n = parameters_of(f)
        if n < 1:
            raise ValueError("Unable to determine number of fit parameters: `p0` must be given.")
    else:
        p0 = as_start(p0, "p0")
        n = p0.size
    lower, upper = (bounds.lb, bounds.ub) if isinstance(bounds, Bounds) else as_sides(bounds, n)
    bounded = bool(np.any((lower > -np.inf) | (upper < np.inf)))
    if p0 is None:
        below, above = np.isfinite(lower), np.isfinite(upper)
        low, high = np.where(below, lower, 0.0), np.where(above, upper, 0.0)
        p0 = np.select([below & above, below, above], [0.5 * (low + high), low + 1.0, high - 1.0], 1.0)
        p0 = np.resize(p0, n) if p0.size == 1 else p0
    return p0, bounded


def parameters_of(f: Callable[..., Any]) -> int:
    """The number of parameters of f after xdata; 0 if its signature does not give it."""
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):
        return 0
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in kinds for p in parameters) - 1


def as_data(
    xdata: Any, ydata: Any, sigma: Any, check_finite: bool | None, nan_policy: str | None
) -> tuple[Any, Array, Any]:
    """The data as float64, without the points that nan_policy='omit' leaves out."""
    check_policy(nan_policy)
    check_finite = nan_policy is None if check_finite is None else as_flag(check_finite, "check_finite")
    ydata, sigma = as_float(ydata, "ydata"), None if sigma is None else as_float(sigma, "sigma")
    refuse_masked(xdata, "xdata")
    if isinstance(xdata, (list, tuple, np.ndarray)):
        xdata = as_float(xdata, "xdata")
    if ydata.size == 0:
        raise ValueError("`ydata` must not be empty!")
    if ydata.ndim > 1:
        raise ValueError(f"`ydata` must have 1 dimension, got shape {ydata.shape}: ravel it, and what `f` returns.")
    if check_finite and isinstance(xdata, np.ndarray):
        refuse_not_finite(xdata, "xdata")
    if not check_finite and nan_policy is not None:
        missing = incomplete(xdata, ydata)
        if missing.any() and nan_policy == "raise":
            raise ValueError("The input contains nan values: see `xdata` and `ydata`.")
        if missing.any():
            xdata, ydata, sigma = complete(xdata, ~missing), ydata[~missing], complete_sigma(sigma, ~missing)
    refuse_not_finite(ydata, "ydata")
    return xdata, ydata, sigma


def check_policy(nan_policy: Any) -> None:
    if isinstance(nan_policy, str) and nan_policy == "propagate":
        raise ValueError("`nan_policy='propagate'` is not supported by this function.")
    if not (nan_policy is None or (isinstance(nan_policy, str) and nan_policy in ("raise", "omit"))):
        raise ValueError("nan_policy must be one of {None, 'raise', 'omit'}")


def incomplete(xdata: Any, ydata: Array) -> Mask:
    """Marks the data points with a NaN: rows of a pandas table, or entries along the last axis of an array."""
    missing = np.isnan(ydata)
    x = np.asarray(xdata)
    if x.ndim == 0 or not np.issubdtype(x.dtype, np.number):
        return missing
    along = -1 if is_table(xdata) else 0
    x = np.moveaxis(np.isnan(x), 0, along)
    if x.shape[-1] != ydata.size:
        raise ValueError(f"`xdata` must have as many points as `ydata`, {ydata.size}, got shape {np.shape(xdata)}.")
    return missing | x.reshape(-1, ydata.size).any(axis=0)


def is_table(xdata: Any) -> bool:
    """Whether it is a pandas DataFrame or Series."""
    return hasattr(xdata, "iloc")


def complete(xdata: Any, kept: Mask) -> Any:
    """The points that are kept."""
    if is_table(xdata):
        return xdata[kept]
    x = np.asarray(xdata)
    return x[..., kept] if x.ndim and np.issubdtype(x.dtype, np.number) else xdata


def complete_sigma(sigma: Any, kept: Mask) -> Any:
    """The errors of the points that are kept."""
    if sigma is None or sigma.size == 1:
        return sigma
    if sigma.shape not in (kept.shape, 2 * kept.shape):
        raise ValueError(WRONG_SHAPE.format(sigma.shape, kept.size))
    return sigma[kept] if sigma.ndim == 1 else sigma[np.ix_(kept, kept)]


def as_transform(sigma: Any, size: int) -> Array | None:
    """1 / sigma, or the Cholesky factor L of a covariance L L^T."""
    if sigma is None:
        return None
    if np.isnan(sigma).any():
        raise ValueError("`sigma` must be without NaN.")
    if sigma.ndim < 2 and (sigma.size == 1 or sigma.shape == (size,)):
        if not sigma.all():
            raise ValueError("`sigma` must not be zero.")
        return np.asarray(1.0 / sigma)
    if sigma.shape != (size, size):
        raise ValueError(WRONG_SHAPE.format(sigma.shape, size))
    refuse_not_finite(sigma, "sigma")
    if np.abs(sigma - sigma.T).max() > 1e-8 * np.abs(sigma).max():
        raise ValueError("`sigma` must be symmetric.")
    try:
        L = np.asarray(cholesky(sigma, lower=True))
    except LinAlgError as error:
        raise ValueError("`sigma` must be positive definite.") from error
    return L if size > 1 else 1.0 / L[0]


class Fit(NamedTuple):
    """The parameters found, their residuals and Jacobian, and how the fit ended."""

    x: Array
    fun: Array
    cost: float
    A: Array  # gives the covariance (A^T A)^+: J, or R of J = Q R
    J: Array
    nfev: int
    message: str
    ier: int


def by_leastsq(data: Data, start: Any, kwargs: dict[str, Any], full: bool) -> Fit:
    """The fit with the arguments of scipy's `leastsq`; full: J is evaluated at x in any case."""
    for name in kwargs:
        if name not in LEASTSQ:
            raise TypeError(f"leastsq() got an unexpected keyword argument '{name}'")
    given, start = LEASTSQ | kwargs, as_start(start, "p0")
    limit = as_limit(given["maxfev"], "maxfev", 200 * (start.size + 1), zero=True)
    scale: Any = 1.0 if 1 < data.y.size < start.size else "jac"
    if given["diag"] is not None:
        scale = 1.0 / as_weights(given["diag"], start.size, "diag")
    tolerances = Tolerances(*(as_tolerance(given[name], name) for name in TOLERANCES))
    derivative = data.jac
    if callable(derivative):
        derivative = JacobianCall(data.jacobian, (), {}, lambda J: check_shape((problem.n, problem.m), J)).__call__
    problem = Problem(
        Call(data, (), {}, MODEL).__call__,
        derivative,
        start,
        data.target,
        x_scale=scale,
        flat=tolerances.flat,
        flat_gradient=tolerances.gtol**2,
        diff_step=None if given["epsfcn"] is None else np.sqrt(as_tolerance(given["epsfcn"], "epsfcn")),
        max_nfev=limit,
        names=MODEL,
    )
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
    nfev, cost = problem.system.nfev + problem.system.nfev_jac, 0.5 * float(s.r.dot(s.r))
    message, ier = leastsq_message(status, tolerances)
    return Fit(x=s.w, fun=s.r, cost=cost, A=A if A.size else J, J=J, nfev=nfev, message=message, ier=ier)


def last_triangle(s: State) -> Array:
    """R of the J = Q R of the last step, as in MINPACK; empty if a more accurate J is needed."""
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
            s = nearest_to_start(problem, Start(x, fun, nit=res.nit))
            x, fun, J = s.w, s.r, tangent_at(problem, s, True).J
    J = J if isinstance(J, np.ndarray) else J.toarray()
    return Fit(
        x=x,
        fun=fun,
        cost=res.cost,
        A=J,
        J=J,
        nfev=problem.system.nfev,
        message=res.message,
        ier=res.status,
    )


def determined(J: Array, noise: float) -> BySingularValues:
    """The parameters that the data determine without a prior: singular values of J above rounding and noise."""
    return flat_posterior(J if np.isfinite(J).all() else np.zeros(J.shape), Noise(1.0), noise)


@np.errstate(all="ignore")
def covariance(data: BySingularValues, fit: Fit, absolute: bool) -> Array:
    """(J^T J)^+ in the units of the parameters; inf for parameters that are not determined."""
    m, n = fit.fun.size, fit.x.size
    if not absolute and (data.s.size < n or m <= n):
        return np.full((n, n), np.inf)
    pcov = data.covariance(np.eye(n))
    return pcov if absolute else pcov * (2.0 * fit.cost / (m - n))


def information(fit: Fit, data: BySingularValues, method: str) -> dict[str, Any]:
    """scipy's infodict, with rank and null space."""
    info = {"nfev": fit.nfev, "fvec": fit.fun, "rank": data.s.size, "null_space": data.null_space()}
    if method == "lm":
        J = fit.J if np.isfinite(fit.J).all() else np.zeros(fit.J.shape)
        (packed, _tau), _R, order = qr(J, mode="raw", pivoting=True)
        Q = qr(J, mode="economic", pivoting=True)[0]
        info |= {"fjac": packed.T, "ipvt": order + 1, "qtf": Q.T @ fit.fun}
    return info
