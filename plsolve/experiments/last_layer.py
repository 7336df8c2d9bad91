"""A nonlinear output breaks transition to linearity but not PL* (Liu, Zhu, Belkin 2022, section 4.2)."""

from __future__ import annotations

from typing import Any

import numpy as np

from plsolve.experiments.report import COLORS, GREY, Array, Claim, Report, hessian_norm, slope, sphere
from plsolve.experiments.wide import descend
from plsolve.networks import WideNetwork

RHO = 0.5  # the least slope of the output


def bent(z: Array) -> Array:
    """An output with slopes from 1/2 to 3/2: z - cos(z)/2."""
    return np.asarray(z - RHO * np.cos(z))


def bent_slope(z: Array) -> Array:
    return np.asarray(1.0 + RHO * np.sin(z))


def run(full: bool) -> Report:
    """Hessian norm, lambda_min(K) and convergence with a linear and with a bent output, against width."""
    n, d, steps = (60, 10, 2000) if full else (20, 10, 300)
    widths = [50, 100, 200, 400, 800, 1600, 3200] if full else [50, 100, 200, 400]
    X = np.sqrt(d) * sphere(n, d, 0)
    y = np.random.default_rng(1).standard_normal(n)
    table, losses = [], []
    for width in widths:
        for name, output in (("linear", None), ("bent", (bent, bent_slope))):
            net = WideNetwork(X, (width,), output_activation=output)
            w0 = net.init(2)
            run = descend(net, w0, y, steps, 1.05 if output is None else (1.0 + RHO) ** 2 / RHO**2)
            mu = min(run["low"])
            bound = (1.0 - run["eta"] * mu) ** np.arange(len(run["loss"])) * run["loss"][0]
            table.append({
                "width": width,
                "output": name,
                "hessian_norm": float(np.mean([hessian_norm(net, net.init(seed), range(2)) for seed in range(5)])),
                "lambda_min_start": run["low"][0],
                "lambda_min_least": mu,
                "loss_start": run["loss"][0],
                "loss_end": run["loss"][-1],
                "steps": len(run["loss"]) - 1,
                "loss_over_bound": float(np.max(np.array(run["loss"]) / bound)),
            })  # fmt: skip
            if width == widths[-1]:
                losses.append((name, run["loss"]))

    def column(name: str, output: str) -> list[Any]:
        return [row[name] for row in table if row["output"] == output]

    powers = {name: slope(widths, column("hessian_norm", name)) for name in ("linear", "bent")}
    plain = slope(widths, np.divide(column("hessian_norm", "linear"), np.sqrt(np.log(widths))))
    ratio = np.divide(column("lambda_min_least", "bent"), column("lambda_min_start", "linear"))
    worst = max(column("loss_over_bound", "bent"))
    claims = [
        Claim(
            "with a linear output the Hessian norm falls like width^(-1/2) up to logarithms, with a nonlinear one "
            "it does not fall",
            f"linear width^({powers['linear']:.2f}), or sqrt(log width) width^({plain:.2f}); "
            f"bent width^({powers['bent']:.2f})",
            abs(plain + 0.5) < 0.1 and powers["bent"] > -0.15,
        ),
        Claim(
            "lambda_min(K) stays above rho^2 lambda_min(K of the linear output), rho = 1/2 the least slope",
            f"on the path, over the linear network's at its start: {ratio.min():.2f} or more (rho^2 = {RHO**2})",
            bool(ratio[-1] >= RHO**2),
        ),
        Claim(
            "so that gradient descent converges as PL* says all the same",
            f"loss over (1 - eta mu)^t L_0 at most {worst:.4f}",
            worst <= 1.0 + 1e-9,
        ),
    ]

    def draw(figure: Any) -> None:
        a, b, c = figure.subplots(1, 3)
        for name, color in (("linear", COLORS[0]), ("bent", COLORS[1])):
            a.loglog(widths, column("hessian_norm", name), "o-", color=color, label=f"{name}, slope {powers[name]:.2f}")
            b.semilogx(widths, column("lambda_min_start", name), "o--", color=color, label=f"{name}, at the start")
            b.semilogx(widths, column("lambda_min_least", name), "o-", color=color, label=f"{name}, least on the path")
        b.semilogx(widths, np.multiply(RHO**2, column("lambda_min_start", "linear")), ":", color=GREY,
                   label="rho^2 of the linear one's")  # fmt: skip
        for (name, loss), color in zip(losses, COLORS, strict=False):
            c.semilogy(loss, color=color, label=name)
        a.set(xlabel="width", ylabel="norm of the Hessian of f", title="no transition to linearity")
        b.set(xlabel="width", ylabel="lambda_min(K)", title="but PL*", ylim=(0, None))
        c.set(xlabel="gradient steps", ylabel="loss", title=f"and convergence (width {widths[-1]})")
        for axes in (a, b, c):
            axes.legend()

    return Report("A nonlinear output: z - cos(z)/2 after the last layer", table, claims, draw)
