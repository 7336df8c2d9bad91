"""A method of the user's own (docs/guide/own_method.md) runs with whatever F and jac are."""

import numpy as np
import pytest

from plsolve import solve
from plsolve.methods import METHODS, OPTIONS, Method, Stage, Start, newton

A = np.random.default_rng(0).standard_normal((4, 9)) / 3
Y = np.full(4, 0.5)


def F(w):
    return np.tanh(A @ w) + A @ w


def jac(w):
    return (2 - np.tanh(A @ w) ** 2).reshape(-1, 1) * A


@pytest.fixture(scope="module")
def of_numba():
    njit = pytest.importorskip("numba").njit
    return njit(F), njit(jac)


def init(limit, problem, before):
    return Start(problem.w0, problem.r0) if before is None else before


def step(problem, s):
    g = problem.linearise(s.w, s.r, False).adjoint(s.r)
    eta = (s.r @ s.r) / (g @ g)
    w = problem.project(s.w - eta * g)
    return Start(w, problem.residual(w), nit=s.nit + 1, step=eta * np.linalg.norm(g))


def gives_up(problem, s):
    """A step that leaves the work to the next stage."""
    return s._replace(nit=s.nit + 1, status=-3)


def newton_after(problem, options, beta):
    return Method(stages=[Stage(init, gives_up), *newton.stages(problem, beta, True)], limit=100)


def polyak(problem, options, beta):
    return Method(stages=[Stage(init, step)], limit=10_000)


@pytest.fixture
def methods(monkeypatch):
    monkeypatch.setitem(METHODS, "polyak", polyak)
    monkeypatch.setitem(METHODS, "late", newton_after)
    monkeypatch.setitem(OPTIONS, "polyak", ())
    monkeypatch.setitem(OPTIONS, "late", ())


@pytest.mark.parametrize("jacobian", [True, False])
@pytest.mark.parametrize("method", ["polyak", "late"])
def test_with_numba_functions_it_runs_as_with_plain_ones(methods, of_numba, method, jacobian):
    ends = []
    for F_, jac_ in ((F, jac), of_numba):
        sol = solve(F_, jac_ if jacobian else None, np.zeros(9), Y, method=method)
        assert sol.success
        assert sol.method == method
        assert not sol.compiled
        ends.append((sol.nit, sol.nfev, sol.njev))
        np.testing.assert_allclose(F(sol.x), Y, atol=1e-9)
    assert ends[0] == ends[1]


def test_that_it_is_not_compiled_is_said(methods, of_numba):
    with pytest.raises(TypeError, match="`compiled=True` is not possible: this method"):
        solve(*of_numba, np.zeros(9), Y, method="polyak", compiled=True)
