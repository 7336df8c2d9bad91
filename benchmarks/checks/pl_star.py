"""Does plsolve do what its theory states? Rates, growth with kappa, forecasts, and the price of a certificate.

    python -m benchmarks.checks.pl_star [PART ...] [--quick]

PART: gd, momentum, sgd, growth, forecast, price (all without one). Systems with known constants
(`plsolve.testing.prescribed_spectrum`), each statement with the number of plsolve/theory/README.md. Exit code 1 if any
limit is missed.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from plsolve import solve
from plsolve.testing import System, first_layer_tanh, prescribed_spectrum, two_layer_tanh
from plsolve.theory import steps

UNIT = 2.0**-53
MOMENTA = ("heavy-ball", "nesterov", "chebyshev")
E = (0.0, 0.1, 0.2, 0.3)


def norm(x: Any) -> float:
    return float(np.linalg.norm(x))


def given(p: System) -> dict[str, float]:
    assert p.lipschitz is not None
    assert p.mu is not None
    return {"lipschitz": p.lipschitz, "mu": p.mu}


def grid(kappas: Any) -> Iterator[tuple[float, float, System]]:
    for kappa in kappas:
        for e in E:
            yield kappa, e, prescribed_spectrum(20, 60, kappa, e, seed=1)


# --- rates ----------------------------------------------------------------------------------------------------------


def gd_excess(p: System, iterations: int) -> float:
    """The largest L+/L - (1 - eta mu) in any iteration, in units of the rounding u (||F|| + ||y||)/||r|| (1.1)."""
    sol = solve(p.F, p.jac, p.w0, p.y, method="gd", beta=p.beta, options=given(p), max_iter=iterations, tol=0.0)
    loss = sol.history.loss[sol.history.loss > 0]
    r = np.sqrt(2.0 * loss[:-1])
    assert p.lipschitz is not None
    assert p.beta is not None
    assert p.mu is not None
    eta = 1.0 / (p.lipschitz**2 + p.beta * r)
    rounding = UNIT * (r + 2.0 * norm(p.y)) / r
    return float(np.max((loss[1:] / loss[:-1] - (1.0 - eta * p.mu)) / rounding))


def momentum_excess(p: System, kind: str, iterations: int) -> float:
    """The largest log L_t - log((1 - eta mu)^t L_0) (6.3); losses at the rounding level of F do not count."""
    options = given(p) | {"momentum": kind}
    sol = solve(p.F, p.jac, p.w0, p.y, method="gd", beta=p.beta, options=options, max_iter=iterations, tol=1e-13)
    assert p.lipschitz is not None
    assert p.beta is not None
    assert p.mu is not None
    eta = steps.gd_step(p.lipschitz, p.beta, norm(p.F(p.w0) - p.y))
    loss, floor = sol.history.loss, 0.5 * (1e3 * UNIT * norm(p.y)) ** 2
    bound = np.maximum((1.0 - eta * p.mu) ** sol.history.nit * loss[0], floor)
    return float(np.max(np.log(np.maximum(loss, floor) / bound)))


def sgd_excess(theorem: str, kappa: float, e: float, batch: int, seeds: int, epochs: int) -> float:
    """(mean over seeds - bound)/standard error, the largest over the epochs, of the theorem's own quantity."""
    p = prescribed_spectrum(20, 60, kappa, e, seed=2, distance=0.005 / math.sqrt(kappa) if theorem == "5.2" else 1.0)
    A = p.jac(np.full(p.m, np.pi / 2))  # cos = 0: the linear part
    row, largest = float(((1 + e) ** 2) * np.max(np.sum(A * A, axis=1))), float(p.lipschitz or 0) ** 2
    mu, beta, n = float(p.mu or 0), float(p.beta or 0), p.n
    every = -(-n // batch)
    options: dict[str, Any] = given(p) | {"batch_size": batch, "row_smoothness": row}
    inside = math.inf
    if theorem == "1.3":
        r0 = p.F(p.w0) - p.y
        smoothness = largest + beta * norm(r0)
        eta = steps.sgd_theorem_step(n, batch, mu, row, smoothness)
        rate = steps.sgd_theorem_rate(n, batch, mu, eta)
        options["step_size"] = "theorem"
    elif theorem == "5.1":
        rate = steps.sgd_rate(steps.batch_smoothness(n, batch, row, largest), mu)
    else:
        sigma = math.sqrt(mu)
        inside = 2.0 * distance2(p, p.w0) ** 0.5
        theta = steps.tube_theta(beta, inside, sigma)
        smoothness = steps.batch_smoothness(n, batch, row, largest)
        rate = steps.tube_rate(theta, beta, inside, sigma, smoothness)
        options["step_size"] = steps.tube_step(theta, smoothness)
    runs = [measure(p, theorem, options, every * epochs, seed, inside) for seed in range(seeds)]
    measured = np.array([np.pad(x, (0, epochs + 1 - x.size), mode="edge") for x in runs])  # some arrive before
    t = every * np.arange(measured.shape[1])
    bound = rate**t * measured[0, 0]
    error = np.maximum(measured.std(axis=0, ddof=1) / math.sqrt(seeds), 1e-12 * bound)
    return float(np.max((measured.mean(axis=0) - bound)[1:] / error[1:]))


def measure(p: System, theorem: str, options: dict[str, Any], iterations: int, seed: int, inside: float) -> Any:
    """L, or the squared distance to the solutions, at the end of every epoch."""
    points = [p.w0]
    sol = solve(
        p.F, p.jac, p.w0, p.y, method="sgd", beta=p.beta, options=options, max_iter=iterations, rng=seed, tol=0.0,
        callback=lambda w: points.append(w.copy()),
    )  # fmt: skip
    if theorem == "1.3":
        return sol.history.loss
    values = np.array([distance2(p, w) for w in points])
    left = np.cumsum(values > inside**2) > 0  # what left the tube is out of the statement
    return np.where(left, 0.0, values)


def distance2(p: System, w: Any) -> float:
    """Squared distance to the nearest solution."""
    if p.beta == 0.0:
        return norm(np.linalg.lstsq(p.jac(w), p.F(w) - p.y)[0]) ** 2
    sol = solve(p.F, p.jac, w, p.y, method="gauss-newton", options={"nearest": True}, certify=False, tol=1e-13)
    return norm(sol.x - w) ** 2


# --- growth and forecasts ---------------------------------------------------------------------------------------------


def count(p: System, options: dict[str, Any] | None, tol: float = 1e-8) -> int:
    """Iterations to tol; options None: Gauss-Newton."""
    if options is None:
        sol = solve(p.F, p.jac, p.w0, p.y, method="gauss-newton", tol=tol)
    else:
        sol = solve(p.F, p.jac, p.w0, p.y, method="gd", beta=p.beta, options=options, tol=tol, max_iter=10**8)
    assert sol.success, sol.message
    return int(sol.nit)


def exponent(kappas: Any, counts: Any) -> float:
    return float(np.polyfit(np.log(kappas), np.log(counts), 1)[0])


def forecast_share(systems: list[tuple[System, str, dict[str, Any]]], tol: float = 1e-8) -> tuple[float, list[str]]:
    """The share of runs whose forecast after 10 % of the iterations is within a factor 2 of the true count."""
    hits, missed = 0, []
    for p, method, options in systems:
        arguments = {"method": method, "beta": p.beta, "options": options, "tol": tol, "rng": 0}
        whole = solve(p.F, p.jac, p.w0, p.y, max_iter=10**7, **arguments)
        assert whole.success, whole.message
        early = solve(p.F, p.jac, p.w0, p.y, max_iter=max(whole.nit // 10, 1), **arguments)
        ratio = (early.nit + early.forecast) / whole.nit
        good = 0.5 <= ratio <= 2.0
        hits += good
        if not good:
            missed.append(
                f"{method} {options} kappa {p.kappa}: {whole.nit} iterations, forecast {ratio:.2f} times that"
            )
    return hits / len(systems), missed


def known_runs(kappas: Any) -> list[tuple[System, str, dict[str, Any]]]:
    runs: list[tuple[System, str, dict[str, Any]]] = []
    for kappa, _, p in grid(kappas):
        runs += [(p, "gd", given(p) | {"momentum": kind}) for kind in MOMENTA]
        if kappa <= 1e3:
            runs.append((p, "gd", given(p)))
        if kappa <= 1e2:
            runs.append((p, "sgd", given(p)))
    return runs


# --- the price of a certificate ---------------------------------------------------------------------------------------


def price(p: System) -> tuple[float, float, int]:
    """(seconds of a Gauss-Newton iteration, of the certificate, Jacobians that it takes), the best of several runs."""
    iteration, certificate, jacobians = [], [], 0
    for _ in range(8):
        start = time.perf_counter()
        sol = solve(p.F, p.jac, p.w0, p.y, method="gauss-newton", beta=p.beta)
        iteration.append((time.perf_counter() - start) / sol.nit)
        before = sol.njev
        start = time.perf_counter()
        assert sol.certificate is not None
        certificate.append(time.perf_counter() - start)
        assert sol.certificate.exists
        jacobians = sol.njev - before
    return min(iteration), min(certificate), jacobians


# --- the parts ------------------------------------------------------------------------------------------------------


def part_gd(quick: bool) -> list[tuple[str, float, float]]:
    rows = []
    for kappa, e, p in grid([1e0, 1e2, 1e4] if quick else 10.0 ** np.arange(7)):
        rows.append((f"gd kappa {kappa:.0e} e {e}: excess/rounding", gd_excess(p, 500 if quick else 10_000), 1e3))
    return rows


def part_momentum(quick: bool) -> list[tuple[str, float, float]]:
    rows = []
    for kappa, e, p in grid([1e0, 1e2, 1e4] if quick else 10.0 ** np.arange(7)):
        for kind in MOMENTA:
            excess = momentum_excess(p, kind, 500 if quick else 10_000)
            rows.append((f"{kind} kappa {kappa:.0e} e {e}: log excess over gd's bound", excess, 1e-9))
    return rows


def part_sgd(quick: bool) -> list[tuple[str, float, float]]:
    rows = []
    seeds, epochs = (40, 10) if quick else (200, 40)
    for batch in (1, 4, 20):
        for kappa in (1e0, 1e1, 1e2) if quick else (1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6):
            for theorem, e in (("1.3", 0.0), ("1.3", 0.3), ("5.1", 0.0)):
                excess = sgd_excess(theorem, kappa, e, batch, seeds, epochs)
                rows.append((f"sgd {theorem} kappa {kappa:.0e} e {e} batch {batch}: standard errors", excess, 3.0))
        for kappa in (1e0, 1e1) if quick else (1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6):
            for e in (0.2,) if quick else (0.1, 0.2, 0.3):
                excess = sgd_excess("5.2", kappa, e, batch, seeds, min(epochs, 10))
                rows.append((f"sgd 5.2 kappa {kappa:.0e} e {e} batch {batch}: standard errors", excess, 3.0))
    return rows


def part_growth(quick: bool) -> list[tuple[str, float, float]]:
    rows = []
    for e in (0.0, 0.3):
        family = {k: prescribed_spectrum(20, 60, k, e, seed=1) for k in 10.0 ** np.arange(9)}
        cases: dict[str, tuple[Callable[[System], dict[str, Any] | None], Any, float]] = {
            "gd": (given, 10.0 ** np.arange(1, 4 if quick else 6), 1.05),
            "gauss-newton": (lambda p: None, 10.0 ** np.arange(9), 0.05),
        }
        for kind in MOMENTA:
            kappas = 10.0 ** np.arange(1, 5 if quick else 7)
            cases[kind] = (lambda p, kind=kind: given(p) | {"momentum": kind}), kappas, 0.55
            cases[f"{kind}, constants estimated"] = (lambda p, kind=kind: {"momentum": kind}), kappas, 0.55
        for name, (options, kappas, limit) in cases.items():
            counts = [count(family[k], options(family[k])) for k in kappas]
            rows.append((f"{name} e {e}: {counts}, exponent", exponent(kappas, counts), limit))
    return rows


def part_forecast(quick: bool) -> list[tuple[str, float, float]]:
    share, missed = forecast_share(known_runs([1e1, 1e2] if quick else [1e1, 1e2, 1e3, 1e4]))
    print("\n".join(missed))
    return [("share of forecasts that are off by more than a factor 2", 1.0 - share, 0.1)]


def part_price(quick: bool) -> list[tuple[str, float, float]]:
    n, width = (60, 100) if quick else (442, 1000)
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((n, 10)), rng.standard_normal(n)
    rows = []
    for name, p in {
        "estimated": two_layer_tanh(X, y, width, seed=0),
        "given": first_layer_tanh(X, y, width + width // 5, seed=0),
    }.items():
        iteration, certificate, jacobians = price(p)
        print(f"{n} x {p.m}, beta {name}: iteration {iteration * 1e3:.1f} ms, certificate {certificate * 1e3:.1f} ms, "
              f"{jacobians} Jacobians")  # fmt: skip
        rows.append((f"certificate / Gauss-Newton iteration, beta {name}", certificate / iteration, 1.0))
    return rows


PARTS: dict[str, Callable[[bool], list[tuple[str, float, float]]]] = {
    "gd": part_gd,
    "momentum": part_momentum,
    "sgd": part_sgd,
    "growth": part_growth,
    "forecast": part_forecast,
    "price": part_price,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    missed = 0
    for part in options.parts or PARTS:
        start = time.perf_counter()
        for name, value, limit in PARTS[part](options.quick):
            verdict = "" if value <= limit else "MISSED"
            missed += value > limit
            print(f"{name:75s} {value:10.3g} (limit {limit:g}) {verdict}")
        print(f"-- {part}: {time.perf_counter() - start:.0f} s", flush=True)
    print(f"{missed} limits missed")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
