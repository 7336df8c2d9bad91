"""Each formula of plsolve.theory against what it states, on a grid of constants with its ends."""

import math

import numpy as np
import pytest

from plsolve.theory import certificates, forecasts, steps

KAPPAS = [1.0, 1.5, 10.0, 1e3, 1e6]
U = 2.0**-53


def spectrum(kappa, k=30):
    return np.geomspace(1 / kappa, 1.0, k)


def residuals(kappa, update, steps_made=200):
    """||r_t|| of a method on r' = r - K p, K diagonal; update(g, state) -> (step, state) in the coordinates of r."""
    K, r, state, sizes = spectrum(kappa), np.ones(30), None, []
    for t in range(steps_made):
        sizes.append(np.linalg.norm(r))
        p, state = update(r, state, t)
        r = r + K * p
    return np.array(sizes)


@pytest.mark.parametrize("kappa", KAPPAS)
def test_gd_rate_is_attained_and_no_more(kappa):
    eta = steps.gd_step(1.0, 0.0, 3.0)
    sizes = residuals(kappa, lambda r, s, t: (-eta * r, s))
    rate = steps.gd_rate(eta, 1 / kappa)
    seen = sizes > 1e-12
    t = np.arange(200)
    assert np.all((sizes**2 <= rate**t * sizes[0] ** 2 * (1 + 1e-9))[seen])


@pytest.mark.parametrize("kappa", KAPPAS)
@pytest.mark.parametrize("method", ["heavy-ball", "nesterov", "chebyshev"])
def test_momentum_rates(kappa, method):
    def update(r, state, t):
        p, before, r_before = state or (np.zeros(30), 0.0, r)
        if method == "chebyshev":
            a, b = steps.chebyshev(1.0, 1 / kappa, before, t)
            p = a * (-r + b * (p / before if t else p))
            return p, (p, a, r)
        a, b = steps.heavy_ball(1.0, 1 / kappa) if method == "heavy-ball" else steps.nesterov(1.0, 1 / kappa)
        at = r if method == "heavy-ball" else r + b * (r - r_before)
        p = -a * at + b * p
        return p, (p, a, r)

    sizes = residuals(kappa, update, 400)
    seen = sizes > 1e-12 * sizes[0]
    t = np.arange(400)
    if method == "chebyshev":
        q = (math.sqrt(kappa) - 1) / (math.sqrt(kappa) + 1)
        bound = 2 * q**t / (1 + q ** (2.0 * t))
    elif method == "nesterov":
        bound = math.sqrt(2.0) * (1 - 1 / math.sqrt(kappa)) ** (t / 2)
    else:
        q = (math.sqrt(kappa) - 1) / (math.sqrt(kappa) + 1)
        bound = (1 + 2 * t) * np.maximum(q, 1e-300) ** np.maximum(t - 1.0, 0.0) * 2
    assert np.all((sizes / sizes[0] <= bound * (1 + 1e-6))[seen])


@pytest.mark.parametrize("rule", ["polyak", "cauchy"])
def test_steps_without_constants(rule):
    K = spectrum(10.0)
    r = np.ones(30)
    g2, r2, jg2 = float(r @ (K * r)), float(r @ r), float(np.sum((K * r) ** 2))
    eta = steps.polyak_step(r2, g2) if rule == "polyak" else steps.cauchy_step(g2, jg2)
    new = r - eta * K * r
    if rule == "cauchy":
        for other in (0.9 * eta, 1.1 * eta):
            assert np.linalg.norm(r - other * K * r) > np.linalg.norm(new)
    else:
        assert r2 - eta * g2 == pytest.approx(0.0)  # to the root of the model along g


