"""certify, sol.certificate, xtol: what is said of solutions near a point is true, and how far it is to be trusted."""

import math
import pickle
import warnings

import naive
import numpy as np
import pytest
from scipy.sparse import csr_array, diags_array

import plsolve
from benchmarks.checks import certificates as hunt
from plsolve import Certificate, Status, certify, solve, testing


def near(p, distance=1e-3, seed=0):
    """A point at about that distance from a solution of p."""
    x = solve(p.F, p.jac, p.w0, p.y, tol=0.0, method="gauss-newton").x
    v = np.random.default_rng(seed).standard_normal(p.m)
    return x + distance * v / np.linalg.norm(v)


KNOWN = [
    testing.prescribed_spectrum(10, 30, 1e4, 0.3),
    testing.prescribed_spectrum(10, 10, 1e2, 0.3),
    testing.quadratic(5, 12),
    testing.tanh_system(8, 20),
    testing.planar_arm(),
    testing.first_layer_tanh(np.random.default_rng(0).standard_normal((6, 4)), np.linspace(-0.1, 0.1, 6), 50),
    testing.broyden_tridiagonal(40),
]


@pytest.mark.parametrize("p", KNOWN, ids=lambda p: p.name)
@pytest.mark.parametrize("distance", [0.0, 1e-10, 1e-5])
def test_known_systems_certify_near_their_solutions(p, distance):
    w = near(p, distance)
    for beta in (p.beta, p.beta_rows, 1.01 * p.beta):
        c = certify(p.F, p.jac, w, p.y, beta=beta)
        assert c.exists, c
        assert c.rigorous, c
        assert not c.absent
        J = p.jac(w).toarray() if hasattr(p.jac(w), "toarray") else p.jac(w)
        s = np.linalg.svd(J, compute_uv=False)
        np.testing.assert_allclose([c.mu, c.lipschitz], [s[-1] ** 2, s[0]], rtol=1e-6)
        e = np.linalg.norm(np.linalg.lstsq(J, p.F(w) - p.y)[0])
        assert e * (1 - 1e-9) - 1e-15 <= c.radius <= 2 * e + 1e-6 * s[0] ** -1 + 1e-9
        if c.theorem == "3.1":
            assert c.h == pytest.approx(c.beta * e / s[-1], rel=1e-3, abs=1e-7)
        assert c.margin == pytest.approx(0.5 / c.h)


def test_the_hunt_finds_nothing():
    count, bad = hunt.hunt(300, seed=5)
    assert not bad, bad[:5]
    for kind in ("exact: exists", "exact: absent", "rows: exists", "a tenth: contradicted"):
        assert count[kind] > 50, count


def test_the_hunt_would_find_something():
    """Radii of a third of what is proved, and proofs for an omega without the triangle inequality, are found out."""
    caught = 0
    for i in range(60):
        s = hunt.random_system(np.random.default_rng(i))
        if s.solution is None:
            continue
        w = s.solution + 1e-6
        c = certify(s.F, s.jac, w, s.y, beta=s.beta)
        if c.exists:
            shrunk = Certificate(**{**vars(c), "radius": 0.3 * c.radius})
            x = hunt.extended_newton(s, w)
            caught += float(np.linalg.norm(x - w)) > shrunk.radius
    assert caught > 10


def test_equations_that_bend_alike_are_not_certified_together():
    """sqrt(SUM beta_i^2 (K^-1)_ii) in place of omega would give most of these a solution; they have none."""
    for seed in range(200):
        rng = np.random.default_rng(seed)
        s = hunt.none_alike(rng, int(rng.integers(1, 9)), 9)
        for beta in (s.beta, s.beta_rows):
            assert not certify(s.F, s.jac, s.center, s.y, beta=beta).exists


def test_converged_runs_certify_at_their_last_point():
    count, share = hunt.runs(300, seed=6)
    assert count["converged"] > 200
    assert share >= hunt.LIMIT
    assert not any(name.startswith("FALSE") for name in count)


