"""plsolve with other packages: named, fixed or tied parameters, nested parameters, labelled arrays, physical units.

    python -m pip install optimagic lmfit xarray pint
    python examples/with_others.py

Each of these packages does one thing well, and a few lines suffice to use plsolve with it. All examples fit the same
model, a decay with a constant background: y = height exp(-t / lifetime) + background.
"""

from dataclasses import dataclass

import lmfit
import numpy as np
import optimagic as om
import pint
import xarray as xr
from optimagic.optimization.algorithm import Algorithm, InternalOptimizeResult
from optimagic.typing import AggregationLevel

import plsolve

t = np.linspace(0.0, 4.0, 40)
noise = 0.02
data = 2.5 * np.exp(-t / 0.8) + 0.2 + noise * np.random.default_rng(0).standard_normal(t.size)


def decay(height, lifetime, background):
    return height * np.exp(-t / lifetime) + background


# -- optimagic: nested parameters, constraints, and plsolve as one of many optimizers ----------------------------------


@om.mark.minimizer(
    name="plsolve",
    solver_type=AggregationLevel.LEAST_SQUARES,
    is_available=True,
    is_global=False,
    needs_jac=True,
    needs_hess=False,
    needs_bounds=False,
    supports_parallelism=False,
    supports_bounds=True,
    supports_infinite_bounds=True,
    supports_linear_constraints=False,
    supports_nonlinear_constraints=False,
    disable_history=False,
)
@dataclass(frozen=True)
class PLSolve(Algorithm):
    def _solve_internal_problem(self, problem, x0):
        bounds = (-np.inf, np.inf) if problem.bounds.lower is None else (problem.bounds.lower, problem.bounds.upper)
        res = plsolve.least_squares(problem.fun, x0, problem.jac, bounds=bounds)
        return InternalOptimizeResult(x=res.x, fun=res.fun, success=res.success, message=res.message)


def with_optimagic():
    """Fit with a fixed background; parameters are passed and returned as a dict."""

    @om.mark.least_squares
    def residual(params):
        return (decay(**params) - data) / noise

    res = om.minimize(
        residual,
        {"height": 1.0, "lifetime": 1.0, "background": 0.2},
        algorithm=PLSolve,
        constraints=om.FixedConstraint(lambda params: params["background"]),
        bounds=om.Bounds(lower={"height": 0.0, "lifetime": 1e-3, "background": -np.inf}),
    )
    return res.params


# -- lmfit: parameters with names, limits and expressions, and the report that its users know --------------------------


def with_lmfit():
    """Fit with a background tied to the height, and store the standard deviations in the parameters."""
    params = lmfit.Parameters()
    params.add("height", value=1.0, min=0.0)
    params.add("lifetime", value=1.0, min=1e-3)
    params.add("background", expr="0.08 * height")
    free = [p for p in params.values() if p.vary and p.expr is None]

    def F(w):
        for p, value in zip(free, w, strict=True):
            p.set(value=value)
        return decay(**params.valuesdict())

    fit = plsolve.infer(
        F,
        None,
        [p.value for p in free],
        data,
        noise=noise,
        prior=10.0,
        bounds=([p.min for p in free], [p.max for p in free]),
    )
    F(fit.x)
    for p, std in zip(free, fit.uncertainty().std(), strict=True):
        p.stderr = std
    return params


# -- xarray: labelled data and labelled results ------------------------------------------------------------------------


def with_xarray():
    """Fit the decays at three places together; the results are labelled by place."""
    true = xr.DataArray([2.0, 2.5, 3.0], coords={"place": ["a", "b", "c"]}, dims="place")
    time = xr.DataArray(t, dims="time", coords={"time": t})
    observed = true * np.exp(-time / 0.8)
    start = xr.Dataset({"height": xr.ones_like(true), "lifetime": 1.0}).to_stacked_array("w", [], name="w")

    def model(w):
        p = start.copy(data=w).to_unstacked_dataset("w")
        return (p.height * np.exp(-time / p.lifetime)).transpose(*observed.dims).values.ravel()

    fit = plsolve.infer(model, None, start.values, observed.values.ravel(), noise=noise, prior=10.0)
    return xr.Dataset({"value": start.copy(data=fit.x), "std": start.copy(data=fit.uncertainty().std())})


# -- pint: quantities with units ---------------------------------------------------------------------------------------


def with_pint():
    """Convert quantities to numbers in chosen units for the fit, and the results back to quantities."""
    unit = pint.UnitRegistry()
    units = [unit.volt, unit.millisecond, unit.volt]
    start = [1000.0 * unit.millivolt, 1.0 * unit.millisecond, 0.0 * unit.volt]
    measured = 1e3 * data * unit.millivolt

    def F(w):
        height, lifetime, background = (value * u for value, u in zip(w, units, strict=True))
        signal = height * np.exp(-(t * unit.millisecond / lifetime).m_as("dimensionless")) + background
        return signal.m_as("volt")

    w0 = [q.m_as(u) for q, u in zip(start, units, strict=True)]
    fit = plsolve.infer(F, None, w0, measured.m_as("volt"), noise=noise, prior=10.0)
    return [(x * u).plus_minus(s) for x, s, u in zip(fit.x, fit.uncertainty().std(), units, strict=True)]


def main():
    params = with_optimagic()
    print("optimagic:", {name: round(float(value), 2) for name, value in params.items()})
    assert params["background"] == 0.2
    assert abs(params["lifetime"] - 0.8) < 0.05
    params = with_lmfit()
    print("lmfit:")
    params.pretty_print(colwidth=9, columns=["value", "stderr", "expr"])
    assert abs(params["lifetime"].value - 0.8) < 4 * params["lifetime"].stderr
    assert params["background"].value == 0.08 * params["height"].value
    found = with_xarray()
    print("xarray:", found, sep="\n")
    assert abs(found["value"].sel(variable="lifetime").item() - 0.8) < 1e-3
    lifetime = with_pint()[1]
    print("pint:", lifetime)
    assert abs(lifetime.value.m_as("second") - 8e-4) < 4 * lifetime.error.m_as("second")


if __name__ == "__main__":
    main()
