"""
A crowded spectrum: more bands than the data resolve
====================================================

The infrared spectrum of a protein between 1580 and 1720 cm⁻¹ (*amide I*) is a sum of bands that overlap: helices,
sheets, turns and loops absorb at places that are known from tables, and the areas tell how much there is of each.
Twelve bands with unknown heights, places and widths and a baseline are m = 38 unknowns; a spectrum with a point each 4
cm⁻¹ has n = 36 data, with a noise of 1 % of the highest.

The question is not which fit is the best, for there are many, but what can be known: ``infer`` takes what the tables
say as a prior, and ``uncertainty()`` gives the standard deviation of every share. ``scipy.optimize.curve_fit``, which
takes no prior, refuses n < m; with ``method="trf"`` it reaches its limit of 3800 evaluations, and with ``"dogbox"`` it
does so too or ends at 31 or 70 % helices, depending on the processor, where the truth is 9 % (scipy 1.17).
"""

import matplotlib.pyplot as plt
import numpy as np

from plsolve import infer

kinds = {
    "side chains": ("#999999", [1592.0, 1608.0]),
    "sheets": ("#0072b2", [1618.0, 1626.0, 1634.0, 1691.0]),
    "loops": ("#009e73", [1642.0, 1648.0]),
    "helices": ("#d55e00", [1655.0, 1661.0]),
    "turns": ("#e69f00", [1670.0, 1680.0]),
}
places = np.concatenate([at for _, at in kinds.values()])
kind = np.repeat(np.arange(len(kinds)), [len(at) for _, at in kinds.values()])
nu = np.arange(1580.0, 1721.0, 4.0)  # wavenumbers in cm⁻¹

# %%
# The model and the prior
# -----------------------
# Heights are known to a factor of 2.5, places to 2 cm⁻¹, widths (16 cm⁻¹ at half height) to a factor of 1.2. Heights
# and widths are positive, so their logarithms are the unknowns.


def bands(w, nu=nu):
    """The twelve bands (len(nu), 12), without the baseline."""
    height, place, width = w[:36].reshape(3, 12)
    return np.exp(height - 4.0 * np.log(2.0) * ((nu[:, None] - place) / np.exp(width)) ** 2)


def spectrum(w, nu=nu):
    return bands(w, nu).sum(axis=1) + w[36] + w[37] * (nu - 1650.0) / 70.0


mean = np.concatenate([np.full(12, np.log(0.25)), places, np.full(12, np.log(16.0)), [0.0, 0.0]])
prior = np.concatenate([np.full(12, np.log(2.5)), np.full(12, 2.0), np.full(12, np.log(1.2)), [0.02, 0.02]])
rng = np.random.default_rng(4)
truth = mean + prior * rng.standard_normal(38)
noise = 0.01 * spectrum(truth).max()
data = spectrum(truth) + noise * rng.standard_normal(nu.size)
fit = infer(spectrum, None, mean, data, noise=noise, prior=prior)
u = fit.uncertainty()
print(f"{fit.message} {fit.nit} iterations")
print(f"effective parameters: {u.degrees_of_freedom:.1f} of 38; chi² {u.chi2:.0f} of {nu.size} data")

# %%
# The shares of the area
# ----------------------
# Their standard deviations follow from their derivatives by the unknowns. Two bands that overlap are hardly known one
# by one, but their sum is, and that is what the shares need: ``predict`` takes the correlations into account.


def shares(w):
    area = np.exp(w[:12] + w[24:36])
    return np.bincount(kind, area) / area.sum()


def shares_jac(w):
    area = np.exp(w[:12] + w[24:36])
    by_log_area = (np.equal.outer(np.arange(5), kind) - shares(w)[:, None]) * area / area.sum()
    return np.hstack([by_log_area, np.zeros((5, 12)), by_log_area, np.zeros((5, 2))])


found, std, true = shares(fit.x), u.predict(shares_jac(fit.x)), shares(truth)
before = np.array([shares(w) for w in mean + prior * rng.standard_normal((2000, 38))])
for name, value, error, right in zip(kinds, found, std, true, strict=True):
    print(f"{name:11} {100 * value:4.1f} ± {100 * error:3.1f} %   (in truth {100 * right:4.1f} %)")

fine = np.linspace(1580.0, 1720.0, 400)
J = np.column_stack([(spectrum(fit.x + h, fine) - spectrum(fit.x - h, fine)) / 2e-5 for h in 1e-5 * np.eye(38)])
fig, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), width_ratios=(1.7, 1.0), layout="constrained")
parts, total, doubt = bands(fit.x, fine), spectrum(fit.x, fine), u.predict(J)
for k, (name, (color, at)) in enumerate(kinds.items()):
    for j in np.flatnonzero(kind == k):
        label = name if places[j] == at[0] else None
        left.fill_between(fine, parts[:, j], color=color, alpha=0.35, lw=0, label=label)
        left.plot(fine, parts[:, j], color=color, lw=1.2)
left.fill_between(fine, total - 2 * doubt, total + 2 * doubt, color="0.6", lw=0)
left.plot(fine, total, color="black", lw=1.4, label="sum, ± 2 std")
left.plot(nu, data, "o", ms=4.5, mfc="white", mec="black", label="measured")
left.set(xlabel="wavenumber in cm⁻¹", ylabel="absorbance", xlim=(1580, 1720), title="36 data, 38 unknowns")
left.legend(fontsize=9)

at = np.arange(5)
right.errorbar(at - 0.2, 100 * before.mean(axis=0), 100 * before.std(axis=0), fmt="_", color="0.6", lw=6, alpha=0.7,
               label="before the data")  # fmt: skip
colors = [color for color, _ in kinds.values()]
right.bar(at, 100 * found, 0.25, color=colors, alpha=0.6)
right.errorbar(at, 100 * found, 100 * std, fmt=".", color="black", capsize=4, label="from the spectrum, ± 1 std")
right.plot(at + 0.25, 100 * true, "k*", ms=11, label="truth")
right.set(xticks=at, xticklabels=kinds, ylabel="share of the area in %", ylim=(0, 60), title="what the spectrum tells")
right.tick_params(axis="x", rotation=20)
right.legend(fontsize=9, loc="upper right")

assert fit.success
assert np.all(np.abs(found - true) < 2.0 * std)
assert np.all(std < 0.6 * before.std(axis=0))
assert u.chi2 < nu.size
single = u.std(np.arange(12))[kind == 3].min()  # of the logarithm of the height of a helix band
assert std[3] / found[3] < 0.5 * single
plt.show()
