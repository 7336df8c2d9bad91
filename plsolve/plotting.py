"""Pictures: the run, the spectrum of the kernel, the landscape. matplotlib is imported when the first is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from plsolve.kernel import TangentKernel
    from plsolve.landscape import Landscape
    from plsolve.record import History

BLUE, RED, GREEN, GREY = "#1f5fa8", "#c0392b", "#2e8b57", "#666666"
FLOOR = 1e-5  # of the loss at w0: what lies below is drawn there


def axes(ax: Any, **size: Any) -> Any:
    """The given Axes, or new ones."""
    if ax is not None:
        return ax
    return pyplot().subplots(layout="constrained", **size)[1]


def pyplot() -> Any:
    try:
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise ImportError("Pictures need matplotlib: python -m pip install 'plsolve[plot]'") from error
    return plt


def spectrum(kernel: TangentKernel, ax: Any = None) -> Any:
    """Eigenvalues of K, largest first, with mu and ||J||^2."""
    ax = axes(ax, figsize=(6.4, 4.0))
    values = kernel.eigenvalues[::-1]
    shown = values > 0.0
    if shown.any():
        ax.set_ylim(0.4 * values[shown].min(), 2.5 * values[0])
    number = np.arange(1, values.size + 1)
    if shown.any():
        ax.semilogy(number[shown], values[shown], ".-", color=BLUE, ms=5, lw=0.8)
        ax.axhline(values[0], color=GREY, lw=0.8, ls=":")
        place = {"xycoords": ("axes fraction", "data"), "va": "bottom"}
        ax.annotate(f"‖J‖² = {values[0]:.3g}", (0.99, values[0]), ha="right", **place)
    if kernel.mu > 0.0:
        ax.axhline(kernel.mu, color=RED, lw=0.8, ls=":")
        ax.annotate(f"μ = {kernel.mu:.3g}", (0.01, kernel.mu), color=RED, **place)
    if values.size <= 10:
        ax.set_xticks(number)
    title = f"tangent kernel {kernel.n} x {kernel.n}, κ = {kernel.kappa:.3g}"
    ax.set(xlabel="number", ylabel="eigenvalue of K", title=title)
    return ax


def run(history: History, title: str, ax: Any = None) -> Any:
    """The loss, and the PL ratio on an axis of its own."""
    ax = axes(ax, figsize=(6.4, 4.0))
    shown = history.loss > 0.0
    mark = "." if shown.sum() <= 60 else ""
    ax.semilogy(history.nit[shown], history.loss[shown], mark + "-", color=BLUE, lw=1.2)
    ax.set(xlabel="iteration", title=title)
    ax.set_ylabel("loss ½‖F(w) - y‖²", color=BLUE)
    if history.nit[-1] <= 12:
        ax.set_xticks(history.nit)
    known = history.pl > 0.0
    if known.any():
        right = ax.twinx()
        right.semilogy(history.nit[known], history.pl[known], mark + "-", color=GREEN, lw=0.8)
        right.set_ylabel("PL ratio ‖Jᵀr‖²/‖r‖²", color=GREEN)
    return ax


def landscape(land: Landscape, ax: Any = None) -> Any:
    """The slice, and on its right (unless Axes are given) the loss on the line from w0 to x."""
    right = None
    if ax is None:
        figure, (ax, right) = pyplot().subplots(
            1, 2, figsize=(11.0, 4.6), width_ratios=(1.35, 1.0), layout="constrained"
        )
    else:
        figure = ax.figure
    start = land.line[0]
    with np.errstate(divide="ignore"):
        height = np.log10(np.maximum(land.loss, FLOOR * start) / start)
    filled = ax.contourf(land.a, land.b, height, levels=24, cmap="viridis")
    figure.colorbar(filled, ax=ax, label="log₁₀ of loss / loss at w₀")
    handles = []
    if land.mu > 0.0 and np.isfinite(land.pl).any():
        fails = np.where(np.isfinite(land.pl), land.pl, np.inf) < 0.5 * land.mu
        if fails.any():
            ax.contourf(land.a, land.b, fails, levels=[0.5, 1.5], colors="none", hatches=["///"])
        text = "PL* fails: ratio < μ(x)/2" if fails.any() else "PL* holds all over: ratio ≥ μ(x)/2"
        handles.append(patch("none", text, "///" if fails.any() else ""))
    low = 1e-4
    if np.nanmin(land.loss) < low * start:
        ax.contour(land.a, land.b, height, levels=[np.log10(low)], colors="white", linewidths=1.6, linestyles="solid")
        handles.append(patch("white", "‖r‖ ≤ 1 % of ‖r₀‖"))
    ax.plot([0.0, 1.0], [0.0, 0.0], "--", color="white", lw=0.9)
    ax.plot(0.0, 0.0, "o", color=RED, ms=7)
    ax.plot(1.0, 0.0, "*", color=RED, ms=13)
    for place, name in ((0.0, "w₀"), (1.0, "x")):
        ax.annotate(name, (place, 0.0), (6, 7), textcoords="offset points", color="white", weight="bold")
    if handles:
        ax.legend(handles=handles, loc="lower left", fontsize=8)
    ax.set(xlabel="from w₀ to x", ylabel="along the solution set at x", title="loss in a plane, in units of ‖x - w₀‖")
    if right is not None:
        line(land, right)
    return ax


def patch(color: str, label: str, hatch: str = "") -> Any:
    from matplotlib.patches import Patch

    return Patch(facecolor=color, edgecolor="black", hatch=hatch, label=label)


def line(land: Landscape, ax: Any) -> None:
    """L on the straight line, with what it says about convexity."""
    ax.semilogy(land.t, np.maximum(land.line, FLOOR * land.line[0]), color=BLUE)
    ax.axvline(1.0, color=GREY, lw=0.8, ls=":")
    falls = "the loss falls all the way to x" if land.monotone else "the loss does not only fall"
    shape = "not convex" if land.flattest < -1e-7 else "no negative curvature found"
    ax.set(xlabel="t", ylabel="loss", title="loss at w₀ + t (x - w₀)")
    ax.annotate(
        f"{falls}\nHessian at t = 0.9: λ_min = {land.curvature:.2g}\n= {land.flattest:.1g} λ_max: {shape}",
        (0.04, 0.05), xycoords="axes fraction", fontsize=9,
        bbox={"facecolor": "white", "edgecolor": "none"},
    )  # fmt: skip
