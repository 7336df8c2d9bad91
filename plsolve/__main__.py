"""The demonstration ``python -m plsolve``: a wide network is fitted to every point of a measured series.

The series y(t) is 168 months of air pressure differences (data/README.md), both standardised. The network

    f(w, t) = gain / sqrt(width) * sum_k v_k tanh(a_k t + b_k) + c,      w = (a, b, v, c), m = 3 width + 1,

starts as the zero curve, with its units in pairs of opposite sign and its kinks spread evenly over the data. The slopes
determine the conditioning: slopes near 1 make the tangent kernel numerically singular, with `SLOPE` kappa is below 1e5.
`GAIN` keeps the solution close to the start, so that the network stays close to its linearisation.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from plsolve import solve
from plsolve.theory.forecasts import near_linear_iterations
from plsolve.theory.steps import batch_smoothness, critical_batch, sgd_rate

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from plsolve import Result

    Array = npt.NDArray[np.float64]
    Rows = npt.NDArray[np.int64] | slice

SLOPE = 150.0  # of the first layer, in standardised time, where neighbouring months are 0.02 apart
GAIN = 10.0
TOL = 1e-12
FIRST_ORDER_SECONDS = 10.0  # gradient descent and SGD need hours at this kappa: the forecast is shown instead
METHODS = ("auto", "gauss-newton", "gd", "sgd")
WIDTHS = (168, 100_000)  # from one unit per month to a Jacobian of 0.4 GB


@dataclass(frozen=True)
class Series:
    """A measured series and its standardised form."""

    month: Array
    pressure: Array

    @property
    def t(self) -> Array:
        """Time in standard deviations from its mean."""
        return self.standard_time(self.month)

    @property
    def y(self) -> Array:
        """Pressure in standard deviations from its mean."""
        standardised: Array = (self.pressure - self.pressure.mean()) / self.pressure.std()
        return standardised

    def standard_time(self, month: Array) -> Array:
        """Standardise times, also between those of the data."""
        standardised: Array = (month - self.month.mean()) / self.month.std()
        return standardised

    def in_units(self, y: Array) -> Array:
        """Bring standardised values back to the units of the data."""
        values: Array = self.pressure.mean() + self.pressure.std() * y
        return values


def read_series() -> Series:
    """Read the series that is shipped with the package."""
    with (resources.files("plsolve") / "data" / "enso.csv").open() as file:
        month, pressure = np.loadtxt(file, delimiter=",", unpack=True)
    return Series(month, pressure)


@dataclass(frozen=True)
class Network:
    """The two-layer network at the times ``t`` (n,): F and jac of the system that `solve` gets."""

    t: Array
    width: int

    def split(self, w: Array) -> tuple[Array, Array, Array, float]:
        """Slopes a, biases b, outer weights v and the constant c in w (m,)."""
        a, b, v = w[:-1].reshape(3, self.width)
        return a, b, v, float(w[-1])

    @property
    def scale(self) -> float:
        """Factor of the sum over the units."""
        return GAIN / math.sqrt(self.width)

    def start(self, rng: np.random.Generator) -> Array:
        """Weights (m,) of the zero curve, its kinks spread over the data."""
        pairs = (self.width + 1) // 2
        a = np.tile(SLOPE * rng.standard_normal(pairs), 2)[: self.width]
        v = np.outer([1.0, -1.0], rng.choice([-1.0, 1.0], pairs)).ravel()[: self.width]
        kinks = np.tile(np.linspace(self.t[0], self.t[-1], pairs), 2)[: self.width]
        if self.width % 2:
            v[pairs - 1] = 0.0  # the unit without a partner
        return np.concatenate([a, -a * kinks, v, [0.0]])

    def curve(self, w: Array, t: Array) -> Array:
        """Values (len(t),) of the network at any times t."""
        a, b, v, c = self.split(w)
        values: Array = self.scale * (np.tanh(np.multiply.outer(t, a) + b) @ v) + c
        return values

    def F(self, w: Array, rows: Rows = slice(None)) -> Array:
        """Values at the times of the data."""
        return self.curve(w, self.t[rows])

    def jac(self, w: Array, rows: Rows = slice(None)) -> Array:
        """Differentiate F: (n, m), written block by block in the order (a, b, v, c)."""
        t = self.t[rows]
        a, b, v, _ = self.split(w)
        J = np.empty((t.size, w.size))
        by_a, by_b, by_v = J[:, :-1].reshape(t.size, 3, self.width).transpose(1, 0, 2)
        z = np.tanh(np.multiply.outer(t, a) + b)
        np.multiply(self.scale * v, 1.0 - z * z, out=by_b)
        np.multiply(t[:, None], by_b, out=by_a)
        np.multiply(self.scale, z, out=by_v)
        J[:, -1] = 1.0
        return J


def steps_to_go(sol: Result, method: str, target: float) -> float:
    """Steps that a first-order method still needs, by theory 4.3 and 5.1, as if F were linear from here on."""
    kernel, ratio = sol.kernel, 2.0 * sol.cost / target**2
    largest, mu = float(kernel.eigenvalues.max()), float(kernel.mu)
    if method == "gd":
        return near_linear_iterations(1.0 / largest, mu, ratio)
    n, row = len(kernel.matrix), float(kernel.matrix.diagonal().max())
    smoothness = batch_smoothness(n, critical_batch(n, row, largest), row, largest)
    return math.log(ratio) / -math.log(sgd_rate(smoothness, mu))


def duration(seconds: float) -> str:
    """Format a time in seconds, minutes, hours or days."""
    for size, unit in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2.0 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.2g} seconds"


def draw(path: str, series: Series, network: Network, sol: Result) -> None:
    """Draw data, curve and convergence into the file ``path``."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    blue, vermillion, grey = "#0072B2", "#D55E00", "0.45"  # distinguishable with any colour vision
    month = np.linspace(series.month[0], series.month[-1], 20 * series.month.size)
    curve = series.in_units(network.curve(sol.x, series.standard_time(month)))
    residual = np.sqrt(2.0 * np.asarray(sol.history.loss)) / np.linalg.norm(series.y)

    fig, axes = plt.subplot_mosaic([["all", "all"], ["zoom", "convergence"]], figsize=(11, 7), layout="constrained")
    for name, last in (("all", series.month[-1]), ("zoom", 36.0)):
        ax, shown, seen = axes[name], month <= last, series.month <= last
        ax.plot(month[shown], curve[shown], color=blue, lw=1.4, label="network, between the months too")
        ax.plot(series.month[seen], series.pressure[seen], "o", color=vermillion, ms=4, label="measured")
        ax.set_xlabel("month")
        ax.set_ylabel("pressure difference")
        ax.margins(x=0.01)
    axes["all"].set_title(
        f"Pressure difference between Easter Island and Darwin: {series.month.size} months, "
        f"a network of {sol.x.size} weights ({'solved' if sol.success else 'not solved'})"
    )
    top = axes["all"].get_ylim()[1]
    axes["all"].set_ylim(top=top + 0.12 * (top - axes["all"].get_ylim()[0]))  # room for the legend
    axes["all"].legend(loc="upper right", ncols=2, frameon=False)
    axes["zoom"].set_title("The first three years")

    ax = axes["convergence"]
    ax.semilogy(sol.history.nit, residual, color=blue, lw=1.4, marker="o" if residual.size < 100 else None, ms=5)
    ax.axhline(TOL, color=grey, ls="--", lw=1)
    ax.annotate(
        f"solved below {TOL:g}", (0.0, TOL), xycoords=("axes fraction", "data"), xytext=(6, 4),
        textcoords="offset points", color=grey,
    )  # fmt: skip
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel(f"iteration of {sol.method}")
    ax.set_ylabel(r"relative residual $\|F(w)-y\|\,/\,\|y\|$")
    ax.set_title("Convergence")
    ax.grid(axis="y", color="0.9")
    fig.savefig(path, dpi=130, format=Path(path).suffix[1:] or "png")
    plt.close(fig)


