"""
Lens design: a triplet in focus
===============================

Three lenses can image a scene well: the *Cooke triplet*, here with a focal length of 50 mm at f/4. A rough guess of
its six curvatures and six distances is far out of focus. A good design must send certain rays to the right places
on the sensor: on the axis through three zones of the pupil and in two more colours, and through three zones at 8 and
14 degrees. These are n = 11 equations in m = 12 unknowns with bounds, each evaluated by tracing rays through the lens.

No lens need be better than the wavelength of light allows, an Airy disk of 2.9 µm radius: the run ends when the errors
are 2 µm, by ``eps``. ``scipy.optimize.least_squares`` with ``method="trf"`` needs 33 Jacobians to the same errors, and
``"dogbox"`` is not there after 300 (scipy 1.17); ``"lm"`` and ``root`` refuse n < m.
"""

import matplotlib.pyplot as plt
import numpy as np

from plsolve import solve

FOCAL, RADIUS, PUPIL = 50.0, 6.25, 8.0  # mm: focal length; radius of the entrance pupil, and its place in the lens
# refractive indices of the glasses SK16, F2, SK16 for red, yellow and blue light (lines C, d, F)
GLASS = {"red": (1.61727, 1.61503, 1.61727), "yellow": (1.62041, 1.62004, 1.62041), "blue": (1.62756, 1.63208, 1.62756)}

# %%
# Tracing rays
# ------------
# A ray runs straight to the next sphere, where Snell's law bends it. Unknowns are the curvatures of the six surfaces
# (one over the radius, so that a flat surface is nothing special) and the distance from each to the next, in mm.


def trace(w, zone, angle, colour="yellow"):
    """Points (z, y) of rays on the six surfaces and the sensor, two arrays (7, rays); zone: -1 to 1, of the pupil."""
    index = np.ones(7)
    index[1::2] = GLASS[colour]
    dz, dy = np.full(len(zone), np.cos(angle)), np.full(len(zone), np.sin(angle))  # direction of the rays
    z, y, vertex, path = np.zeros(len(zone)), RADIUS * zone - PUPIL * np.tan(angle), 0.0, []
    for c, distance, n, n_next in zip(w[:6], w[6:], index, index[1:], strict=False):
        u = z - vertex
        b, e = dz - c * (dz * u + dy * y), c * (u**2 + y**2) - 2.0 * u
        t = e / (b + np.sqrt(b**2 - c * e))  # the way to the sphere
        z, y = z + t * dz, y + t * dy
        normal_z, normal_y = 1.0 - c * (z - vertex), -c * y
        cos = dz * normal_z + dy * normal_y
        bent = np.sqrt(1.0 - (n / n_next) ** 2 * (1.0 - cos**2)) - n / n_next * cos
        dz, dy = n / n_next * dz + bent * normal_z, n / n_next * dy + bent * normal_y
        path.append((z, y))
        vertex += distance
    path.append((np.full(len(zone), vertex), y + (vertex - z) * dy / dz))
    return np.swapaxes(path, 0, 1)


def errors(w, zone, angle, colour="yellow"):
    """How far from its place on the sensor each ray ends, in mm."""
    return trace(w, np.array(zone), angle, colour)[1, -1] - FOCAL * np.tan(angle)


def F(w):
    axis = [errors(w, [0.001, 0.7, 1.0], 0.0), errors(w, [0.7], 0.0, "red"), errors(w, [0.7], 0.0, "blue")]
    return np.concatenate(axis + [errors(w, [-0.7, 0.0, 0.7], np.radians(field)) for field in (8.0, 14.0)])


# %%
# From the guess to the design
# ----------------------------
# Glass is 1.5 to 6 mm thick, and air gaps are at least 1 mm. A curvature may change by some 0.02 per mm, a distance by
# some 2 mm: ``x_scale`` makes these steps equally long.

guess = np.array([1 / 25, 0.0, -1 / 25, 1 / 25, 0.0, -1 / 25, 3.0, 5.0, 1.5, 5.0, 3.0, 42.0])
bounds = ([-0.08] * 6 + [1.5, 1.0, 1.0, 1.0, 1.5, 30.0], [0.08] * 6 + [6.0, 12.0, 6.0, 12.0, 6.0, 60.0])
micron = 1e-3
sol = solve(F, None, guess, bounds=bounds, x_scale=np.repeat([0.02, 2.0], 6), eps=0.5 * 11 * (2 * micron) ** 2)
print(f"{sol.message} {sol.njev} Jacobians, largest error {abs(sol.fun).max() / micron:.1f} µm")
print("radii in mm:", np.round(1.0 / sol.x[:6], 1), "distances in mm:", np.round(sol.x[6:], 2))

fields = {0.0: "#0072b2", 8.0: "#009e73", 14.0: "#d55e00"}
fig, axes = plt.subplots(2, 1, figsize=(9, 6.4), sharex=True, layout="constrained")
for ax, w, title in zip(axes, (guess, sol.x), ("the guess", "the design"), strict=True):
    for field, color in fields.items():
        zone, angle = np.linspace(-1.0, 1.0, 9), np.radians(field)
        z, y = trace(w, zone, angle)
        before = RADIUS * zone - (PUPIL + 10.0) * np.tan(angle)
        ax.plot(np.vstack([np.full(9, -10.0), z]), np.vstack([before, y]), color=color, lw=0.8)
        ax.plot([], [], color=color, label=f"{field:.0f}°")
    vertices, h = np.append(0.0, np.cumsum(w[6:])), np.linspace(-7.8, 7.8, 61)
    sag = w[:6, None] * h**2 / (1.0 + np.sqrt(1.0 - (w[:6, None] * h) ** 2)) + vertices[:6, None]
    for k in (0, 2, 4):
        ax.fill(np.append(sag[k], sag[k + 1, ::-1]), np.append(h, h[::-1]), fc="#56b4e9", ec="0.3", alpha=0.4, zorder=3)
    ax.plot(np.full(2, vertices[6]), [-2.0, 15.0], color="0.2", lw=3, solid_capstyle="butt")
    ax.set(title=title, ylabel="y in mm", aspect="equal", ylim=(-11, 18))
axes[0].legend(title="field", loc="upper left", ncols=3)
axes[1].set_xlabel("z in mm")

# %%
# Where other rays end
# --------------------
# The equations name 11 rays. Those between them, and the other colours, go with them.

fig, axes = plt.subplots(1, 3, figsize=(10, 3.3), sharey=True, layout="constrained")
zone, largest = np.linspace(-1.0, 1.0, 81), 0.0
for ax, field in zip(axes, fields, strict=True):
    for colour, look in (("red", "#d55e00"), ("yellow", "#e69f00"), ("blue", "#0072b2")):
        missed = errors(sol.x, zone, np.radians(field), colour) / micron
        largest = max(largest, np.sqrt(np.mean(missed**2)))
        ax.plot(zone, missed, color=look, ls={"red": "--", "yellow": "-", "blue": "-."}[colour], label=colour)
    ax.axhline(0.0, color="0.7", lw=0.8)
    ax.set(title=f"field {field:.0f}°", xlabel="zone of the pupil")
axes[0].set_ylabel("error on the sensor in µm")
axes[0].legend()
print(f"root mean square of the errors over a pupil, in any colour and field: at most {largest:.0f} µm")

assert sol.status.name == "EPSILON"
assert sol.njev < 16
assert np.sqrt(np.mean(sol.fun**2)) <= 2 * micron
assert np.sqrt(np.mean(F(guess) ** 2)) > 1000 * micron
assert largest < 25
plt.show()
