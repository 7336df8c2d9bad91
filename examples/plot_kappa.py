r"""
The PL* condition, and what the condition number costs
======================================================

With more unknowns than equations, the loss :math:`L = \tfrac12\|F(w)-y\|^2` is not convex, and its minima form a whole
surface. What makes it easy to minimise is the PL* condition: the gradient :math:`g` obeys :math:`\tfrac12\|g\|^2 \ge
\mu L` wherever the smallest eigenvalue of the tangent kernel :math:`K = J J^T` is at least :math:`\mu`. Then every
gradient step with :math:`\eta = 1/(\|J\|^2 + \beta\|r\|)` reduces the loss at least by the factor :math:`1 - \eta\mu`,
and the number of steps grows with :math:`\kappa = \|J\|^2/\mu`. Momentum needs only :math:`\sqrt\kappa`, and
Gauss-Newton, which inverts K, is nearly independent of :math:`\kappa`.

The system here has n = 30 equations in m = 120 unknowns, F(w) = A (w + 0.2 sin w), with singular values of A so that
all constants are known exactly. ``scipy.optimize.minimize`` has first-order methods for any loss (CG, L-BFGS-B); they
give no guarantee of this kind.
"""

import matplotlib.pyplot as plt
import numpy as np

from plsolve import solve, testing

BLUE, ORANGE, GREEN, GREY = "#0072b2", "#e69f00", "#009e73", "0.4"


def known_spectrum(kappa):
    """The system with this condition number of A Aᵀ, and its constants as gd takes them."""
    p = testing.prescribed_spectrum(30, 120, kappa=kappa, e=0.2)
    return p, {"lipschitz": p.lipschitz, "mu": p.mu}


def run(p, **settings):
    return solve(p.F, p.jac, p.w0, p.y, beta=p.beta, tol=1e-8, **settings)


# %%
# One run of each
# ---------------
# The guarantee is the product of the factors 1 - ημ. The *PL ratio* ½‖g‖²/L is where the run actually is between μ and
# ‖J‖²: it decides how fast gradient descent is, and never falls below μ.

p, constants = known_spectrum(300.0)
gd = run(p, method="gd", options=constants)
heavy = run(p, method="gd", options=constants | {"momentum": "heavy-ball"})
newton = run(p, method="gauss-newton")
for name, sol in {"gradient descent": gd, "heavy ball": heavy, "Gauss-Newton": newton}.items():
    print(f"{name:16} {sol.nit:5} iterations, {sol.nfev:5} F, {sol.njev:5} J: {sol.message}")

loss = gd.history.loss
eta = 1.0 / (p.lipschitz**2 + p.beta * np.sqrt(2.0 * loss[:-1]))
promised = loss[0] * np.append(1.0, np.cumprod(1.0 - eta * p.mu))

fig, (left, middle) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
left.plot(promised / loss[0], color=GREY, ls="--", label="guarantee of gd")
left.plot(gd.history.nit, loss / loss[0], color=ORANGE, lw=2, label="gradient descent")
left.plot(heavy.history.nit, heavy.history.loss / loss[0], color=BLUE, lw=2, label="heavy ball")
left.plot(newton.history.nit, newton.history.loss / loss[0], "o-", color=GREEN, lw=2, label="Gauss-Newton")
left.set_xscale("symlog", linthresh=1)
left.set(yscale="log", ylim=(1e-26, 10), xlim=(0, 1e4), xlabel="iteration", ylabel="loss / loss at the start")
left.set_title("κ = 300: losses")
left.legend(fontsize=8.5, loc="lower right")
middle.plot(gd.history.nit, gd.history.pl, color=ORANGE, lw=2, label="gradient descent")
middle.plot(heavy.history.nit, heavy.history.pl, color=BLUE, lw=1, label="heavy ball")
for level, text in ((p.lipschitz**2, "‖J‖²"), (p.mu, "μ")):
    middle.axhline(level, color=GREY, ls="--")
    middle.annotate(text, (1.2, 1.2 * level))
middle.set_xscale("symlog", linthresh=1)
middle.set(yscale="log", ylim=(1e-3, 30), xlim=(0, 1e4), xlabel="iteration", ylabel="PL ratio ½‖g‖² / L")
middle.set_title("κ = 300: PL* holds on the way")
middle.legend(fontsize=8.5)

# %%
# Iterations against the condition number
# ---------------------------------------
# The same, for condition numbers from 3 to 1000.

kappas = 10.0 ** np.arange(0.5, 3.1, 0.5)
steps = []
for kappa in kappas:
    q, constants = known_spectrum(kappa)
    ways = [constants, constants | {"momentum": "heavy-ball"}]
    steps.append([*(run(q, method="gd", options=way).nit for way in ways), run(q, method="gauss-newton").nit])
steps = np.array(steps)
slopes = np.log(steps[-1] / steps[1]) / np.log(kappas[-1] / kappas[1])
print("exponents of kappa: gd {:.2f}, heavy ball {:.2f}, Gauss-Newton {:.2f}".format(*slopes))

fig, right = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
for count, name, color, mark in zip(
    steps.T, ("gradient descent", "heavy ball", "Gauss-Newton"), (ORANGE, BLUE, GREEN), "sD^", strict=True
):
    right.loglog(kappas, count, mark + "-", color=color, lw=2, label=name)
for power, level in ((1.0, 50.0), (0.5, 30.0)):
    right.loglog(kappas, level * kappas**power, color=GREY, lw=0.9, ls=":")
right.set(
    xlabel="condition number κ of the kernel",
    ylim=(0.5, 2e6),
    ylabel="iterations to ‖r‖ = 10⁻⁸ ‖r₀‖",
    title="what κ costs",
)
right.annotate("slope 1", (40, 4000), color=GREY, ha="right")
right.annotate("slope ½", (600, 1000), color=GREY, ha="right")
right.legend(fontsize=8.5, loc="upper left")

assert gd.success
assert heavy.success
assert newton.success
assert np.all(loss[1:] <= (1.0 - eta * p.mu) * loss[:-1])
assert np.nanmin(gd.history.pl) > p.mu
assert np.nanmax(gd.history.pl) < p.lipschitz**2
assert abs(slopes[0] - 1.0) < 0.05
assert abs(slopes[1] - 0.5) < 0.05
assert slopes[2] < 0.1
plt.show()
# sphinx_gallery_thumbnail_number = 2