def picture_line(path: str, series: Series, network: Network, sol: Result) -> str:
    """Draw the picture; returns a line that names its file, or says why there is none."""
    try:
        draw(path, series, network, sol)
    except ImportError:
        return 'picture not drawn: matplotlib is missing, pip install "plsolve[plot]" brings it'
    except (OSError, ValueError) as error:  # ValueError: a file type that matplotlib does not know
        return f"picture not written: {' '.join(str(error).split())}"
    return f"picture {path}"


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors take one line, without the usage text."""

    def error(self, message: str) -> NoReturn:
        """Print the line and leave with exit code 2."""
        self.exit(2, f"{self.prog}: error: {message}\n")


def width(text: str) -> int:
    """Read the value of --width."""
    low, high = WIDTHS
    try:
        value = int(text)
    except ValueError:
        value = 0
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"expected a whole number from {low} to {high}, got {text!r}")
    return value


def parser() -> OneLineParser:
    """Options of the command line."""
    options = OneLineParser(
        prog="python -m plsolve",
        description="Make a wide network pass through every point of a series: 168 equations, 3 N + 1 unknowns.",
        epilog="exit codes: 0 solved, 1 not solved, 2 bad value",
    )
    options.add_argument("--method", choices=METHODS, default="auto", help="default: %(default)s")
    options.add_argument(
        "--width",
        type=width,
        default=2000,
        metavar="N",
        help=f"units, {WIDTHS[0]} to {WIDTHS[1]} (default: %(default)s)",
    )
    options.add_argument("--plot", default="plsolve.png", metavar="FILE", help="picture (default: %(default)s)")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Solve, print and draw the result; returns the exit code."""
    chosen = parser().parse_args(arguments)
    series = read_series()
    network = Network(series.t, chosen.width)
    w0, y = network.start(np.random.default_rng(0)), series.y
    print(f"data {y.size} monthly pressure differences, Easter Island to Darwin (NIST StRD, ENSO)")
    print(f"network 1-{chosen.width}-1, tanh: {y.size} equations, {w0.size} unknowns", flush=True)

    first_order = chosen.method in ("gd", "sgd")
    began = perf_counter()
    sol = solve(
        network.F, network.jac, w0, y, method=chosen.method, tol=TOL, rng=0,
        max_iter=10**9 if first_order else None, max_time=FIRST_ORDER_SECONDS if first_order else None,
    )  # fmt: skip
    seconds = perf_counter() - began

    size = float(np.linalg.norm(y))
    print(f"method {sol.method}")
    print(f"iterations {sol.nit} ({sol.nfev} evaluations of F, {sol.njev} Jacobians)")
    print(sol.message)
    print(f"relative residual {np.linalg.norm(sol.fun) / size:.1e}")
    print(f"kernel condition number {sol.kernel.kappa:.1e}")
    print(f"certificate: {sol.certificate}")
    print(f"distance moved {np.linalg.norm(sol.x - w0):.3g} from a start of norm {np.linalg.norm(w0):.3g}")
    print(f"time {seconds:.2f} s")
    if first_order and not sol.success:
        steps = steps_to_go(sol, chosen.method, TOL * size)
        time_to_go = duration(steps * seconds / max(sol.nit, 1))
        print(f"forecast {steps:.1e} more iterations, {time_to_go}, if nearly linear; try --method gauss-newton")
    print(picture_line(chosen.plot, series, network, sol))
    return 0 if sol.success else 1


if __name__ == "__main__":
    sys.exit(main())
