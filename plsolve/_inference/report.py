"""A result in plain text: how the run ended, and what the data determine."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from plsolve._checks import shown
from plsolve._inference.noise import Noise
from plsolve._inference.posterior import flat_posterior
from plsolve._inference.uncertainty import Uncertainty
from plsolve._linalg import NO_VECTOR, Array, norm
from plsolve._stopping import Status
from plsolve._tangent import tangent

SHOWN = 30  # up to this number all parameters are shown; of more, FEW
FEW = 10
UNDETERMINED = 0.9  # of the prior's standard deviation: above, the data hardly determine the parameter
CORRELATED = 0.5  # smaller correlations are not listed
AGREES = 1e-3  # relative difference between jac and differences of F that is not reported
ROUNDING = 1e-9  # relative error of differences: smaller singular values of J count as zero

Rows = list[tuple[str, str]]


def run_rows(result: Any) -> Rows:
    """Sizes, method, and how the run ended."""
    n, m, size = result["fun"].size, result["x"].size, norm(result["fun"])
    return [
        ("equations", str(n)),
        ("unknowns", str(m)),
        ("method", str(result.get("method", "least squares"))),
        ("status", f"{getattr(result['status'], 'name', result['status'])}: {' '.join(result['message'].split())}"),
        ("iterations", f"{result.get('nit', '-')}; {result['nfev']} calls of F, {result['njev']} Jacobians"),
        ("cost", f"{result.get('cost', 0.5 * size * size):.6g}"),
    ]


def kernel_rows(result: Any) -> Rows:
    """The condition of the tangent kernel, and the certificate of a solution."""
    values = result["kernel"].eigenvalues
    kappa = values[-1] / values[0] if values[0] > 0.0 else math.inf
    rows = [("kappa", f"{kappa:.3g}, eigenvalues of the tangent kernel from {values[0]:.3g} to {values[-1]:.3g}")]
    status = result["status"]
    solved = isinstance(status, Status) and status in (Status.RESIDUAL, Status.DISTANCE)
    certificate = result.get("certificate") if solved else None
    return rows if certificate is None else [*rows, ("certificate", str(certificate))]


def jacobian_rows(share: float, equation: int) -> Rows:
    """Whether jac is the derivative of F, by how much it differs from differences of F along one direction."""
    if math.isnan(share):
        return [("jacobian", "F is not finite close to x, where it was compared with jac")]
    if share <= AGREES:
        return [("jacobian", "jac agrees with differences of F at x")]
    where = f"by {100.0 * share:.3g} %, most in equation {equation} (of 0, 1, ...)"
    return [("jacobian", f"jac differs from differences of F at x {where}: it is wrong, or F is noisy or not smooth")]


def posterior_rows(u: Uncertainty) -> Rows:
    """What the data determine, given their noise and the prior."""
    n, m = u.misfit.size, u.x.size
    return [
        ("chi-square", f"{u.chi2:.6g} of {n} data, {u.chi2 / n:.3g} each"),
        ("rank", f"{u.rank} of {m} directions are known to half of the prior's standard deviation, or better"),
        ("degrees of freedom", f"{u.degrees_of_freedom:.4g} of the parameters are effectively determined by the data"),
        (
            "nonlinearity",
            f"{u.nonlinearity:.2g} standard deviations of the noise, {u.nonlinearity_of_draws:.2g} of draws",
        ),
    ]


def least_squares_fit(result: Any) -> tuple[Rows, Array]:
    """The noise estimated from the residual of a fit, and with it the covariance of the parameters without a prior."""
    n, m, J = result["fun"].size, result["x"].size, result["jac"]
    sigma = math.sqrt(2.0 * result["cost"] / (n - m))
    flat = flat_posterior(tangent(J, NO_VECTOR).toarray(), Noise(1.0), ROUNDING)
    row = ("noise", f"{sigma:.4g}, estimated from the residual with {n - m} degrees of freedom")
    return [row], sigma * sigma * flat.covariance(np.eye(m))


def best_known(share: Array) -> npt.NDArray[np.intp]:
    """The parameters to show, by their standard deviations relative to the prior's."""
    return np.arange(share.size) if share.size <= SHOWN else np.sort(np.argsort(share, kind="stable")[:FEW])