@pytest.mark.parametrize("gap", [1e-14, 1e-8, 1.0])
def test_no_certificate_where_there_is_no_solution(gap):
    p = testing.no_solution(3, 6, gap=gap)
    sol = solve(p.F, p.jac, p.w0, p.y, beta=p.beta)
    for w in (p.w0, sol.x, sol.x + 1e-5):
        c = certify(p.F, p.jac, w, p.y, beta=p.beta)
        assert not c.exists
        assert c.absent is (c.radius > 0)
    if gap == 1.0:
        assert sol.status == Status.STATIONARY
        assert "No solution within" in sol.message
        assert sol.certificate.absent
        assert sol.certificate.rigorous
        assert sol.certificate.radius == pytest.approx(1.0, rel=1e-3)  # (q.w)^2 = 1 is met at that distance from 0


def test_absence_is_said_only_when_proved():
    p = testing.no_solution(3, 6, gap=1.0)
    sol = solve(p.F, p.jac, p.w0, p.y)
    assert "No solution within" not in sol.message
    c = sol.certificate
    assert not any([c.exists, c.absent, c.rigorous])
    assert c.radius == 0.0
    assert "within" not in solve(p.F, p.jac, p.w0, p.y, beta=p.beta, certify=False).message


def test_repeated_equations_are_refused():
    p = testing.repeated_equations(4, 9)
    c = certify(p.F, p.jac, near(p), p.y, beta=p.beta)
    assert not c.exists
    assert c.mu == 0.0


def test_more_equations_than_unknowns():
    A = np.random.default_rng(0).standard_normal((7, 3))
    c = certify(lambda w: A @ w, lambda w: A, np.ones(3), A @ np.ones(3) + 1.0, beta=0.0)
    assert not c.exists
    assert c.absent
    assert c.mu == 0.0
    rows = 1 / np.linalg.norm(A, axis=1).min()
    assert c.radius == pytest.approx(max(math.sqrt(7) / np.linalg.norm(A, 2), rows))
    sol = solve(lambda w: A @ w, lambda w: A, np.ones(3), A @ np.ones(3) + np.arange(7), beta=0.0)
    assert sol.certificate.absent
    assert sol.kernel.mu == 0.0
    assert sol.kernel.eigenvalues.shape == (3,)


def test_linear_systems():
    A = np.random.default_rng(0).standard_normal((3, 7))
    c = certify(lambda w: A @ w, lambda w: A, np.zeros(7), np.ones(3), beta=0.0)
    assert c.exists
    assert c.rigorous
    assert c.h == 0.0
    assert c.margin == math.inf
    assert c.radius == pytest.approx(np.linalg.norm(np.linalg.lstsq(A, np.ones(3))[0]))
    assert c.gd_radius >= c.radius


@pytest.mark.parametrize("mode", [None, "2-point", "3-point", "cs"])
def test_differences_are_never_rigorous(mode):
    p = testing.tanh_system(4, 9)
    F = (lambda w: np.tanh(w @ A.T) + w @ A.T - 0.3) if mode == "cs" else p.F
    A = np.random.default_rng(0).standard_normal((4, 9)) / 3
    c = certify(F, mode, near(p) if mode != "cs" else np.zeros(9), None, beta=p.beta)
    assert c.exists or mode == "cs"
    assert not c.rigorous
    if c.exists:
        assert "finite difference" in str(c)


def test_estimated_beta_is_never_rigorous():
    p = testing.tanh_system(4, 9)
    c = certify(p.F, p.jac, near(p), p.y)
    assert c.exists
    assert c.estimated
    assert not c.rigorous
    assert "beta estimated" in str(c)
    assert 0 < c.beta <= 10 * p.beta * (1 + 1e-6)


def test_relu_is_never_rigorous():
    rng = np.random.default_rng(0)
    X, W, a = rng.standard_normal((5, 3)), rng.standard_normal(60), rng.choice([-1.0, 1.0], 20)

    def F(w):
        return np.maximum(X @ w.reshape(3, 20), 0) @ a / np.sqrt(20)

    def jac(w):
        S = (X @ w.reshape(3, 20) > 0) * a / np.sqrt(20)
        return (X[:, :, None] * S[:, None, :]).reshape(5, 60)

    sol = solve(F, jac, W, np.linspace(-1, 1, 5))
    assert not sol.certificate.rigorous
    assert not certify(F, jac, W, np.linspace(-1, 1, 5)).rigorous
    with pytest.warns(RuntimeWarning, match="contradicted"):
        assert not certify(F, jac, W, np.linspace(-1, 1, 5), beta=1e-3).rigorous


