"""The inverse problems of the benchmarks, small: their Jacobians, and what `infer` makes of them."""

import numpy as np
import pytest

from benchmarks.checks import inference
from benchmarks.inverse import Groundwater, Matern, Spectrum
from plsolve import infer

FLOW, LINES = Groundwater(16, wells=4), Spectrum(peaks=3, points=30)


@pytest.mark.parametrize(("problem", "w"), [(FLOW, 0.5 * FLOW.truth), (LINES, LINES.truth)], ids=["flow", "spectrum"])
def test_jacobians(problem, w):
    p = np.random.default_rng(1).standard_normal(w.size)
    change = (problem.F(w + 1e-6 * p) - problem.F(w - 1e-6 * p)) / 2e-6
    np.testing.assert_allclose(problem.jac(w) @ p, change, rtol=1e-4, atol=1e-6)


def test_the_covariance_by_fft():
    C = Matern(6) @ np.eye(36)
    place = np.stack(np.meshgrid(np.arange(6), np.arange(6), indexing="ij"), -1).reshape(-1, 2) / 6
    s = np.sqrt(3.0) * np.linalg.norm(place[:, None] - place, axis=2) / 0.125
    np.testing.assert_allclose(C, (1.0 + s) * np.exp(-s), atol=1e-10)
    z = np.random.default_rng(0).standard_normal((144, 1))[:, 0]
    prior = Matern(6)
    assert prior.root(z) @ prior.root(z) == pytest.approx(z @ prior.root_adjoint(prior.root(z)))


@pytest.mark.parametrize("kind", ["white", "Matern"])
def test_groundwater(kind):
    prior = 0.5 if kind == "white" else FLOW.prior
    fit = infer(FLOW.F, FLOW.jac, np.zeros(FLOW.m), FLOW.y, noise=FLOW.noise, prior=prior)
    assert fit.success
    u = fit.uncertainty()
    C = prior**2 * np.eye(FLOW.m) if kind == "white" else FLOW.prior @ np.eye(FLOW.m)
    J = FLOW.jac(fit.x)
    cov = C - C @ J.T @ np.linalg.solve(J @ C @ J.T + FLOW.noise**2 * np.eye(FLOW.n), J @ C)
    np.testing.assert_allclose(u.std(), np.sqrt(np.diag(cov)), rtol=1e-8)
    np.testing.assert_allclose(C @ J.T @ fit.fun / FLOW.noise**2, -fit.x, atol=1e-4)
    assert np.mean(np.abs(FLOW.truth - fit.x) <= 2.0 * u.std()) > 0.85


def test_the_comparison(capsys):
    inference.groundwater(12)
    inference.spectrum(0)
    printed = capsys.readouterr().out
    assert "Groundwater, 12 x 12 cells, 100 heads, Matern prior" in printed
    assert "degrees of freedom" in printed