def parameter_lines(x: Array, std: Array, before: Array | None, names: Sequence[str]) -> list[str]:
    """The parameters with their standard deviations; if there are many, those that the data determine best."""
    shown = best_known(std if before is None else std / before)
    width = max(len(names[i]) for i in shown)
    lines = [f"    {names[i]:<{width}}  {one(x[i], std[i], None if before is None else before[i])}" for i in shown]
    if shown.size < x.size:
        lines.append(f"    ... and {x.size - shown.size} more, known less well")
    return lines


def one(value: float, std: float, before: float | None) -> str:
    """A value with its standard deviation, and that of the prior."""
    share = f" ({100.0 * std / abs(value):.2g} %)" if std < abs(value) else ""
    prior = "" if before is None else f", prior +/- {before:.3g}"
    return f"{value:>13.6g} +/- {std:.3g}{share}{prior}"


def undetermined_lines(std: Array, before: Array | None, names: Sequence[str]) -> list[str]:
    """The parameters that the data hardly determine."""
    open_ = np.flatnonzero(std > UNDETERMINED * before if before is not None else np.isinf(std))
    if open_.size == 0:
        return []
    listed = ", ".join(names[i] for i in open_[:FEW])
    more = f" and {open_.size - FEW} more" if open_.size > FEW else ""
    return [f"  hardly determined by the data: {listed}{more}"]


def correlation_lines(covariance: Array, names: Sequence[str]) -> list[str]:
    """The most correlated pairs."""
    std = np.sqrt(covariance.diagonal())
    with np.errstate(all="ignore"):
        R = covariance / np.outer(std, std)
    i, j = np.triu_indices(len(R), 1)
    order = [k for k in np.argsort(-np.abs(R[i, j]), kind="stable") if abs(R[i[k], j[k]]) >= CORRELATED][:FEW]
    if not order:
        return []
    return ["  correlations", *(f"    {names[i[k]]}, {names[j[k]]}: {R[i[k], j[k]]:+.3f}" for k in order)]


def as_names(names: Any, m: int) -> Sequence[str]:
    """One name for each parameter."""
    if names is None:
        return [f"w[{i}]" for i in range(m)]
    if isinstance(names, (str, bytes)) or not isinstance(names, Collection) or len(names) != m:
        raise ValueError(f"`names` must be {m} names, got {shown(names)}.")
    return [str(name) for name in names]


def report(
    result: Any, u: Uncertainty | None, names: Sequence[str] | None, disagreement: tuple[float, int] | None
) -> str:
    """The whole report; u is None if noise and prior are not known, disagreement if F and jac were not compared."""
    x, before = result["x"], None
    names, rows = as_names(names, x.size), [*run_rows(result), *kernel_rows(result)]
    if disagreement is not None:
        rows += jacobian_rows(*disagreement)
    few, lines = np.arange(x.size), list[str]()
    if u is not None:
        rows += posterior_rows(u)
        std, before = u.std(), u.prior_std
        few = best_known(std / before)
        covariance = u.covariance(few)
    elif result["fun"].size > x.size:
        row, covariance = least_squares_fit(result)
        rows, std = rows + row, np.sqrt(covariance.diagonal())
    if u is not None or result["fun"].size > x.size:
        lines = ["  parameters", *parameter_lines(x, std, before, names), *undetermined_lines(std, before, names)]
        lines += correlation_lines(covariance, [names[i] for i in few])
    width = max(len(name) for name, _ in rows)
    return "\n".join([*(f"  {name:<{width}}  {value}" for name, value in rows), *lines])
