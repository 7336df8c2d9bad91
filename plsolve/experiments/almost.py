"""Almost over-parameterized systems: the floor of the loss against m/n, through m = n (PL*_eps, theory 1.6)."""

from __future__ import annotations

from typing import Any

import numpy as np

from plsolve import solve
from plsolve.experiments.report import COLORS, GREY, Array, Claim, Report

ZERO = 1e-18  # of the first loss
BEND = 0.3


def run(full: bool) -> Report:
    """F(w) = A (w + 0.3 sin w), A normal n x m, random y: where the loss stops, and how fast it gets there."""
    n, seeds = (400, 5) if full else (60, 3)
    ratios = [0.25, 0.4, 0.55, 0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.15, 1.3, 1.6, 2.0, 3.0]
    table = []
    for ratio in ratios:
        m = round(ratio * n)
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            A, y = rng.standard_normal((n, m)) / np.sqrt(n), rng.standard_normal(n)

            def F(w: Array, A: Array = A) -> Array:
                return np.asarray(A @ (w + BEND * np.sin(w)))

            def jac(w: Array, A: Array = A) -> Array:
                return np.asarray(A * (1.0 + BEND * np.cos(w)))

            sol = solve(F, jac, np.zeros(m), y, certify=False)
            floor = sol.cost
            descent = solve(F, jac, np.zeros(m), y, method="gd", tol=0.0, eps=1.1 * floor + 1e-6 * sol.history.loss[0],
                            max_iter=20_000, certify=False)  # fmt: skip
            table.append({
                "ratio": m / n,
                "seed": seed,
                "status": sol.status.name,
                "floor": floor / sol.history.loss[0],
                "gd_status": descent.status.name,
                "gd_steps": descent.nit,
            })  # fmt: skip
    below, above = ([r for r in table if (r["ratio"] < 1.0) == side] for side in (True, False))
    solved = [row["floor"] <= ZERO for row in above]
    medians = {ratio: np.median([r["floor"] for r in table if r["ratio"] == ratio])
               for ratio in dict.fromkeys(row["ratio"] for row in table)}  # fmt: skip
    steps = {ratio: np.median([r["gd_steps"] for r in table if r["ratio"] == ratio]) for ratio in medians}
    gap = max(abs(float(floor) - (1.0 - ratio)) for ratio, floor in medians.items() if ratio < 1.0)
    reached = sum(row["gd_status"] == "EPSILON" for row in below)
    claims = [
        Claim(
            "with m < n the loss has a floor, and it shrinks to zero as m nears n",
            f"median floor within {gap:.3f} of (1 - m/n) ||y||^2 / 2",
            gap < 0.1 and all(row["floor"] > ZERO for row in below),
        ),
        Claim("from m = n on there is none", f"{sum(solved)} of {len(solved)} runs solved", all(solved)),
        Claim(
            "above the floor gradient descent converges as if PL* held (PL*_eps)",
            f"{reached} of {len(below)} runs with m < n came to 1.1 floors",
            reached == len(below),
        ),
    ]

    def draw(figure: Any) -> None:
        a, b = figure.subplots(1, 2)
        floors = [max(row["floor"], 1e-34) for row in table]
        a.semilogy([row["ratio"] for row in table], floors, "o", color=COLORS[0], alpha=0.5, label="runs")
        x = np.linspace(min(medians), 0.999, 100)
        a.semilogy(x, 1.0 - x, "--", color=GREY, label="1 - m/n")
        a.set(xlabel="m / n", ylabel="final loss / first loss", title="the eps floor (Gauss-Newton)")
        b.semilogy(list(steps), list(steps.values()), "o-", color=COLORS[1], label="median")
        b.set(xlabel="m / n", ylabel="gradient steps", title="gradient descent to 1.1 floors + 1e-6 of the first loss")
        for axes in (a, b):
            axes.axvline(1.0, color=GREY, lw=0.8)
            axes.legend()

    return Report(f"Almost over-parameterized: {n} equations", table, claims, draw)
