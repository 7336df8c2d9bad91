"""A nonlinear output breaks transition to linearity but not PL* (Liu, Zhu, Belkin 2022, section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from plsolve.experiments.report import COLORS, GREY, Array, Claim, Report, Row, column, sizes_on_axis, slope, sphere
from plsolve.experiments.wide import measure
from plsolve.networks import WideNetwork

RHO = 0.5  # the least slope of the bent output


def bent(z: Array) -> Array:
    """An output with slopes from 1/2 to 3/2: z - cos(z)/2."""
    return np.asarray(z - RHO * np.cos(z))


def bent_slope(z: Array) -> Array:
    return np.asarray(1.0 + RHO * np.sin(z))


def of(table: Sequence[Row], output: str, name: str) -> Array:
    """The column ``name`` for the networks with this output."""
    return column([row for row in table if row["output"] == output], name)


def claims(table: Sequence[Row]) -> list[Claim]:
    """Compare the theorems with the table."""
    width = of(table, "linear", "width")
    plain, curved = (slope(width, of(table, output, "hessian_norm")) for output in ("linear", "bent"))
    ratio = of(table, "bent", "lambda_min_least") / of(table, "linear", "lambda_min_start")
    worst = max(of(table, "bent", "loss_over_bound"))
    return [
        Claim(
            "with a linear output the Hessian norm decreases like width^(-1/2) (slope -0.50 +- 0.05)",
            f"width^({plain:.2f}) between {width[0]:g} and {width[-1]:g}",
            abs(plain + 0.5) <= 0.05,
        ),
        Claim(
            "with a nonlinear output it does not decrease (slope 0.00 +- 0.05)",
            f"width^({curved:.2f})",
            abs(curved) <= 0.05,
        ),
        Claim(
            "lambda_min(K) stays above rho^2 lambda_min(K of the linear output), rho = 1/2 the least slope",
            "least value on the path, divided by that of the linear network at w0: "
            + ", ".join(f"{q:.2f} at {w:g}" for w, q in zip(width, ratio, strict=True))
            + f" (rho^2 = {RHO**2})",
            bool(ratio.min() >= RHO**2),
        ),
        Claim(
            "gradient descent converges at the rate of PL* nevertheless",
            f"loss over (1 - eta mu)^t L_0 at most {worst:.4f}",
            bool(worst <= 1.0 + 1e-9),
        ),
    ]


def run(full: bool) -> Report:
    """Hessian norm, lambda_min(K) and convergence against width, with a linear and a nonlinear output."""
    n, d, steps, seeds = (60, 10, 2000, 10) if full else (20, 10, 300, 10)
    widths = [50, 100, 200, 400, 800, 1600, 3200] if full else [50, 100, 200, 400]
    X = np.sqrt(d) * sphere(n, d, 0)
    y = np.random.default_rng(1).standard_normal(n)
    table, losses = [], {}
    for width in widths:
        for name, output, growth in (("linear", None, 1.05), ("bent", (bent, bent_slope), (1.0 + RHO) ** 2 / RHO**2)):
            row, path = measure(WideNetwork(X, (width,), output_activation=output), y, steps, seeds, growth)
            table.append({"output": name, **row})
            losses[name] = path.loss

    def draw(figure: Any) -> None:
        a, b, c = figure.subplots(1, 3)
        for name, color in (("linear", COLORS[0]), ("bent", COLORS[1])):
            hessian = of(table, name, "hessian_norm")
            a.loglog(widths, hessian, "o-", color=color, label=f"{name}, slope {slope(widths, hessian):.2f}")
            b.semilogx(widths, of(table, name, "lambda_min_start"), "o--", color=color, label=f"{name}, at the start")
            b.semilogx(widths, of(table, name, "lambda_min_least"), "o-", color=color, label=f"{name}, least on path")
            c.semilogy(losses[name], color=color, label=name)
        b.semilogx(widths, RHO**2 * of(table, "linear", "lambda_min_start"), ":", color=GREY,
                   label="rho^2 times linear")  # fmt: skip
        a.set(xlabel="width", ylabel="norm of the Hessian of f", title="curvature")
        b.set(
            xlabel="width",
            ylabel="lambda_min(K)",
            title="the kernel",
            ylim=(0, 1.6 * max(of(table, "linear", "lambda_min_start"))),
        )
        c.set(xlabel="gradient steps", ylabel="loss", title=f"gradient descent (width {widths[-1]})")
        for axes in (a, b):
            sizes_on_axis(axes, widths)
        for axes in (a, b, c):
            axes.legend()

    return Report("A nonlinear output: z - cos(z)/2 after the last layer", table, claims(table), draw)
