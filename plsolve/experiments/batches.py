"""SGD's rate against the batch size, with the knee at s* (Ma, Bassily, Belkin, ICML 2018; theory 5.1)."""

from __future__ import annotations

from typing import Any

import numpy as np

from plsolve import solve
from plsolve.experiments.report import COLORS, GREY, Claim, Report, slope, sphere
from plsolve.networks import WideNetwork

DROP = 1e-3  # of ||r0||


def run(full: bool) -> Report:
    """Steps that SGD needs, batch sizes from 1 to n: linear speed-up to s*, saturation beyond."""
    n, d, width, seeds = (256, 64, 1000, 3) if full else (64, 12, 200, 1)
    X = np.sqrt(d) * sphere(n, d, 0)
    y = np.random.default_rng(1).standard_normal(n)
    net = WideNetwork(X, (width,), bias=False)  # odd: no large eigenvalue of the mean
    w0 = net.init(2, first=2.0)
    K = net.jac(w0).gram()
    values = np.linalg.eigvalsh(K)
    low, high, row = float(values[0]), float(values[-1]), float(K.diagonal().max())
    critical = 1.0 + n * row / high
    batches = [2**k for k in range(int(np.log2(n)) + 1)]
    table = []
    for s in batches:
        smoothness = n / s * row + (1.0 - 1.0 / s) * high
        for seed in range(seeds):
            sol = solve(net.F, net.jac, w0, y, method="sgd", rng=seed, tol=DROP, certify=False, max_iter=400_000,
                        options={"batch_size": s})  # fmt: skip
            table.append({"batch": s, "seed": seed, "steps": sol.nit, "solved": sol.success,
                          "rate": 1.0 - low / smoothness, "smoothness": smoothness})  # fmt: skip
    steps = np.array([np.mean([r["steps"] for r in table if r["batch"] == s]) for s in batches])
    gain = np.array([r["smoothness"] for r in table if r["seed"] == 0])
    gain, speedup = gain[0] / gain, steps[0] / steps
    small = [k for k, s in enumerate(batches) if s <= critical / 2.0]
    large = [k for k, s in enumerate(batches) if s >= 2.0 * critical]
    first, last = batches[large[0]] if large else n, batches[-1]
    linear = slope([batches[k] for k in small], [speedup[k] for k in small]) if len(small) > 1 else np.nan
    flat = float(speedup[-1] / speedup[batches.index(first)])
    ratio = speedup / gain
    claims = [
        Claim(
            f"below the critical batch s* = {critical:.1f} twice the batch halves the steps",
            f"steps fall like s^(-{linear:.2f}) up to s*/2",
            bool(linear > 0.7),
        ),
        Claim(
            "above s* more rows save next to nothing",
            f"from s = {first} to {last}, {last / first:g} times the rows: {flat:.2f} times as fast",
            bool(first < last and flat < 1.5),
        ),
        Claim(
            "the speed-up follows 1/Ls, Ls = (n/s) max K_ii + (1 - 1/s) lambda_max",
            f"measured over theory: between {ratio.min():.2f} and {ratio.max():.2f}",
            bool(ratio.min() > 0.5 and ratio.max() < 2.0),
        ),
    ]

    def draw(figure: Any) -> None:
        a, b = figure.subplots(1, 2)
        a.loglog(batches, speedup, "o-", color=COLORS[0], label="measured")
        a.loglog(batches, gain, "--", color=GREY, label="theory: Ls(1) / Ls(s)")
        a.loglog(batches, batches, ":", color=GREY, label="linear")
        a.set(xlabel="batch size s", ylabel="speed-up in steps", title="steps", ylim=(0.8, 3.0 * max(*gain, *speedup)))
        b.loglog(batches, steps * np.array(batches) / n, "o-", color=COLORS[1], label="measured")
        b.set(xlabel="batch size s", ylabel="epochs", title="work")
        for axes in (a, b):
            axes.axvline(critical, color=COLORS[2], lw=1.0, label=f"s* = {critical:.1f}")
            axes.legend()

    return Report(f"SGD on a tanh network, n = {n}, to {DROP:g} of the first residual", table, claims, draw)