@pytest.mark.parametrize("n", [1, 2, 20])
@pytest.mark.parametrize("batch", [1, 2, 20])
@pytest.mark.parametrize("kappa", [1.0, 30.0])
def test_sgd_constants_bound_the_second_moment(n, batch, kappa):
    """E||(n/s) J_B^T r_B||^2 <= 2 Ls L, computed exactly for uniform draws with replacement (5.1)."""
    rng = np.random.default_rng(0)
    K = rng.standard_normal((n, n + 3))
    K = K @ np.diag(np.geomspace(1, kappa, n + 3)) @ K.T
    row, largest, mu = np.diag(K).max(), np.linalg.eigvalsh(K)[-1], np.linalg.eigvalsh(K)[0]
    smoothness = steps.batch_smoothness(n, batch, row, largest)
    for _ in range(20):
        r = rng.standard_normal(n)
        second = n / batch * np.sum(np.diag(K) * r**2) + (1 - 1 / batch) * r @ K @ r
        assert second <= smoothness * r @ r * (1 + 1e-12)
    assert -1e-12 <= steps.sgd_rate(smoothness, mu) < 1
    eta = steps.sgd_theorem_step(n, batch, mu, row, largest)
    assert -1e-12 <= steps.sgd_theorem_rate(n, batch, mu, eta) < 1
    s = steps.critical_batch(n, row, largest)
    assert 1 <= s <= n


def test_critical_batch_ends():
    assert steps.critical_batch(10, 0.0, 0.0) == 1
    assert steps.critical_batch(10, 1.0, 10.0) == 2  # all rows alike
    assert steps.critical_batch(10, 1.0, 1.0) == 10  # orthonormal rows: capped at n


def test_tube():
    assert steps.tube_theta(0.0, 1.0, 1.0) == 2.0
    with pytest.raises(ValueError, match="too wide"):
        steps.tube_theta(1.0, 1.0, 1.0)
    rate = steps.tube_rate(1.0, 0.0, 1.0, 1.0, 2.0)
    assert rate == 1 - 1 / 8


@pytest.mark.parametrize("kappa", KAPPAS)
def test_mass_with_all_rows_is_nesterov_like(kappa):
    eta, more, gamma, rate = steps.mass(5, 5, 1.0, 1.0, 1 / kappa)
    assert eta > 0
    assert more >= 0
    assert 0 <= gamma < 1
    assert 0 <= rate < 1


# Certificates --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("h", [0.0, 1e-300, 1e-8, 0.1, 0.499999, 0.5])
def test_newton_radius_is_the_root_of_the_majorant(h):
    s, e = 2.0, 0.7
    beta = h * s / e
    t = certificates.newton_radius(h, e)
    assert beta * t * t / 2 - s * t + s * e == pytest.approx(0.0, abs=1e-12)
    assert e <= t <= 2 * e


def test_newton_radius_beyond_the_limit():
    assert certificates.newton_radius(0.5 + 1e-12, 1.0) == math.inf
    assert certificates.newton_h(1.0, 1.0, 0.0) == math.inf


