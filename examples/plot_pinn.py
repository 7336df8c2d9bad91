r"""
A differential equation by a network: hot spots on a chip
=========================================================

Two parts of a silicon die, 10 mm x 10 mm x 0.5 mm, give off 25 W and 30 W. Its edges are held at 300 K; how hot does
it get? Silicon conducts worse the hotter it is, so that the equation of the temperature T is nonlinear:

.. math:: -\nabla\cdot\bigl(k(T)\,\nabla T\bigr) = q, \qquad k(T) = 148\,\tfrac{\mathrm W}{\mathrm{m\,K}}\,
          (T / 300\,\mathrm K)^{-1.3}.

A *physics-informed* network gives T at every place, and the equation is asked for at 20 x 20 points: n = 400 equations
in m = 3200 weights. JAX differentiates the network, and ``JaxSystem`` makes the system of it (``pip install
'plsolve[jax]'``). Such networks are usually trained by tens of thousands of steps of Adam and L-BFGS; Gauss-Newton by
the kernel takes five. ``scipy.optimize.least_squares`` can do the same step by the singular values of the 400 x 3200
Jacobian.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from scipy.fft import dstn, idstn

from plsolve import solve
from plsolve.models import JaxSystem

jax.config.update("jax_enable_x64", True)
COLD, K, DEPTH = 300.0, 148.0, 0.5e-3  # K, W/(m K), m
spots = [(0.3, 0.35, 0.06, 25.0), (0.7, 0.6, 0.1, 30.0)]  # place and size in sides of the die, W

# %%
# The equation
# ------------
# Lengths are in sides of the die, and the network gives the rise of the temperature in 100 K, made 0 at the edges.


def heat(x):
    """The heat q of the spots, times side² / (K · 100 K)."""
    spot = [P / (2 * jnp.pi * s**2) * jnp.exp(-jnp.sum((x - jnp.array([a, b])) ** 2, axis=-1) / (2 * s**2))
            for a, b, s, P in spots]  # fmt: skip
    return sum(spot) / (DEPTH * K * 100.0)


def rise(p, x):
    edges = 16.0 * x[0] * (1.0 - x[0]) * x[1] * (1.0 - x[1])
    return edges * (jnp.tanh(x @ p["W"] + p["b"]) @ p["v"])


def balance(p, x):
    """Heat that flows in and arises at x."""

    def flux(x):
        u, slope = jax.value_and_grad(rise, argnums=1)(p, x)
        return (1.0 + u / 3.0) ** -1.3 * slope

    return jnp.trace(jax.jacfwd(flux)(x)) + heat(x)


rng = np.random.default_rng(0)
W = 8.0 * rng.standard_normal((2, 800))
through = rng.uniform(0.0, 1.0, (2, 800))  # where the 800 units bend
params = {"W": W, "b": -np.sum(W * through, axis=0), "v": np.zeros(800)}
points = np.stack(np.meshgrid(*2 * [(np.arange(20) + 0.5) / 20]), axis=-1).reshape(-1, 2)

# %%
# The solution
# ------------

die = JaxSystem([(balance, points)], params)
sol = solve(die.F, die.jac, die.w0, tol=1e-6)
print(f"{die}: {sol.message} {sol.njev} Jacobians, kappa {sol.kernel.kappa:.0e}")

# %%
# How right is it?
# ----------------
# Kirchhoff's transformation :math:`\theta = \int k\,\mathrm dT` makes the equation linear, and a sine transform solves
# it on a fine grid: a reference that shares nothing with the network. If silicon conducted as at 300 K, the die
# would seem some 40 K cooler.

N = 199
g = np.arange(1, N + 1) / (N + 1)
grid = np.stack(np.meshgrid(g, g), axis=-1)
eigenvalues = (2.0 - 2.0 * np.cos(np.pi * g)) * (N + 1) ** 2
linear = 100.0 * idstn(dstn(np.asarray(heat(grid)), 1) / (eigenvalues[:, None] + eigenvalues), 1)  # theta / K
reference = COLD * (1.0 - 0.3 * linear / COLD) ** (-1.0 / 0.3)
T = COLD + 100.0 * np.asarray(jax.vmap(rise, (None, 0))(die.params(sol.x), grid.reshape(-1, 2))).reshape(N, N)
error = np.abs(T - reference).max()
print(f"hottest {T.max():.1f} K, largest error {error:.2f} K; with constant k {COLD + linear.max():.1f} K")

fig, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), width_ratios=(1.0, 1.2), layout="constrained")
mm = 10.0 * np.concatenate([[0.0], g, [1.0]])
image = left.pcolormesh(mm, mm, np.pad(T, 1, constant_values=COLD), cmap="inferno", shading="gouraud", rasterized=True)
lines = left.contour(
    mm, mm, np.pad(T, 1, constant_values=COLD), np.arange(320, 480, 20), colors="white", linewidths=0.7
)
left.clabel(lines, lines.levels[::2], fmt="%d K", fontsize=8)
left.plot(*10.0 * points.T, ".", color="white", ms=1.5, alpha=0.6)
left.set(xlabel="x in mm", ylabel="y in mm", aspect="equal", title="temperature, and the 400 points")
fig.colorbar(image, ax=left, label="T in K", shrink=0.9)
cut = np.argmin(np.abs(g - 0.35))
right.plot(10.0 * g, T[cut], color="#d55e00", lw=2.5, label="network")
right.plot(10.0 * g[::8], reference[cut, ::8], "o", ms=5, mfc="white", mec="black", label="reference")
right.plot(10.0 * g, COLD + linear[cut], color="#0072b2", ls="--", label="with the conductivity of 300 K")
right.set(xlabel="x in mm, at y = 3.5 mm", ylabel="T in K", xlim=(0, 10), title="cut through the hotter spot")
right.legend()

assert sol.success
assert sol.njev < 10
assert error < 0.5
assert 35.0 < T.max() - COLD - linear.max() < 50.0
plt.show()
