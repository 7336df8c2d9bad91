"""Pictures: the run, the spectrum of the kernel, the landscape. matplotlib is imported at the first plot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from plsolve._linalg import Array

if TYPE_CHECKING:
    from plsolve._history import History
    from plsolve._kernel import TangentKernel
    from plsolve._pictures.landscape import Landscape

# Okabe and Ito's colours, which colour-blind readers can tell apart; line styles and markers differ as well
BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#666666"
FLOOR = 1e-5  # of the loss at w0: lower losses are drawn at this level


def axes(ax: Any, **size: Any) -> Any:
    """The given Axes, or new ones."""
    if ax is not None:
        return ax
    return pyplot().subplots(layout="constrained", **size)[1]


def as_axes(ax: Any) -> Any:
    """None, or Axes of matplotlib."""
    if ax is None:
        return None
    pyplot()
    from matplotlib.axes import Axes

    if not isinstance(ax, Axes):
        raise TypeError(f"`ax` must be Axes of matplotlib, got {type(ax).__name__}.")
    return ax


def pyplot() -> Any:
    try:
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise ImportError("Pictures need matplotlib: python -m pip install 'plsolve[plot]'") from error
    return plt


def whole_numbers(ax: Any) -> None:
    """Place ticks at whole numbers only."""
    ax.xaxis.get_major_locator().set_params(integer=True)


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
    whole_numbers(ax)
    title = f"tangent kernel {kernel.n} x {kernel.n}, κ = {kernel.kappa:.3g}"
    ax.set(xlabel="number", ylabel="eigenvalue of K", title=title)
    return ax


def run(history: History, title: str, ax: Any = None) -> Any:
    """The loss and its guaranteed bound; below (unless Axes are given) the step sizes and the PL ratio."""
    below = None
    if ax is None:
        size = {"figsize": (6.4, 6.0), "height_ratios": (1.6, 1.0)}
        ax, below = pyplot().subplots(2, 1, layout="constrained", sharex=True, **size)[1]
    mark = "o" if history.nit.size <= 60 else ""
    style: dict[str, Any] = {"marker": mark, "ms": 3.5, "lw": 1.4 if mark else 1.0}
    shown = history.loss > 0.0
    ax.semilogy(history.nit[shown], history.loss[shown], color=BLUE, label="loss ½‖F(w) - y‖²", **style)
    promised = history.bound > 0.0
    if promised.any():
        ax.semilogy(
            history.nit[promised], history.bound[promised], "--", color=ORANGE, lw=1.4, label="guaranteed bound"
        )
        ax.legend()
    ax.set(ylabel="loss", title=title)
    if below is None:
        ax.set_xlabel("iteration")
    else:
        steps(history, below, style)
    whole_numbers(ax)
    return ax


def steps(history: History, ax: Any, style: dict[str, Any]) -> None:
    """The lengths of the steps, and the PL ratio on an axis of its own."""
    made, known = history.step > 0.0, history.pl > 0.0
    lines = ax.semilogy(history.nit[made], history.step[made], color=GREEN, label="step ‖Δw‖", **style)
    ax.set(xlabel="iteration", ylabel="step ‖Δw‖")
    if known.any():
        right = ax.twinx()
        style = style | {"marker": "s" if style["marker"] else ""}
        lines += right.semilogy(
            history.nit[known], history.pl[known], color=PURPLE, ls="--", label="PL ratio ‖Jᵀr‖²/‖r‖²", **style
        )
        right.set_ylabel("PL ratio")
    ax.legend(handles=lines)


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
        text = "PL* fails: ratio < μ(x)/2" if fails.any() else "PL* holds everywhere: ratio ≥ μ(x)/2"
        handles.append(patch("none", text, "///" if fails.any() else ""))
    low = 1e-4
    if np.nanmin(land.loss) < low * start:
        ax.contour(land.a, land.b, height, levels=[np.log10(low)], colors="white", linewidths=1.6, linestyles="solid")
        handles.append(patch("white", "‖r‖ ≤ 1 % of ‖r₀‖"))
    ax.plot([0.0, 1.0], [0.0, 0.0], "--", color="white", lw=0.9)
    ax.plot(0.0, 0.0, "o", color=RED, ms=8, mec="white")
    ax.plot(1.0, 0.0, "*", color=RED, ms=14, mec="white")
    for place, name in ((0.0, "w₀"), (1.0, "x")):
        text = ax.annotate(name, (place, 0.0), (7, 8), textcoords="offset points", weight="bold")
        text.set_path_effects(outlined())
    if handles:
        ax.legend(handles=handles, loc="lower left", fontsize=8)
    ax.set(xlabel="from w₀ to x", ylabel="along the solution set at x", title="loss in a plane, in units of ‖x - w₀‖")
    if right is not None:
        line(land, right)
    return ax


def outlined() -> list[Any]:
    """Outlines that keep text readable on any colour."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=3.0, foreground="white")]


def patch(color: str, label: str, hatch: str = "") -> Any:
    from matplotlib.patches import Patch

    return Patch(facecolor=color, edgecolor="black", hatch=hatch, label=label)


def line(land: Landscape, ax: Any) -> None:
    """L on the straight line, with the curvature near x."""
    ax.semilogy(land.t, np.maximum(land.line, FLOOR * land.line[0]), color=BLUE)
    ax.axvline(1.0, color=GREY, lw=0.8, ls=":")
    falls = "the loss falls all the way to x" if land.monotone else "the loss also rises on the way to x"
    shape = "not convex" if land.flattest < -1e-7 else "no negative curvature found"
    ax.set(xlabel="t", ylabel="loss", title="loss at w₀ + t (x - w₀)")
    ax.annotate(
        f"{falls}\nHessian at t = 0.9: λ_min = {land.curvature:.2g}\n= {land.flattest:.1g} λ_max: {shape}",
        (0.04, 0.05), xycoords="axes fraction", fontsize=9,
        bbox={"facecolor": "white", "edgecolor": "none"},
    )  # fmt: skip


def uncertainty(before: Array, after: Array, misfit: Array, ax: Any = None) -> Any:
    """Standard deviations before and after the data; below (unless Axes are given) the misfit of the data."""
    below = None
    if ax is None:
        ax, below = pyplot().subplots(2, 1, layout="constrained", figsize=(6.4, 6.0), height_ratios=(1.6, 1.0))[1]
    number, few = np.arange(after.size), after.size <= 60
    ax.semilogy(number, before, "_" if few else "--", color=ORANGE, lw=1.4, ms=8, mew=1.8, label="before the data")
    ax.semilogy(number, after, "o" if few else "-", color=BLUE, ms=4, lw=1.0, label="after")
    if few:
        ax.vlines(number, after, before, color=GREY, lw=0.8)
    ax.set(xlabel="parameter", ylabel="standard deviation", title=f"{after.size} parameters, {misfit.size} data")
    ax.legend()
    whole_numbers(ax)
    if below is not None:
        below.axhspan(-1.0, 1.0, color=GREY, alpha=0.15, lw=0)
        below.axhline(0.0, color=GREY, lw=0.8)
        below.plot(np.arange(misfit.size), misfit, "o", color=RED, ms=3.5)
        below.set(xlabel="datum", ylabel="misfit in units of the noise")
        whole_numbers(below)
    return ax