@pytest.mark.parametrize("q", [0.0, 1e-9, 1e-4, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("kappa", [1.0, 1e4])
def test_numbers_at_a_point_from_the_jacobian_at_another(q, kappa):
    """3.9: where J(x) is within q of J(w) its numbers are bounded by those at w, with equality in the worst case."""
    rng = np.random.default_rng(0)
    for m in (4, 7):
        U, V = (np.linalg.qr(rng.standard_normal((k, 4)))[0] for k in (4, m))
        A = (U * np.geomspace(1.0, kappa**-0.5, 4)) @ V.T
        K_root = U @ np.diag(np.geomspace(1.0, kappa**0.5, 4)) @ U.T  # K^{-1/2}
        r, D = rng.standard_normal(4), rng.standard_normal((4, m))
        for E in (rng.standard_normal((4, m)), -A):
            E = E * (q / np.linalg.norm(K_root @ E, 2))
            J = np.linalg.pinv(A + E)
            h, e = certificates.moved_newton(0.5, np.linalg.norm(np.linalg.pinv(A) @ r), 2.0 * q)
            assert np.linalg.norm(J @ r) <= e * (1 + 1e-9)
            assert np.linalg.norm(J @ D, 2) * (1 - q) <= np.linalg.norm(np.linalg.pinv(A) @ D, 2) * (1 + 1e-9)
            assert np.linalg.norm(J, 2) * (1 - q) <= kappa**0.5 * (1 + 1e-9)
            assert h == pytest.approx(0.5 * e / (1 - q))
        assert np.linalg.norm(J @ r) == pytest.approx(e)  # J(x) = (1 - q) J(w)


def test_too_far_for_the_jacobian_at_another_point():
    assert certificates.moved_newton(1.0, 1e-9, 1.0) == (math.inf, math.inf)
    assert certificates.moved_newton(2.0, 0.1, 0.0) == (0.2, 0.1)


@pytest.mark.parametrize("c", [0.1, 1.0])
@pytest.mark.parametrize("share", [1e-9, 0.5, 1.0])
def test_descent_ball(c, share):
    s, lipschitz, r = 0.5, 2.0, 1.0
    beta = share * 0.5 * (1 - c / 2) * s * s / r
    radius, eta, rate = certificates.descent_ball(beta, r, s, lipschitz, c)
    assert r / s <= radius * (1 + 1e-12)
    assert beta * radius <= s
    assert 0 < eta <= c / lipschitz**2
    assert 0 < rate <= 1
    assert certificates.descent_ball(1.01 * beta / share, r, s, lipschitz, c)[0] == math.inf


@pytest.mark.parametrize("beta", [0.0, 1e-12, 1.0, 1e6])
@pytest.mark.parametrize("lipschitz", [0.0, 1e-3, 1.0])
def test_absence_radius_solves_its_equation(beta, lipschitz):
    r = 0.7
    R = certificates.absence_radius(r, lipschitz, beta)
    if beta == lipschitz == 0.0:
        assert math.isinf(R)
    else:
        assert lipschitz * R + beta * R * R / 2 == pytest.approx(r)
    assert certificates.absence_radius(0.0, lipschitz, beta) == 0.0


def test_simple_formulas():
    assert certificates.paper_ball(2.0, 3.0, 0.5) == 24.0
    assert certificates.paper_ball(2.0, 3.0, 0.0) == math.inf
    assert certificates.equations_beta([3.0, 4.0]) == 5.0


# Forecasts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kappa", KAPPAS[1:])
def test_forecasts_are_what_happens(kappa):
    values = spectrum(kappa)
    weights = np.ones(30)
    eta, aim = 1.0, 1e-10
    loss = 0.5 * weights.sum()
    t = forecasts.spectral_iterations(values.tolist(), weights.tolist(), eta, aim * loss)
    assert forecasts.spectral_loss(values.tolist(), weights.tolist(), eta, t) <= aim * loss
    assert forecasts.spectral_loss(values.tolist(), weights.tolist(), eta, t - 1) > aim * loss
    near = forecasts.near_linear_iterations(eta, 1 / kappa, 1 / aim)
    assert t <= near
    assert forecasts.momentum_iterations(kappa, 1 / aim) <= near


def test_forecast_ends():
    assert forecasts.near_linear_iterations(1.0, 1.0, 5.0) == 1
    assert forecasts.near_linear_iterations(1.0, 0.1, 0.5) == 0
    assert forecasts.momentum_iterations(1.0, 5.0) == 1
    assert forecasts.momentum_iterations(10.0, 1.0) == 0
    assert forecasts.spectral_iterations([1.0], [1.0], 0.0, 0.1, most=1000) == 1000
    assert forecasts.spectral_iterations([1.0], [1.0], 0.5, 1.0) == 0
    assert forecasts.observed_iterations([0, 1, 2], [1.0, 0.1, 0.01], 1e-4) == pytest.approx(2.0)
    assert forecasts.observed_iterations([0, 1], [1.0, 1.0], 1e-4) == math.inf
    assert forecasts.observed_iterations([0, 1], [1.0, 1e-5], 1e-4) == 0.0
    assert [forecasts.newton_iterations(h, 1e10) for h in (0.0, 1e-3, 0.3, 0.5)] == [1, 2, 4, 34]
