"""The constants that plsolve.testing states are bounds everywhere, and attained where they are said to be exact."""

import numpy as np
import pytest

from plsolve import testing

RNG = np.random.default_rng(0)
SYSTEMS = [
    testing.prescribed_spectrum(5, 12, 1e3, 0.3),
    testing.prescribed_spectrum(6, 6, 1.0, 0.0),
    testing.prescribed_spectrum(9, 4, 1e2, 0.3),
    testing.quadratic(4, 9),
    testing.no_solution(3, 5),
    testing.singular_start(4, 9),
    testing.repeated_equations(4, 9),
    testing.tanh_system(4, 9),
    testing.planar_arm(),
    testing.powell_singular(),
    testing.first_layer_tanh(RNG.standard_normal((5, 3)), RNG.standard_normal(5), 20),
]


@pytest.mark.parametrize("p", SYSTEMS, ids=lambda p: p.name)
@pytest.mark.parametrize("size", [0.1, 1.0, 10.0])
def test_bounds_hold_at_random_points(p, size):
    rng = np.random.default_rng(1)
    for _ in range(50):
        u = p.w0 + size * rng.standard_normal(p.m)
        v = u + size * rng.standard_normal(p.m) * 10.0 ** rng.uniform(-4, 0)
        J, G = p.jac(u), p.jac(v)
        length = np.linalg.norm(u - v)
        if p.beta is not None:
            assert np.linalg.norm(J - G, 2) <= p.beta * length * (1 + 1e-6) + 1e-12
            assert np.all(np.linalg.norm(J - G, axis=1) <= p.beta_rows * length * (1 + 1e-6) + 1e-12)
        s = np.linalg.svd(J, compute_uv=False)
        if p.lipschitz is not None:
            assert s[0] <= p.lipschitz * (1 + 1e-9)
        if p.mu:
            assert s[-1] ** 2 >= p.mu * (1 - 1e-9)


def test_constants_of_the_prescribed_spectrum_are_attained():
    kappa, e = 1e3, 0.3
    p = testing.prescribed_spectrum(5, 12, kappa, e)
    flat, steep = (
        np.linalg.svd(p.jac(np.full(12, np.pi)), compute_uv=False),
        np.linalg.svd(p.jac(np.zeros(12)), compute_uv=False),
    )
    assert flat[-1] ** 2 == pytest.approx(p.mu)
    assert steep[0] == pytest.approx(p.lipschitz)
    assert (steep[0] / steep[-1]) ** 2 == pytest.approx(kappa)
    h = 1e-5
    bends = []
    for j in range(12):
        d = np.zeros(12)
        d[j] = h
        w = np.full(12, np.pi / 2)
        bends.append(np.linalg.norm(p.jac(w + d) - p.jac(w - d), 2) / (2 * h))
    assert max(bends) == pytest.approx(p.beta, rel=1e-6)


@pytest.mark.parametrize("p", [p for p in SYSTEMS if p.solution is not None], ids=lambda p: p.name)
def test_solutions_are_solutions(p):
    np.testing.assert_allclose(p.F(p.solution), p.y, atol=1e-9)


@pytest.mark.parametrize("gap", [1e-8, 0.5])
def test_there_is_none_where_none_is_said_to_be(gap):
    p = testing.no_solution(3, 6, gap=gap)
    for _ in range(100):
        assert np.linalg.norm(p.F(RNG.standard_normal(6)) - p.y) >= gap


def test_singular_start_is_singular():
    p = testing.singular_start(4, 9)
    assert np.linalg.matrix_rank(p.jac(p.w0)) == 3
    assert np.linalg.matrix_rank(p.jac(p.solution)) == 4
