"""Wide networks satisfy PL* (Liu, Zhu, Belkin, Appl. Comput. Harmon. Anal. 59, 2022, theorems 4 to 6)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from plsolve import solve
from plsolve.experiments.report import (
    COLORS,
    GREY,
    Array,
    Claim,
    Report,
    Row,
    column,
    hessian_norm,
    sizes_on_axis,
    slope,
    sphere,
)
from plsolve.networks import WideNetwork
from plsolve.theory.certificates import paper_ball
from plsolve.theory.steps import gd_rate

LARGEST_CHANGE = 0.5  # of lambda_min(K): smaller changes count as staying close


class Path(NamedTuple):
    """A run of gradient descent: loss and distance from w0 at every step, extreme eigenvalues of K at some steps."""

    eta: float
    loss: list[float]
    away: list[float]
    low: list[float]
    high: list[float]

    def bound(self) -> Array:
        """(1 - eta mu)^t L_0, where mu is the least lambda_min(K) recorded."""
        return np.asarray(gd_rate(self.eta, min(self.low)) ** np.arange(len(self.loss)) * self.loss[0])


def descend(net: WideNetwork, w0: Array, y: Array, steps: int, growth: float = 1.05) -> Path:
    """Run gradient descent with step size 1 / (growth lambda_max(K(w0)))."""
    spectrum = np.linalg.eigvalsh(net.jac(w0).gram())
    eta = 1.0 / (growth * float(spectrum[-1]))
    r0 = net.F(w0) - y
    path = Path(eta, [0.5 * float(r0 @ r0)], [0.0], [float(spectrum[0])], [float(spectrum[-1])])
    every = max(1, steps // 40)

    def observe(intermediate_result: Any) -> None:
        state = intermediate_result
        path.loss.append(state.cost)
        path.away.append(float(np.linalg.norm(state.x - w0)))
        if state.nit % every == 0:
            values = np.linalg.eigvalsh(net.jac(state.x).gram())
            path.low.append(float(values[0]))
            path.high.append(float(values[-1]))

    solve(net.F, net.jac, w0, y, method="gd", tol=1e-8, max_iter=steps, callback=observe, certify=False,
          options={"step_size": eta})  # fmt: skip
    return path


def measure(net: WideNetwork, y: Array, steps: int, seeds: int, growth: float = 1.05) -> tuple[Row, Path]:
    """Measure the quantities of the claims for one network."""
    path = descend(net, net.init(2), y, steps, growth)
    mu = min(path.low)
    row = {
        "width": net.layers[-1].fan_in,
        "unknowns": net.m,
        "hessian_norm": float(np.mean([hessian_norm(net, net.init(seed), seed % net.n) for seed in range(seeds)])),
        "lambda_min_start": path.low[0],
        "lambda_min_least": mu,
        "lambda_min_change": max(abs(low / path.low[0] - 1.0) for low in path.low),
        "eta": path.eta,
        "loss_start": path.loss[0],
        "loss_end": path.loss[-1],
        "steps": len(path.loss) - 1,
        "loss_over_bound": float(np.max(np.array(path.loss) / path.bound())),
        "distance": max(path.away),
        "ball": paper_ball(math.sqrt(max(path.high)), math.sqrt(2.0 * path.loss[0]), mu),
    }
    return row, path


def claims(table: Sequence[Row]) -> list[Claim]:
    """Compare the theorems with the table."""
    width, hessian = column(table, "width"), column(table, "hessian_norm")
    raw, corrected = slope(width, hessian), slope(width, np.divide(hessian, np.sqrt(np.log(width))))
    change = column(table, "lambda_min_change")
    worst, share = max(column(table, "loss_over_bound")), max(column(table, "distance") / column(table, "ball"))
    return [
        Claim(
            "the Hessian norm decreases like width^(-1/2) (slope -0.50 +- 0.05)",
            f"width^({raw:.2f}) between {width[0]:g} and {width[-1]:g}",
            abs(raw + 0.5) <= 0.05,
        ),
        Claim(
            "including logarithms, like sqrt(log width) width^(-1/2), as the largest of its normal output weights does",
            f"sqrt(log width) width^({corrected:.2f})",
            abs(corrected + 0.5) <= 0.05,
        ),
        Claim(
            f"lambda_min(K) stays close to its value at w0 (relative change below {LARGEST_CHANGE:g}), and closer the "
            "wider the network",
            "largest change along the path: "
            + ", ".join(f"{c:.2f} at {w:g}" for w, c in zip(width, change, strict=True)),
            bool(change[-1] < LARGEST_CHANGE and change[-1] < change[0]),
        ),
        Claim(
            "L_t <= (1 - eta mu)^t L_0, where mu is the least lambda_min(K) on the path",
            f"loss over bound at most {worst:.6f}",
            bool(worst <= 1.0 + 1e-9),
        ),
        Claim(
            "the path stays within R = 2 L_F ||r0|| / mu",
            f"largest distance divided by R: {share:.2g}",
            bool(share <= 1.0),
        ),
    ]


def run(full: bool) -> Report:
    """Hessian norm, kernel along the path, loss and its bound, and distance from w0, against width."""
    n, d, steps, seeds = (60, 10, 2000, 10) if full else (20, 10, 300, 10)
    widths = [50, 100, 200, 400, 800, 1600] if full else [50, 100, 200, 400]
    X = np.sqrt(d) * sphere(n, d, 0)
    y = np.random.default_rng(1).standard_normal(n)
    table, paths = [], []
    for width in widths:
        row, path = measure(WideNetwork(X, (width, width) if full else (width,)), y, steps, seeds)
        table.append(row)
        paths.append((width, path))

    def draw(figure: Any) -> None:
        (a, b), (c, e) = figure.subplots(2, 2)
        hessian = column(table, "hessian_norm")
        a.loglog(widths, hessian, "o-", color=COLORS[0], label=f"measured, slope {slope(widths, hessian):.2f}")
        a.loglog(widths, hessian[0] * np.sqrt(widths[0] / np.array(widths)), "--", color=GREY, label="slope -1/2")
        a.set(xlabel="width", ylabel="norm of the Hessian of f", title="curvature")
        for (width, path), color in zip(paths[-4:], COLORS, strict=False):
            b.plot(np.linspace(0, 1, len(path.low)), path.low, color=color, label=f"width {width}")
        b.set(xlabel="fraction of the run", ylabel="lambda_min(K)", title="the kernel along the path", ylim=(0, None))
        for (width, path), color in zip([paths[0], paths[-1]], COLORS, strict=False):
            c.semilogy(path.loss, color=color, label=f"loss, width {width}")
            c.semilogy(path.bound(), "--", color=color, label="its bound")
        c.set(xlabel="gradient steps", ylabel="loss", title="(1 - eta mu)^t")
        e.loglog(widths, column(table, "ball"), "--", color=GREY, label="R = 2 L_F ||r0|| / mu")
        e.loglog(widths, column(table, "distance"), "o-", color=COLORS[0], label="largest ||w - w0||")
        e.set(xlabel="width", ylabel="distance from the start", title="the ball")
        for axes in (a, e):
            sizes_on_axis(axes, widths)
        for axes in (a, b, c, e):
            axes.legend()

    return Report(f"Wide tanh networks and PL*: {n} points", table, claims(table), draw)