@pytest.mark.parametrize("how", ["certify", "solve gauss-newton", "solve gd"])
def test_a_beta_that_is_too_small_is_found_out_with_one_warning(how):
    p = testing.quadratic(5, 12, curvature=0.3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if how == "certify":
            c = certify(p.F, p.jac, near(p, 0.1), p.y, beta=p.beta / 30)
        else:
            sol = solve(p.F, p.jac, p.w0, p.y, beta=p.beta / 30, method=how.split()[1], tol=1e-6)
            c = sol.certificate
            assert sol.certificate is c
    assert not c.rigorous
    assert "contradicts" in c.reason
    assert [w.category for w in caught] == [RuntimeWarning]
    assert "beta" in str(caught[0].message)


@pytest.mark.parametrize("method", ["gauss-newton", "gd"])
def test_a_step_that_contradicts_beta_is_remembered(method):
    """Bent far away only: at the end, and between the last points, nothing would tell."""

    def F(w):
        return np.array([w[0] + 0.3 * np.log1p(np.exp(10 * (w[0] - 3.0))) + 0.1 * w[1]])

    def jac(w):
        return np.array([[1.0 + 3.0 / (1.0 + np.exp(-10 * (w[0] - 3.0))), 0.1]])

    sol = solve(F, jac, [3.2, 0.0], [0.5], beta=1e-3, method=method)
    assert sol.success
    with pytest.warns(RuntimeWarning, match="contradicted"):
        c = sol.certificate
    assert not c.rigorous


NARROW = {
    "F": lambda p, kind: (lambda w: p.F(w).astype(kind), p.jac),
    "F as a list": lambda p, kind: (lambda w: list(p.F(w).astype(kind)), p.jac),
    "jac": lambda p, kind: (p.F, lambda w: p.jac(w).astype(kind)),
    "sparse": lambda p, kind: (p.F, lambda w: csr_array(p.jac(w).astype(np.float32))),
    "pair": lambda p, kind: (lambda w: (p.F(w), p.jac(w).astype(kind)), True),
}


@pytest.mark.parametrize("kind", [np.float32, np.float16])
@pytest.mark.parametrize("what", NARROW)
@pytest.mark.filterwarnings("ignore:.*contradicted")
def test_less_than_double_precision_is_never_rigorous(kind, what):
    p = testing.tanh_system(4, 9)
    w = near(p, 1e-3)
    F, jac = NARROW[what](p, kind)
    c = certify(F, jac, w, p.y, beta=p.beta)
    assert not c.rigorous
    assert "double precision" in c.reason or "contradicts" in c.reason
    assert not solve(F, jac, w, p.y, beta=p.beta, max_iter=20).certificate.rigorous


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("error", [1e-1, 1e-3, 1e-5])
@pytest.mark.parametrize("entry", [(0, 0), (2, 5)])
def test_a_wrong_jacobian_is_found_out(error, scale, entry):
    """One entry of J wrong: F reveals it, and no certificate is rigorous, that of a run neither."""
    p = testing.tanh_system(4, 9)

    def F(w):
        return scale * p.F(w)

    def jac(w):
        J = p.jac(w)
        J[entry] += error
        return scale * J

    for w in (near(p, 1e-3), near(p, 1e-8), p.w0):
        with pytest.warns(RuntimeWarning, match="jac"):
            assert not certify(F, jac, w, scale * p.y, beta=scale * p.beta).rigorous
    sol = solve(F, jac, near(p, 1e-3), scale * p.y, beta=scale * p.beta, max_iter=20)
    with pytest.warns(RuntimeWarning, match="jac"):
        assert not sol.certificate.rigorous


def test_cancellation_in_the_jacobian_is_no_contradiction():
    """The rows of jac that vanish at a solution are wrong by more than 8u of themselves."""
    for seed in range(100):
        s = hunt.random_system(np.random.default_rng(seed))
        certify(s.F, s.jac, s.center, s.y, beta=s.beta)  # a warning would be an error


def test_a_jacobian_that_is_written_to_again_and_again():
    p, J = testing.quadratic(5, 12, curvature=0.3), np.zeros((5, 12))

    def jac(w):
        J[:] = p.jac(w)
        return J

    w = near(p, 1e-3)
    assert certify(p.F, jac, w, p.y, beta=p.beta) == certify(p.F, p.jac, w, p.y, beta=p.beta)
    with pytest.warns(RuntimeWarning, match="contradicted"):
        certify(p.F, jac, w, p.y, beta=p.beta / 3)


@pytest.mark.parametrize("size", [1e4, 1e8])
def test_curvature_that_rounding_hides_is_not_taken_for_zero(size):
    """Between the points of the run F looks linear, since y is so large; and there is no solution."""
    sol = solve(lambda w: w**2 + 1e-9 + size, lambda w: np.diag(2 * w), [2e-5], np.array([size]), tol=0.0, max_iter=20)
    assert sol.certificate.h > 0.05


def test_bounds():
    p = testing.tanh_system(4, 9)
    w = near(p, 1e-4)
    inside = certify(p.F, p.jac, w, p.y, beta=p.beta, bounds=(w - 1, w + 1))
    assert inside.rigorous
    outside = certify(p.F, p.jac, w, p.y, beta=p.beta, bounds=(w - 1e-6, w + 1))
    assert outside.exists
    assert not outside.rigorous
    assert "bounds" in str(outside)


def test_scale_of_the_equations_does_not_matter_with_a_beta_for_each():
    p = testing.quadratic(5, 12)
    w = near(p, 1e-3)
    scale = 10.0 ** np.array([-9, 7, 0, 3, -4])
    plain = certify(p.F, p.jac, w, p.y, beta=p.beta_rows)
    scaled = certify(
        lambda w: scale * p.F(w), lambda w: scale[:, None] * p.jac(w), w, scale * p.y, beta=scale * p.beta_rows
    )
    assert plain.rigorous
    assert scaled.rigorous
    assert scaled.theorem == "3.2"
    assert scaled.radius == pytest.approx(plain.radius, rel=1e-3)


def test_ill_conditioned_kernels_fall_back_on_reflections():
    """kappa(J) = 1e8: K has no digits left of its smallest eigenvalue, J has."""
    p = testing.smooth_kernel(20, 60, kappa_jac=1e8)
    c = certify(p.F, p.jac, p.solution, p.y, beta=p.beta_rows)
    assert c.mu == pytest.approx(np.linalg.svd(p.jac(p.solution), compute_uv=False)[-1] ** 2, rel=1e-4)


@pytest.mark.parametrize("beta", [-1.0, np.nan, np.inf, [1.0, 2.0, 3.0], "big", [[1.0]]])
def test_bad_beta_is_refused(beta):
    p = testing.tanh_system(4, 9)
    for call in (
        lambda: certify(p.F, p.jac, p.w0, p.y, beta=beta),
        lambda: solve(p.F, p.jac, p.w0, p.y, beta=beta),
    ):
        with pytest.raises((ValueError, TypeError), match="beta"):
            call()


def test_it_reads_as_a_sentence():
    c = certify(lambda w: [w @ w], lambda w: 2 * w[None], [0.6, 0.81], [1.0], beta=2.0)
    text = str(c)
    assert text.startswith("A solution of F(w)=y lies within 0.008")
    assert "Newton-Kantorovich" in text
    assert "h = 0.0079" in text
    assert "margin 63" in text
    assert "inf" not in str(certify(lambda w: [w @ w], lambda w: 2 * w[None], [0.1, 0.1], [1.0]))


@pytest.mark.parametrize("radius", [0.1, 0.12345, 0.99999, 9.9999e-9, 1.0 / 3.0, 3.149e-9, 1e300, 1e-300])
def test_the_sentence_never_says_more_than_is_proved(radius):
    proved = certify(lambda w: [w @ w], lambda w: 2 * w[None], [0.6, 0.81], [1.0], beta=2.0)
    fields = {**vars(proved), "radius": radius}
    said = [str(Certificate(**{**fields, "exists": exists, "absent": not exists})) for exists in (True, False)]
    exists, absent = (float(text.split("within ")[1].split()[0]) for text in said)
    assert absent <= radius <= exists
    assert exists <= 1.1 * radius
    assert absent >= radius / 1.1


# In the Result -------------------------------------------------------------------------------------------------------


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
    assert sol.certificate is None
    assert "ZeroDivisionError" in sol.message
    assert "too late" in sol.message


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


@pytest.mark.parametrize("p", KNOWN, ids=lambda p: p.name)
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
    import problems

    p = testing.tanh_system(6, 15)
    wrap = problems.FORMS[{"csr": "csr_array", "operator": "operator", "gram": "gram_operator"}[form]]
    w = near(p, 1e-5)
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


def test_exported():
    assert {"certify", "tangent_kernel", "Certificate"} <= set(plsolve.__all__)
