"""
Where can the arm work? Twenty thousand systems in one call
===========================================================

A welding robot has four joints in a plane, and its torch must point straight down. Is a place within reach, and how
far can the joints keep from their limits there? For each place these are n = 3 equations (x, y and the angle of the
torch) in m = 4 joint angles with bounds. Each place is tried from ten postures, and the solution whose joints keep
farthest from their limits is taken.

``solve_batch`` compiles the functions with numba (``pip install 'plsolve[compiled]'``) and solves all systems, on all
cores. In scipy this is a loop over ``least_squares(method="trf")``, with a call of Python for every step.
"""

import matplotlib.pyplot as plt
import numpy as np
from numba import njit

from plsolve import solve_batch

links = np.array([0.35, 0.30, 0.25, 0.15])  # m
limits = np.radians([170.0, 120.0, 120.0, 100.0])  # both ways


@njit
def torch(q):
    heading = np.cumsum(q)
    return np.array([np.sum(links * np.cos(heading)), np.sum(links * np.sin(heading)), heading[-1]])


side = np.linspace(-1.1, 1.1, 61)
x, y = np.meshgrid(side, side)
inside = np.hypot(x, y + links[3]) < links[:3].sum()  # as far as the links reach with the torch down
places = np.column_stack([x[inside], y[inside], np.full(inside.sum(), np.radians(-90.0))])
starts = np.random.default_rng(0).uniform(-limits, limits, (10 * len(places), 4))
batch = solve_batch(torch, None, starts, np.repeat(places, 10, axis=0), bounds=(-limits, limits), max_iter=40)
margin = np.where(batch.success, np.min(limits - np.abs(batch.x), axis=1), -np.inf).reshape(-1, 10)
best = np.argmax(margin, axis=1)
posture = batch.x.reshape(-1, 10, 4)[np.arange(len(places)), best]
margin = np.degrees(margin.max(axis=1))
found = np.isfinite(margin)
print(f"{len(starts)} systems; {found.sum()} of {len(places)} places within the circle are within reach")

# %%
# The map
# -------
# In white places no posture was found from ten starts. The dashed circle is as far as the links reach with the torch
# down, whatever the limits.

shown = np.full(x.shape, np.nan)
shown[inside] = np.where(found, margin, np.nan)
fig, ax = plt.subplots(figsize=(7.2, 6), layout="constrained")
image = ax.pcolormesh(x, y, shown, cmap="cividis", vmin=0.0, rasterized=True)
fig.colorbar(image, ax=ax, label="distance of the nearest joint from its limit in degrees")
ax.add_patch(plt.Circle((0.0, -links[3]), links[:3].sum(), fill=False, ec="0.3", ls="--"))
for place in ((0.7, -0.5), (0.35, 0.4), (-0.6, -0.1)):
    heading = np.cumsum(posture[np.argmin(np.hypot(*(places[:, :2] - place).T))])
    steps = links[:, None] * np.column_stack([np.cos(heading), np.sin(heading)])
    arm = np.vstack([[0.0, 0.0], np.cumsum(steps, axis=0)])
    ax.plot(*arm.T, "-", color="white", lw=5, solid_capstyle="round")
    ax.plot(*arm.T, "-o", color="#d55e00", lw=2.5, ms=5, mec="white")
ax.plot(0.0, 0.0, "ks", ms=10)
ax.set(xlabel="x in m", ylabel="y in m", aspect="equal", title="places of the torch, pointing down")

assert np.allclose([torch(q) for q in posture[found]], places[found], atol=1e-8)
assert np.all(np.abs(batch.x) <= limits)
assert 0.6 < found.mean() < 0.9
plt.show()
