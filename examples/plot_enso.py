"""
El Niño: a network that interpolates, and one that doubts
=========================================================

The difference of air pressure between Easter Island and Darwin drives the trade winds; 168 monthly means show the
seasons and, irregularly, El Niño. A year of them is hidden, and a network is fitted to the other n = 156. With 500
units that see 112 waves of different periods it has m = 57 001 weights: hundreds for each month.

``solve`` makes it pass through every month, with one Jacobian that is never formed as a matrix (156 x 57 001): only
the kernel is, as a sum over the layers. ``scipy.optimize.least_squares`` takes seven Jacobians and some hundred times
as long if it is given the products J v and Jᵀ z, and more with J as an array; ``"lm"`` refuses n < m (scipy 1.17).

To pass through noisy data is not to understand them, as the hidden year shows. ``infer`` weighs the data against a
prior for the weights, and tells how far its curve can be trusted.
"""

from importlib.resources import files

import matplotlib.pyplot as plt
import numpy as np

from plsolve import infer, solve
from plsolve.networks import WideNetwork

month, pressure = np.loadtxt(files("plsolve") / "data" / "enso.csv", delimiter=",", unpack=True)
y = (pressure - pressure.mean()) / pressure.std()
hidden = (month > 66) & (month <= 78)

# %%
# The network
# -----------
# It sees time as waves that fit 1 to 56 times into the 14 years, long ones stronger than short ones, and the year and
# half-year strongest. The last layer starts at 0, so that the first guess is the mean.


def waves(month):
    number = np.arange(1, 57)
    strength = np.exp(-number / 15.0)
    strength[[13, 27]] += 0.7, 0.3
    angle = 2.0 * np.pi / 168.0 * np.outer(month, number)
    return np.hstack([strength * np.cos(angle), strength * np.sin(angle)]) * np.sqrt(112 / np.sum(strength**2))


net = WideNetwork(waves(month[~hidden]), (500,), activation="tanh")
w0 = net.init(0)
w0[-501:] = 0.0
exact = solve(net.F, net.jac, w0, y[~hidden])
print(f"n = {net.n}, m = {net.m}: {exact.message} {exact.njev} Jacobian, kappa {exact.kernel.kappa:.0f}")

# %%
# With doubt
# ----------
# A month deviates from the climate by half the standard deviation of the series: that is the noise. The standard
# deviation of the curve comes from the kernel between the months of the data and those of the picture.

noise = 0.5
fit = infer(net.F, net.jac, w0, y[~hidden], noise=noise, prior=1.0)
fine = np.linspace(1.0, 168.0, 1000)
u = fit.uncertainty()
curve, std = net.predict(fit.x, waves(fine)), u.predict(WideNetwork(waves(fine), (500,), activation="tanh").jac(fit.x))
print(f"{fit.message} {u.degrees_of_freedom:.0f} effective parameters")


def in_units(y):
    return pressure.mean() + pressure.std() * y


fig, axes = plt.subplots(2, 1, figsize=(10, 6.4), layout="constrained")
for ax in axes:
    ax.axvspan(66.5, 78.5, color="0.93", lw=0)
    ax.plot(
        fine, in_units(net.predict(exact.x, waves(fine))), color="#e69f00", lw=1.2, label="solve: through every month"
    )
    for width, shade in ((np.hypot(std, noise), 0.13), (std, 0.3)):
        ax.fill_between(fine, *(in_units(curve + s * width) for s in (-2, 2)), color="#0072b2", alpha=shade, lw=0)
    ax.plot(fine, in_units(curve), color="#0072b2", lw=1.8, label="infer: ± 2 std of the curve, and of a month")
    ax.plot(month[~hidden], pressure[~hidden], "ko", ms=3, label="measured")
    ax.plot(
        month[hidden], pressure[hidden], "D", ms=4.5, mfc="white", mec="#d55e00", mew=1.5, label="measured, but hidden"
    )
    ax.set(ylabel="pressure difference", ylim=(-3, 26))
axes[0].set(xlim=(1, 168), title="14 years of monthly means, and a network of 57 001 weights")
axes[0].legend(ncols=4, fontsize=8.5, loc="lower center")
axes[1].set(xlim=(54, 90), xlabel="month", title="the hidden year")

error, error_exact = (
    np.sqrt(np.mean((net.predict(w, waves(month[hidden])) - y[hidden]) ** 2)) for w in (fit.x, exact.x)
)
near = np.interp(month[hidden], fine, np.hypot(std, noise))
inside = np.mean(np.abs(net.predict(fit.x, waves(month[hidden])) - y[hidden]) < 2.0 * near)
print(f"error in the hidden year, in standard deviations of the series: solve {error_exact:.1f}, infer {error:.2f}")
print(f"{inside:.0%} of the hidden months lie in the wider band")

assert exact.success
assert exact.njev == 1
assert fit.success
assert np.abs(net.F(exact.x) - y[~hidden]).max() < 1e-8
assert error < 0.8 < 3.0 < error_exact
assert inside > 0.8
plt.show()
