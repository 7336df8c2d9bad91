r"""
Robot arm between pipes
=======================

An inspection arm of seven links, 1.4 m long in all, moves its hand along a straight line behind two pipes. The
position of the hand is two equations in seven joint angles: five degrees of freedom are left over, the *null space* of
the task, and the arm needs them to stay clear of the pipes.

An inequality becomes an equation when the quantity is made an unknown with a bound: the distance of link i from pipe k
is :math:`d_{ik} \ge` 30 mm. With 14 such pairs there are n = 16 equations in m = 21 unknowns. ``scipy.optimize.root``
takes square systems only, and ``least_squares(method="lm")`` neither n < m nor bounds; what its other methods do is
measured at the end.
"""

import matplotlib.pyplot as plt
import numpy as np
import scipy.optimize

from plsolve import solve

LINK, PIPE, CLEARANCE = 0.2, 0.1, 0.03  # metres: length of a link, radius of a pipe, smallest distance between them
LIMIT = np.radians(100.0)  # of every joint
pipes = np.array([[0.42, 0.18], [0.72, -0.10]])


def joints(q):
    """Positions (8, 2) of the base, the six joints between the links, and the hand."""
    heading = np.cumsum(q)
    return np.vstack([[0.0, 0.0], np.cumsum(LINK * np.column_stack([np.cos(heading), np.sin(heading)]), axis=0)])


def clearances(q):
    """Distances (14,) of every link from the surface of every pipe."""
    p = joints(q)
    begin, link = p[:-1, None], np.diff(p, axis=0)[:, None]
    nearest = np.clip(np.sum((pipes - begin) * link, axis=2) / LINK**2, 0.0, 1.0)  # the point of the link, from 0 to 1
    return np.linalg.norm(begin + nearest[..., None] * link - pipes, axis=2).ravel() - PIPE


# %%
# The system
# ----------
# The unknowns w are the angles and the distances. ``jac=None`` computes the Jacobian by differences.
# Every step changes w no more than the linearised equations require, so a solve that starts from the last posture ends
# at one that is close to it, and the arm moves smoothly.


def F(w):
    return np.concatenate([joints(w[:7])[-1], clearances(w[:7]) - w[7:]])


bounds = np.repeat([-LIMIT, CLEARANCE], [7, 14]), np.repeat([LIMIT, np.inf], [7, 14])


def system(hand, q):
    """The start, which is the posture q, and the target: the hand there."""
    return np.concatenate([q, np.maximum(clearances(q), CLEARANCE)]), np.append(hand, np.zeros(14))


line = np.linspace([1.1, 0.5], [1.1, -0.45], 41)
clear = free = np.radians([-15.0, 10.0, 20.0, 20.0, 20.0, -10.0, -10.0])
runs, ignoring = [], []
for hand in line:
    w0, y = system(hand, clear)
    runs.append(solve(F, None, w0, y, bounds=bounds))
    clear = runs[-1].x[:7]
    free = solve(lambda q: joints(q)[-1], None, free, hand, bounds=(-LIMIT, LIMIT)).x  # for comparison: without pipes
    ignoring.append(free)
avoiding = np.array([run.x[:7] for run in runs])
print(f"{sum(run.success for run in runs)} of {len(line)} postures, {sum(run.njev for run in runs)} Jacobians in all")

# %%
# The arm with its pipes, and what it would do without them
# ---------------------------------------------------------

colour = plt.get_cmap("viridis")(np.linspace(0.0, 0.92, len(line)))
fig, axes = plt.subplots(1, 2, figsize=(10, 4.6), sharex=True, sharey=True, layout="constrained")
for ax, postures, title in zip(axes, (avoiding, ignoring), ("pipes avoided", "pipes ignored"), strict=True):
    for pipe in pipes:
        ax.add_patch(plt.Circle(pipe, PIPE, fc="0.75", ec="0.35", zorder=3, alpha=0.8))
        ax.add_patch(plt.Circle(pipe, PIPE + CLEARANCE, fill=False, ec="0.35", ls=":", zorder=3))
    for k in range(0, len(line), 5):
        ax.plot(*joints(postures[k]).T, "-o", color=colour[k], lw=2.5, ms=4, mec="white", mew=0.6)
    ax.plot(*line.T, color="#d55e00", lw=1.2, ls="--", label="line of the hand")
    ax.plot(0.0, 0.0, "ks", ms=9)
    ax.set(title=title, xlabel="x in m", aspect="equal")
axes[0].set_ylabel("y in m")
axes[0].legend(loc="lower left")

# %%
# Clearance and joint angles on the way
# -------------------------------------
# The clearance never falls below 30 mm. Where several links touch it, the arm still has degrees of freedom to go on.

way = 1e3 * (line[0, 1] - line[:, 1])
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
gap, gap_ignoring = (1e3 * np.array([clearances(q).min() for q in postures]) for postures in (avoiding, ignoring))
left.plot(way, gap, color="#0072b2", lw=2, label="pipes avoided")
left.plot(way, gap_ignoring, color="#e69f00", lw=2, ls="--", label="pipes ignored")
left.axhspan(-110, 0, color="0.88", lw=0)
left.annotate("inside a pipe", (10, -100))
left.set(xlabel="way of the hand in mm", ylabel="smallest clearance in mm", ylim=(-110, 60))
left.legend(loc="lower right")
for j, angles in enumerate(np.degrees(avoiding.T)):
    right.plot(way, angles, color=plt.get_cmap("cividis")(j / 6), lw=1.8, label=f"{j + 1}")
right.set(xlabel="way of the hand in mm", ylabel="joint angle in degrees")
right.legend(title="joint", ncols=2, loc="lower left", bbox_to_anchor=(1.0, 0.0), frameon=False)

# %%
# The same systems with scipy
# ---------------------------
# Of the methods of ``least_squares``, ``"dogbox"`` is the better one here, but it ends five to eight of the postures,
# depending on the processor, short of a solution (scipy 1.17). ``"trf"``, the default, takes more than a hundred
# Jacobians for most of them.

scipy_count = missed = 0
for k in range(1, len(line)):
    w0, y = system(line[k], avoiding[k - 1])
    end = scipy.optimize.least_squares(lambda w, y: F(w) - y, w0, bounds=bounds, args=(y,), method="dogbox")
    scipy_count, missed = scipy_count + end.njev, missed + (np.linalg.norm(end.fun) > 1e-4)
count = sum(run.njev for run in runs[1:])
print(f"Jacobians for 40 postures: plsolve {count}, dogbox {scipy_count}, which misses {missed} by more than 0.1 mm")

assert all(run.success for run in runs)
assert np.allclose([joints(q)[-1] for q in avoiding], line, atol=1e-9)
assert gap.min() > 30 - 1e-6
assert gap_ignoring.min() < -90
assert np.abs(avoiding).max() <= LIMIT
assert 2 * count < scipy_count
plt.show()
