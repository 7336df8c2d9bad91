"""Conjugate gradients, the preconditioner from random products, and its memory."""

import numpy as np
import pytest

from plsolve._krylov import Memory, conjugate_gradients, nystrom


def spectrum(n, values):
    Q = np.linalg.qr(np.random.default_rng(2).standard_normal((n, n)))[0]
    return (Q * values) @ Q.T, Q


def test_nystrom_takes_the_large_eigenvalues_away():
    values = np.concatenate([np.logspace(6, 2, 20), np.linspace(1.0, 2.0, 180)])
    K, _ = spectrum(200, values)
    P = nystrom(lambda z: K @ z, 200, 60)
    inner = np.linalg.eigvals(np.column_stack([P(c) for c in K.T])).real
    assert inner.max() / inner.min() < 10.0 < 1e6
    x = np.random.default_rng(3).standard_normal(200)
    plain = conjugate_gradients(lambda z: K @ z, x, None, 1e-8 * np.linalg.norm(x), 10_000)
    better = conjugate_gradients(lambda z: K @ z, x, P, 1e-8 * np.linalg.norm(x), 10_000)
    assert better.steps < 0.5 * plain.steps
    np.testing.assert_allclose(K @ better.z, x, atol=1e-6)


def test_memory_builds_when_it_pays_and_only_then():
    K, _ = spectrum(200, np.concatenate([np.logspace(6, 2, 20), np.linspace(1.0, 2.0, 180)]))
    x = np.random.default_rng(3).standard_normal(200)
    memory = Memory(rank=40)
    memory.solve(lambda z: z, x, 1e-6)
    assert memory.preconditioner is None
    found = memory.solve(lambda z: K @ z, x, 1e-6)
    assert memory.preconditioner is not None
    assert np.linalg.norm(K @ found.z - x) <= 1.01e-6 * np.linalg.norm(x)
    np.testing.assert_allclose(x - K @ found.z, found.left, atol=1e-8 * np.linalg.norm(x))


def test_memory_grows_while_steps_cost_more_than_a_better_preconditioner(monkeypatch):
    from plsolve import _krylov as krylov

    n = 400
    K, _ = spectrum(n, np.concatenate([np.logspace(5, 1, 70), np.linspace(1.0, 2.0, 330)]))
    memory, ranks, steps = Memory(rank=10), [], []
    monkeypatch.setattr(krylov, "NUMBERS", 80 * n)
    for seed in range(8):
        x = np.random.default_rng(seed).standard_normal(n)
        found = memory.solve(lambda z: K @ z, x, 1e-8, columns=7)
        assert np.linalg.norm(K @ found.z - x) <= 1.01e-8 * np.linalg.norm(x)
        ranks.append(memory.preconditioner.U.shape[1])
        steps.append(found.steps)
    assert ranks[-1] == 80
    assert steps[-1] < 0.5 * steps[0]


def test_many_products_at_once_make_the_same_preconditioner():
    K, _ = spectrum(200, np.concatenate([np.logspace(6, 2, 20), np.linspace(1.0, 2.0, 180)]))
    one, many = (nystrom(lambda z: K @ z, 200, 30, columns) for columns in (1, 8))
    x = np.random.default_rng(3).standard_normal(200)
    np.testing.assert_allclose(one(x), many(x), atol=1e-10)


def test_the_energy_is_known_long_before_the_solution():
    K, _ = spectrum(400, np.logspace(3, -1, 400))
    x = np.random.default_rng(3).standard_normal(400)
    exact = x @ np.linalg.solve(K, x)
    found = conjugate_gradients(lambda z: K @ z, x, None, 0.0, 4000, settled=0.1)
    whole = conjugate_gradients(lambda z: K @ z, x, None, 1e-6 * np.linalg.norm(x), 4000)
    assert found.steps < 0.5 * whole.steps
    assert 0.5 * exact < x @ found.z <= exact * (1 + 1e-8)


@pytest.mark.parametrize("K", [np.zeros((5, 5)), np.diag([1.0, 1.0, 0.0, 0.0, 0.0]), -np.eye(5)])
def test_what_is_not_in_range_is_lost_not_nan(K):
    found = Memory(rank=2).solve(lambda z: K @ z, np.ones(5), 1e-10)
    assert found.lost or np.linalg.norm(found.left) > 0.5
    assert np.isfinite(found.z).all()
