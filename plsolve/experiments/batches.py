"""Speed of SGD against the batch size, which saturates at s* (Ma, Bassily, Belkin, ICML 2018; theory 5.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from plsolve import solve
from plsolve.experiments.report import COLORS, GREY, Array, Claim, Report, Row, column, sizes_on_axis, slope, sphere
from plsolve.networks import WideNetwork
from plsolve.theory.steps import batch_smoothness, critical_batch

DROP = 1e-3  # of ||r0||: tolerance of the runs


def constants(net: WideNetwork, w0: Array) -> tuple[float, float]:
    """max_i K_ii and lambda_max(K) at w0."""
    K = net.jac(w0).gram()
    return float(K.diagonal().max()), float(np.linalg.eigvalsh(K)[-1])


def measure(net: WideNetwork, w0: Array, y: Array, s: int, seed: int) -> Row:
    """Count the steps with batches of size s until ||r|| <= DROP ||r0||."""
    sol = solve(net.F, net.jac, w0, y, method="sgd", rng=seed, tol=DROP, certify=False, max_iter=400_000,
                options={"batch_size": s})  # fmt: skip
    smoothness = batch_smoothness(net.n, s, *constants(net, w0))  # Ls, whose inverse is the step
    return {"batch": s, "seed": seed, "steps": sol.nit, "solved": sol.success, "smoothness": smoothness}


def speedups(table: Sequence[Row]) -> tuple[Array, Array, Array]:
    """Batch sizes, and their measured and theoretical speed-ups in steps over the first of them."""
    sizes = np.unique(column(table, "batch"))
    steps, smoothness = (
        np.array([np.mean([row[name] for row in table if row["batch"] == s]) for s in sizes])
        for name in ("steps", "smoothness")
    )
    return sizes, steps[0] / steps, smoothness[0] / smoothness


def claims(table: Sequence[Row], critical: int) -> list[Claim]:
    """Compare the paper's two regimes with the table."""
    sizes, speedup, gain = speedups(table)
    small, large = sizes <= critical / 2.0, sizes >= 2.0 * critical
    solved, ratio = sum(row["solved"] for row in table), speedup / gain
    found = [
        Claim("SGD reaches the requested residual", f"{solved} of {len(table)} runs", solved == len(table)),
        Claim(
            "the speed-up follows 1/Ls, Ls = (n/s) max K_ii + (1 - 1/s) lambda_max (within a factor of 1.5)",
            f"measured over theory: between {ratio.min():.2f} and {ratio.max():.2f}",
            bool(ratio.min() >= 1.0 / 1.5 and ratio.max() <= 1.5),
        ),
    ]
    if small.sum() > 1:
        linear = slope(sizes[small], speedup[small])
        found.append(
            Claim(
                f"below the critical batch size s* = {critical} the steps decrease like 1/s (slope 1.0 +- 0.2)",
                f"like s^(-{linear:.2f}) up to s*/2, where Ls gives s^(-{slope(sizes[small], gain[small]):.2f})",
                abs(linear - 1.0) <= 0.2,
            )
        )
    if large.sum() > 1:
        first, last = speedup[large][0], speedup[-1]
        found.append(
            Claim(
                "above s* larger batches hardly save steps (less than a factor of 1.5)",
                f"from s = {sizes[large][0]:g} to {sizes[-1]:g}: a factor of {last / first:.2f}",
                bool(last / first <= 1.5),
            )
        )
    return found


def run(full: bool) -> Report:
    """The number of SGD steps for batch sizes from 1 to n: linear speed-up to s*, saturation beyond."""
    n, d, width, seeds = (256, 64, 1000, 3) if full else (64, 12, 200, 1)
    X = np.sqrt(d) * sphere(n, d, 0)
    y = np.random.default_rng(1).standard_normal(n)
    net = WideNetwork(X, (width,), bias=False)  # an odd function: K has no large eigenvalue from a mean
    w0 = net.init(2, first=2.0)
    critical = critical_batch(n, *constants(net, w0))
    table = [measure(net, w0, y, 2**k, seed) for k in range(int(np.log2(n)) + 1) for seed in range(seeds)]

    def draw(figure: Any) -> None:
        a, b = figure.subplots(1, 2)
        sizes, speedup, gain = speedups(table)
        a.loglog(sizes, speedup, "o-", color=COLORS[0], label="measured")
        a.loglog(sizes, gain, "--", color=GREY, label="theory: Ls(1) / Ls(s)")
        a.loglog(sizes, sizes, ":", color=GREY, label="linear")
        a.set(xlabel="batch size s", ylabel="speed-up in steps", title="steps", ylim=(0.8, 3.0 * max(*gain, *speedup)))
        b.loglog(sizes, np.mean([r["steps"] for r in table if r["batch"] == 1]) / speedup * sizes / n, "o-",
                 color=COLORS[1], label="measured")  # fmt: skip
        b.set(xlabel="batch size s", ylabel="epochs", title="work")
        for axes in (a, b):
            sizes_on_axis(axes, sizes)
            axes.axvline(critical, color=COLORS[2], lw=1.0, label=f"s* = {critical}")
            axes.legend()

    return Report(f"SGD on a tanh network, n = {n}, to {DROP:g} of the first residual", table,
                  claims(table, critical), draw)  # fmt: skip
