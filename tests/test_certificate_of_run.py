"""The certificate in a Result, what it costs, and `xtol`, which rests on it."""

import math
import pickle

import naive
import numpy as np
import problems
import pytest
from scipy.sparse import diags_array

from plsolve import Status, certify, solve, testing


def test_an_error_while_certifying_leaves_the_result_whole():
    p, calls = testing.tanh_system(4, 9), []

    def jac(w):
        calls.append(1)
        if len(calls) > limit:
            raise ZeroDivisionError("too late")
        return p.jac(w)

    limit = 10**9
    sol = solve(p.F, jac, p.w0, p.y)
    limit = len(calls)
    assert sol.success
    with pytest.raises(ZeroDivisionError, match="too late"):
        _ = sol.certificate
    assert sol.success
    limit = 10**9
    assert sol.certificate.exists


def test_certify_false():
    p = testing.tanh_system(4, 9)
    sol = solve(p.F, p.jac, p.w0, p.y, certify=False)
    assert sol.certificate is None


@pytest.mark.parametrize("method", ["gauss-newton", "gd", "sgd"])
def test_certificate_of_every_method_and_its_price(method):
    p = testing.tanh_system(6, 15)
    jac = naive.Recorded(p.jac)
    sol = solve(p.F, jac, p.w0, p.y, beta=p.beta, method=method, rng=0)
    before = jac.calls
    assert sol.certificate.exists
    assert sol.certificate.rigorous
    at_x = method != "gauss-newton"  # which keeps the factor of the last kernel: theory 3.9
    assert jac.calls == before + 4 + at_x  # four to put beta to the test
    assert sol.jac is not None
    assert jac.calls == before + 5
    assert sol.njev == before
    twin = pickle.loads(pickle.dumps(sol))
    assert twin.certificate == sol.certificate


@pytest.mark.parametrize("p", problems.CERTIFIABLE, ids=lambda p: p.name)
@pytest.mark.parametrize("tol", [1e-4, 1e-8, 1e-10, 0.0])
def test_the_certificate_of_a_run_is_that_at_x(p, tol):
    """Whether it comes from J at x or from the last linearisation (theory 3.9)."""
    for beta in (p.beta, p.beta_rows):
        sol = solve(p.F, p.jac, p.w0, p.y, beta=beta, tol=tol, method="gauss-newton")
        c, at_x = sol.certificate, certify(p.F, p.jac, sol.x, p.y, beta=beta)
        assert (c.exists, c.rigorous, c.theorem) == (at_x.exists, at_x.rigorous, at_x.theorem)
        np.testing.assert_allclose([c.mu, c.lipschitz], [at_x.mu, at_x.lipschitz], rtol=3e-4)
        if c.exists:  # |J||w| in the rounding of F is taken from row norms
            rounding = 1e-13 * c.lipschitz * np.linalg.norm(sol.x) / math.sqrt(c.mu) + 1e-13
            np.testing.assert_allclose(c.radius, at_x.radius, rtol=1e-3, atol=rounding)


def test_the_certificate_needs_no_jacobian_where_the_last_was_near():
    rng = np.random.default_rng(0)  # more than 100 000 entries: beta is not put to the test
    p = testing.first_layer_tanh(rng.standard_normal((60, 10)), np.linspace(-1.0, 1.0, 60), 200)
    F, jac = naive.Recorded(p.F), naive.Recorded(p.jac)
    sol = solve(F, jac, p.w0, p.y, beta=p.beta, method="gauss-newton")
    before = jac.calls, F.calls
    assert sol.certificate.exists
    assert sol.certificate.rigorous
    assert jac.calls == before[0]
    assert F.calls <= before[1] + 3
    far = solve(p.F, jac, p.w0, p.y, beta=1e6 * p.beta, method="gauss-newton")
    before = jac.calls
    assert far.certificate.h > 0
    assert jac.calls == before + 1


@pytest.mark.parametrize("form", ["csr", "operator", "gram"])
def test_any_form_of_the_jacobian(form):
    p = testing.tanh_system(6, 15)
    wrap = problems.FORMS[{"csr": "csr_array", "operator": "operator", "gram": "gram_operator"}[form]]
    w = problems.near_solution(p, 1e-5)
    plain = certify(p.F, p.jac, w, p.y, beta=p.beta)
    c = certify(p.F, lambda w: wrap(p.jac(w)), w, p.y, beta=p.beta)
    assert c.rigorous
    assert c.radius == pytest.approx(plain.radius, rel=1e-6)


@pytest.mark.parametrize("method", ["gauss-newton", "gd", "sgd"])
@pytest.mark.parametrize("known", [True, False])
def test_xtol(method, known):
    p = testing.tanh_system(6, 15)
    beta = p.beta if known else None
    sol = solve(p.F, p.jac, p.w0, p.y, beta=beta, method=method, tol=0.0, xtol=1e-4, rng=0)
    assert sol.status == Status.DISTANCE, sol.message
    assert sol.success
    x = solve(p.F, p.jac, sol.x, p.y, tol=0.0, method="gauss-newton").x
    assert np.linalg.norm(x - sol.x) <= 1e-4 * max(1.0, np.linalg.norm(sol.x))
    assert np.linalg.norm(sol.fun) > 1e-14
    assert sol.certificate.exists
    assert sol.certificate.radius <= 1.01e-4 * max(1.0, np.linalg.norm(sol.x))


def test_xtol_does_not_believe_a_small_residual():
    """w^2 + 1e-8 has no solution, yet ||r||/s is small (theory 4.1)."""
    for beta in (2.0, None):
        sol = solve(lambda w: w**2 + 1e-8, lambda w: np.diag(2 * w), [1e-3], xtol=1e-2, tol=0.0, beta=beta)
        assert sol.status != Status.DISTANCE
        assert not sol.success


def test_too_many_equations_for_a_bound_on_the_inverse():
    n = 8200
    D = diags_array(np.linspace(1.0, 3.0, n)).tocsr()
    c = certify(lambda w: D @ w, lambda w: D, np.ones(n), np.zeros(n), beta=0.0)
    assert not c.exists
    assert c.absent
    assert c.rigorous
    assert [c.mu, c.lipschitz] == pytest.approx([1.0, 3.0], rel=0.05)
    c = certify(lambda w: D @ w, lambda w: D, np.zeros(n), np.zeros(n), beta=0.0)
    assert not any([c.exists, c.absent, c.rigorous])
    assert "too many equations" in str(c)
    sol = solve(lambda w: D @ w, lambda w: D, np.ones(n), np.zeros(n), xtol=1e-3, beta=0.0)
    assert sol.status == Status.RESIDUAL


def test_xtol_refused():
    with pytest.raises(ValueError, match="xtol"):
        solve(lambda w: w, lambda w: np.eye(1), [1.0], xtol=-1.0)


def test_the_whole_certificate_costs_little():
    """Counted, not timed: one Jacobian, and no more F than a few."""
    p = testing.tanh_system(6, 15)
    calls = []
    certify(lambda w: calls.append("F") or p.F(w), lambda w: calls.append("J") or p.jac(w), p.w0, p.y)
    assert calls.count("J") == 1
    assert calls.count("F") <= 5
