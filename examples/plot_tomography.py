"""
Tomography by rows: an image from 30 X-ray views
================================================

A phantom of 20 cm is X-rayed from 30 directions. Each of the n = 2732 rays that cross the field is one equation: the
share of the light that arrives is exp(-∫μ) along the ray, with the absorption coefficient μ in m = 64 x 64 = 4096
pixels as unknowns. Real scans have millions of rays and pixels, and few computers hold their Jacobian, so they are
solved by rows, a few rays at a time: F and jac accept ``rows``, and ``method="sgd"`` never asks for more.

The rays are two thirds of the unknowns, but starting from an empty image and moving no more than the equations
require, the pixels end near the truth. ``scipy.optimize.least_squares`` with ``method="trf"`` solves this small case
as fast, by 14 sparse Jacobians (scipy 1.17), but it needs them whole.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy import sparse

from plsolve import solve

N, SIDE, VIEWS, DETECTORS = 64, 0.2, 30, 96  # pixels a side, m
centre = ((np.arange(N) + 0.5) / N - 0.5) * SIDE
x, y = np.meshgrid(centre, centre)
phantom = 20.0 * ((x / 0.085) ** 2 + (y / 0.09) ** 2 < 1.0)  # in 1/m: water
phantom[((x - 0.03) / 0.02) ** 2 + ((y - 0.02) / 0.03) ** 2 < 1.0] = 5.0  # lung
phantom[((x + 0.035) / 0.015) ** 2 + ((y + 0.02) / 0.015) ** 2 < 1.0] = 35.0  # bone
phantom[(np.abs(x) < 0.012) & (np.abs(y + 0.05) < 0.008)] = 45.0

# %%
# The rays
# --------
# A has a row for each ray, with the length of its way in each pixel. The photons that arrive fall exponentially.

view, offset, along = np.meshgrid(
    np.pi * np.arange(VIEWS) / VIEWS,
    1.3 * SIDE * ((np.arange(DETECTORS) + 0.5) / DETECTORS - 0.5),
    1.5 * SIDE * ((np.arange(4 * N) + 0.5) / (4 * N) - 0.5),
    indexing="ij",
)
column = np.floor(((offset * np.cos(view) - along * np.sin(view)) / SIDE + 0.5) * N).astype(int)
row = np.floor(((offset * np.sin(view) + along * np.cos(view)) / SIDE + 0.5) * N).astype(int)
inside = (row >= 0) & (row < N) & (column >= 0) & (column < N)
ray = np.broadcast_to(np.arange(VIEWS * DETECTORS).reshape(VIEWS, DETECTORS, 1), inside.shape)
length = np.full(inside.sum(), 1.5 * SIDE / (4 * N))
A = sparse.csr_array((length, (ray[inside], row[inside] * N + column[inside])), shape=(VIEWS * DETECTORS, N * N))
A = A[np.diff(A.indptr) > 0]


def F(w, rows=slice(None)):
    return np.exp(-(A[rows] @ w))


def jac(w, rows=slice(None)):
    return sparse.diags_array(-F(w, rows)) @ A[rows]


light = F(phantom.ravel())

# %%
# The image
# ---------
# Without options, sgd finds from a sample of rays how many to take at a time, and that Gauss-Newton steps on each batch
# pay. An absorption coefficient is never negative, so 0 is a bound.


sol = solve(F, jac, np.zeros(N * N), light, method="sgd", tol=1e-3, bounds=(0.0, np.inf), rng=0)
image = sol.x.reshape(N, N)
error = np.linalg.norm(image - phantom) / np.linalg.norm(phantom)
print(sol.message)
print(sol.method_reason)
print(f"{A.shape[0]} rays, {N * N} pixels, {sol.nit} batches; error of the image {error:.1%}")

fig, axes = plt.subplots(1, 3, figsize=(11, 3.7), layout="constrained")
for ax, shown, title in zip(axes, (phantom, image), ("phantom", f"image from {VIEWS} views"), strict=False):
    picture = ax.pcolormesh(1e2 * centre, 1e2 * centre, shown, cmap="gray", vmin=0.0, vmax=45.0, rasterized=True)
    ax.set(title=title, xlabel="x in cm", ylabel="y in cm", aspect="equal")
fig.colorbar(picture, ax=axes[:2], label="absorption in 1/m", shrink=0.85)
cut = np.argmin(np.abs(centre + 0.02))
axes[2].step(1e2 * centre, phantom[cut], where="mid", color="black", lw=1.2, label="phantom")
axes[2].step(1e2 * centre, image[cut], where="mid", color="#d55e00", lw=1.8, ls="--", label="image")
axes[2].set(title="cut at y = -2 cm", xlabel="x in cm", ylabel="absorption in 1/m", ylim=(-2, 50))
axes[2].legend()

assert sol.success
assert np.linalg.norm(sol.fun) <= 1e-3 * np.linalg.norm(1.0 - light)
assert sol.x.min() >= 0.0
assert error < 0.1
assert 0.6 < A.shape[0] / N**2 < 0.7
plt.show()
