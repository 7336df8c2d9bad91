"""
Groundwater: permeability from the water level in wells
=======================================================

Under a field of 1 km x 1 km, groundwater flows from a river in the west to a canal in the east, 5 m lower. How well
does the sand conduct water, everywhere in the field? Measured are the water levels (*heads*) in 49 wells, to 2 cm, and
what the river loses, to 0.2 l/s. With the logarithm u = ln(K/K₀) of the conductivity in 40 x 40 cells, these are n =
50 equations in m = 1600 unknowns. What they leave open must come from prior knowledge: K varies by a factor of three
about K₀ = 10⁻⁴ m/s, and places are alike over some 200 m (a Matérn covariance).

``infer`` finds the most probable field by a 50 x 50 kernel, and how certain it is. For
``scipy.optimize.least_squares`` the prior would be 1600 more residuals, which need a factorisation of the covariance.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu
from scipy.spatial.distance import cdist

from plsolve import infer

N, SIDE, WEST, EAST, K0, DEPTH = 40, 1000.0, 15.0, 10.0, 1e-4, 10.0  # cells, m, m, m, m/s, m
noise = np.append(np.full(49, 0.02), 0.2)  # m, l/s
cells = np.arange(N * N).reshape(N, N)
wells = cells[2::6, 2::6].ravel()
x, y = np.meshgrid(*2 * [(np.arange(N) + 0.5) * SIDE / N])
shores, levels = np.append(cells[:, 0], cells[:, -1]), np.repeat([WEST, EAST], N)  # river and canal

# %%
# The flow
# --------
# Through a face between two cells flows the difference of their heads, times the harmonic mean of their conductivities.
# The matrix D takes these differences. One factorisation of the balance of flows gives the heads, and one more solve
# for each datum its row of the Jacobian.

pairs = np.vstack([np.column_stack([cells[:, :-1].ravel(), cells[:, 1:].ravel()]),
                   np.column_stack([cells[:-1].ravel(), cells[1:].ravel()])])  # fmt: skip
faces = np.arange(len(pairs))
D = sparse.csr_array((np.tile([1.0, -1.0], faces.size), (np.repeat(faces, 2), pairs.ravel())))


def flow(u):
    """The factorised balance, the heads, and the conductances of faces and shores, in units of K0 DEPTH."""
    face, shore = 2.0 / np.exp(-u[pairs]).sum(axis=1), 2.0 * np.exp(u[shores])
    A = D.T @ sparse.diags_array(face) @ D + sparse.diags_array(np.bincount(shores, shore, N * N))
    lu = splu(A.tocsc())
    return lu, lu.solve(np.bincount(shores, shore * levels, N * N)), face, shore


def F(u):
    _, h, _, shore = flow(u)
    return np.append(h[wells], 1e3 * K0 * DEPTH * shore[:N] @ (WEST - h[shores[:N]]))


def jac(u):
    lu, h, face, shore = flow(u)
    by_u = (0.5 * face**2 * (D @ h))[:, None] * np.exp(-u[pairs])  # the flow through each face, by u on its two sides
    slopes = sparse.csr_array((by_u.ravel(), (np.repeat(faces, 2), pairs.ravel())))
    inflow = np.bincount(shores, shore * (levels - h[shores]), N * N)
    by_h = np.zeros((50, N * N))  # the data by the heads
    by_h[np.arange(49), wells], by_h[49, shores[:N]] = 1.0, -1e3 * K0 * DEPTH * shore[:N]
    J = lu.solve(by_h.T).T @ (sparse.diags_array(inflow) - D.T @ slopes)
    J[49, shores[:N]] += 1e3 * K0 * DEPTH * inflow[shores[:N]]
    return J


# %%
# The inference
# -------------
# The truth is a draw from the prior. ``predict`` gives the standard deviation of the mean of u, the overall
# permeability: the heads alone depend on ratios of conductivities only, and leave it nearly as open as the prior.

d = np.sqrt(3.0) * cdist(*2 * [np.column_stack([x.ravel(), y.ravel()])]) / 200.0
prior = np.log(3.0) ** 2 * (1.0 + d) * np.exp(-d)
rng = np.random.default_rng(3)
truth = np.linalg.cholesky(prior) @ rng.standard_normal(N * N)
data = F(truth) + noise * rng.standard_normal(50)

fit = infer(F, jac, np.zeros(N * N), data, noise=noise, prior=prior)
certainty = fit.uncertainty()
std = certainty.std()
mean = np.full((1, N * N), 1.0 / N**2)
heads_only = fit.uncertainty(noise=np.append(noise[:49], 1e6))
print(f"{fit.message} {fit.nit} iterations.")
print(f"chi² {certainty.chi2:.0f} for 50 data and {certainty.degrees_of_freedom:.0f} effective parameters")
print(f"the mean of u: {fit.x.mean():.2f} ± {certainty.predict(mean)[0]:.2f}, in truth {truth.mean():.2f}, "
      f"before ± {prior.mean()**0.5:.2f}, by the heads alone ± {heads_only.predict(mean)[0]:.2f}")  # fmt: skip

# %%
# The field
# ---------
# Lines are heads, half a metre apart; dots are wells.

fig, axes = plt.subplots(1, 2, figsize=(8.6, 3.9), sharey=True, layout="constrained")
for ax, u, title in zip(axes, (truth, fit.x), ("truth", "most probable, from 50 data"), strict=True):
    level = np.log10(K0) + u.reshape(N, N) / np.log(10.0)
    image = ax.pcolormesh(x, y, level, vmin=-5.0, vmax=-2.8, cmap="viridis", rasterized=True)
    ax.contour(x, y, flow(u)[1].reshape(N, N), np.arange(EAST, WEST, 0.5), colors="white", linewidths=0.8)
    ax.plot(x.flat[wells], y.flat[wells], "o", ms=3.5, mfc="white", mec="black", mew=0.6)
    ax.set(title=title, xlabel="x in m", aspect="equal")
fig.colorbar(image, ax=axes, label="log₁₀ of K in m/s", shrink=0.9)
axes[0].set_ylabel("y in m")

# %%
# How certain it is
# -----------------
# Before the data, K is known within a factor of three; with them, within a factor of 1.4 to 2.1.

row = cells[N // 2]
middle, factor = K0 * np.exp(fit.x[row]), np.exp(2.0 * std[row])
fig, (left, right) = plt.subplots(1, 2, figsize=(11, 3.7), width_ratios=(1.0, 1.5), layout="constrained")
image = left.pcolormesh(x, y, np.exp(std).reshape(N, N), cmap="cividis", rasterized=True)
fig.colorbar(image, ax=left, label="factor (one standard deviation)", shrink=0.9)
left.plot(x.flat[wells], y.flat[wells], "o", ms=3.5, mfc="white", mec="black", mew=0.6)
left.set(title="K is known to within a factor", xlabel="x in m", ylabel="y in m", aspect="equal")
right.fill_between(x[0], middle / factor, middle * factor, color="#0072b2", alpha=0.2, lw=0, label="± 2 std")
right.plot(x[0], K0 * np.exp(certainty.sample(3, rng=0)[:, row].T), color="0.5", lw=0.8)
right.plot([], [], color="0.5", lw=0.8, label="fields drawn from the posterior")
right.plot(x[0], middle, color="#0072b2", lw=2, label="most probable")
right.plot(x[0], K0 * np.exp(truth[row]), color="#d55e00", lw=2, ls="--", label="truth")
right.set(title="cut at y = 512 m", yscale="log", xlabel="x in m", ylabel="conductivity K in m/s", xlim=(0, SIDE))
right.legend(ncols=2, fontsize=9)

within = np.mean(np.abs(fit.x - truth) < 2.0 * std)
print(f"{100 * within:.0f} % of the true field lie within two standard deviations")

assert fit.success
assert certainty.chi2 < 50
assert within > 0.9
assert np.corrcoef(fit.x, truth)[0, 1] > 0.8
assert certainty.predict(mean) < 0.1 < 0.35 < heads_only.predict(mean)
assert np.exp(std).min() > 1.35
assert np.exp(std).max() < 2.15
plt.show()
