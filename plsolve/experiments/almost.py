"""Almost over-parameterized systems: the least loss against m/n around m = n (PL*_eps, theory 1.6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from plsolve import solve
from plsolve.experiments.report import COLORS, GREY, Array, Claim, Report, Row, column

ZERO = 1e-18  # of the first loss: a smaller loss counts as zero
BEND = 0.3
PATIENCE = 20_000  # gradient steps


def measure(n: int, m: int, seed: int) -> Row:
    """Measure the least loss, by Gauss-Newton, and the steps in which gradient descent comes within 10 % of it."""
    rng = np.random.default_rng(seed)
    A, y = rng.standard_normal((n, m)) / np.sqrt(n), rng.standard_normal(n)

    def F(w: Array) -> Array:
        return np.asarray(A @ (w + BEND * np.sin(w)))

    def jac(w: Array) -> Array:
        return np.asarray(A * (1.0 + BEND * np.cos(w)))

    sol = solve(F, jac, np.zeros(m), y, certify=False)
    first = sol.history.loss[0]
    descent = solve(F, jac, np.zeros(m), y, method="gd", tol=0.0, eps=1.1 * sol.cost + 1e-6 * first, max_iter=PATIENCE,
                    certify=False)  # fmt: skip
    return {
        "ratio": m / n,
        "seed": seed,
        "status": sol.status.name,
        "floor": sol.cost / first,
        "gd_status": descent.status.name,
        "gd_steps": descent.nit,
    }


def medians(table: Sequence[Row], name: str) -> dict[float, float]:
    """The median over the seeds, for each m / n."""
    ratios = dict.fromkeys(row["ratio"] for row in table)
    return {ratio: float(np.median([row[name] for row in table if row["ratio"] == ratio])) for ratio in ratios}


def claims(table: Sequence[Row]) -> list[Claim]:
    """Compare PL*_eps with the table."""
    below, above = ([row for row in table if (row["ratio"] < 1.0) == side] for side in (True, False))
    gap = max(abs(floor - (1.0 - ratio)) for ratio, floor in medians(below, "floor").items())
    solved = int(np.sum(column(above, "floor") <= ZERO))
    reached = sum(row["gd_status"] == "EPSILON" for row in below)
    return [
        Claim(
            "with m < n the least loss is positive, and falls to zero as m approaches n: (1 - m/n) ||y||^2 / 2 for "
            "random data (+- 0.1 ||y||^2 / 2)",
            f"median within {gap:.3f} of it, smallest {column(below, 'floor').min():.2g}",
            bool(gap <= 0.1 and column(below, "floor").min() > ZERO),
        ),
        Claim("from m = n on the least loss is zero", f"{solved} of {len(above)} runs solved", solved == len(above)),
        Claim(
            "above the least loss, gradient descent converges as if PL* held (PL*_eps)",
            f"{reached} of {len(below)} runs with m < n came within 10 % of the least loss",
            reached == len(below),
        ),
    ]


def run(full: bool) -> Report:
    """F(w) = A (w + 0.3 sin w), A normal n x m, y random: the least loss, and how fast it is reached."""
    n, seeds = (400, 5) if full else (60, 3)
    ratios = [0.25, 0.4, 0.55, 0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.15, 1.3, 1.6, 2.0, 3.0]
    table = [measure(n, round(ratio * n), seed) for ratio in ratios for seed in range(seeds)]
    steps = medians(table, "gd_steps")

    def draw(figure: Any) -> None:
        a, b = figure.subplots(1, 2)
        floors = np.maximum(column(table, "floor"), 1e-34)
        a.semilogy(column(table, "ratio"), floors, "o", color=COLORS[0], alpha=0.5, label="runs")
        x = np.linspace(min(steps), 0.999, 100)
        a.semilogy(x, 1.0 - x, "--", color=GREY, label="1 - m/n")
        a.set(xlabel="m / n", ylabel="final loss / first loss", title="least loss (Gauss-Newton)")
        b.semilogy(list(steps), list(steps.values()), "o-", color=COLORS[1], label="median")
        b.axhline(PATIENCE, ls=":", color=GREY, label="stopped")
        b.set(xlabel="m / n", ylabel="gradient steps", title="gradient descent to 1.1 least loss + 1e-6 first loss")
        for axes in (a, b):
            axes.axvline(1.0, color=GREY, lw=0.8)
            axes.legend()

    return Report(f"Almost over-parameterized: {n} equations", table, claims(table), draw)
