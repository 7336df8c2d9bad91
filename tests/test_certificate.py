"""certify, sol.certificate, xtol: what is said of solutions near a point is true, and how far it is to be trusted."""

import math
import warnings

import numpy as np
import problems
import pytest
from scipy.sparse import csr_array

import plsolve
from benchmarks.checks import certificates as hunt
from plsolve import Certificate, Status, certify, solve, testing


@pytest.mark.parametrize("p", problems.CERTIFIABLE, ids=lambda p: p.name)
@pytest.mark.parametrize("distance", [0.0, 1e-10, 1e-5])
def test_known_systems_certify_near_their_solutions(p, distance):
    w = problems.near_solution(p, distance)
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
    c = certify(p.F, p.jac, problems.near_solution(p), p.y, beta=p.beta)
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
    c = certify(F, mode, problems.near_solution(p) if mode != "cs" else np.zeros(9), None, beta=p.beta)
    assert c.exists or mode == "cs"
    assert not c.rigorous
    if c.exists:
        assert "finite difference" in str(c)


def test_estimated_beta_is_never_rigorous():
    p = testing.tanh_system(4, 9)
    c = certify(p.F, p.jac, problems.near_solution(p), p.y)
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
            c = certify(p.F, p.jac, problems.near_solution(p, 0.1), p.y, beta=p.beta / 30)
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
    w = problems.near_solution(p, 1e-3)
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

    for w in (problems.near_solution(p, 1e-3), problems.near_solution(p, 1e-8), p.w0):
        with pytest.warns(RuntimeWarning, match="jac"):
            assert not certify(F, jac, w, scale * p.y, beta=scale * p.beta).rigorous
    sol = solve(F, jac, problems.near_solution(p, 1e-3), scale * p.y, beta=scale * p.beta, max_iter=20)
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

    w = problems.near_solution(p, 1e-3)
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
    w = problems.near_solution(p, 1e-4)
    inside = certify(p.F, p.jac, w, p.y, beta=p.beta, bounds=(w - 1, w + 1))
    assert inside.rigorous
    outside = certify(p.F, p.jac, w, p.y, beta=p.beta, bounds=(w - 1e-6, w + 1))
    assert outside.exists
    assert not outside.rigorous
    assert "bounds" in str(outside)


def test_scale_of_the_equations_does_not_matter_with_a_beta_for_each():
    p = testing.quadratic(5, 12)
    w = problems.near_solution(p, 1e-3)
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


def test_exported():
    assert {"certify", "tangent_kernel", "Certificate"} <= set(plsolve.__all__)
