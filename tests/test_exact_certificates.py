"""Certificates against exact answers, at the edge of the model of rounding; and what they say if jac is wrong."""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator

from benchmarks.checks import exact_certificates as hunt
from benchmarks.checks.exact_systems import C, Factored, Rounding, Sphere, integers
from plsolve import certify, solve, testing
from plsolve._proofs import enclosure
from plsolve.theory import certificates as theory


def test_the_hunt_finds_nothing():
    count, bad = hunt.hunt(range(300), seed=11)
    assert not bad, bad[:5]
    assert all(numbers["trials"] for numbers in count.values())
    total = {name: sum(numbers[name] for numbers in count.values()) for name in ("exists", "absent", "rigorous")}
    assert min(total["exists"], total["absent"]) > 80
    assert total["rigorous"] > 240


def test_what_rests_on_something_wrong():
    count, bad = hunt.hunt_assumed(range(150), seed=12)
    assert not bad, bad[:5]
    assert all(numbers["trials"] for numbers in count.values())
    wrong = count[hunt.WRONG]
    assert wrong["doubted"] > 0.3 * wrong["trials"]
    assert wrong["within"] > 0.9 * wrong["rigorous"] > 10


@pytest.mark.parametrize("what", ["model", "growth", "radius"])
def test_the_hunt_would_find_something(what, monkeypatch):
    if what == "model":
        monkeypatch.setattr(enclosure, "MODEL", 0.25 * enclosure.MODEL)
    elif what == "growth":  # the errors of J
        inverse = enclosure.inverse
        monkeypatch.setattr(enclosure, "inverse", lambda T, K: (i := inverse(T, K)) and i._replace(growth=1.0))
        monkeypatch.setattr(hunt, "KINDS", {"weak": (1.0, hunt.weak)})
    else:
        monkeypatch.setattr(theory, "newton_radius", lambda h, e: e if h <= 0.5 else math.inf)
    _, bad = hunt.hunt(range(150), seed=13)
    assert len(bad) > 2


def test_exact_decisions():
    one, zero = integers([[1]]), integers([0])
    line = Factored(
        n=1, m=1, y=np.zeros(1), A=one, M=one, roots=[[1 << 60, 3 << 60]], lead=integers([1 << C]), gap=zero
    )
    np.testing.assert_array_equal(line.F(np.array([5.0])), [8.0])
    np.testing.assert_array_equal(line.jac(np.array([5.0])), [[6.0]])
    assert line.beta_rows == pytest.approx(2.0)
    for w, distance in ((1.5, 0.5), (2.75, 0.25), (-4.0, 5.0)):
        assert line.solution_within(np.array([w]), distance)
        assert not line.solution_within(np.array([w]), math.nextafter(distance, 0.0))
    circle = Sphere(n=2, m=3, y=np.zeros(2), L=integers([[0, 0, 1]]), b=integers([3 << 60]), size=25 << 60)  # radius 4
    for w, distance in (([2.0, 0.0, 3.0], 2.0), ([0.0, 7.0, 7.0], 5.0), ([0.0, 0.0, 0.0], 5.0)):
        assert circle.solution_within(np.array(w), distance)
        assert not circle.solution_within(np.array(w), math.nextafter(distance, 0.0))


@pytest.mark.parametrize("sign", [-1.0, -0.5, 0.5, 1.0])
def test_rounding_uses_the_model_up_and_never_more(sign):
    rng = np.random.default_rng(0)
    for _ in range(200):
        value = int(rng.integers(-(2**62), 2**62)) << 40
        terms = abs(value) + (int(rng.integers(2**62)) << int(rng.integers(60)))
        error = (Fraction(Rounding.rounded(value, terms, 90, sign)) * (1 << 90) - value) / Fraction(terms, 1 << 50)
        assert abs(error) <= 1
        assert abs(error - Fraction(sign)) <= Fraction(1, 4)


def test_values_out_of_range_are_infinite():
    one = integers([[1]])
    system = Factored(
        n=1, m=1, y=np.zeros(1), A=one, M=one, roots=[[0, 0]], lead=integers([-1 << C]), gap=integers([0])
    )
    for rounding in (Rounding(), Rounding(np.ones(1), np.ones((1, 1)))):
        system.rounding = rounding
        assert system.F(np.array([1e200])) == -math.inf
        assert system.jac(np.array([1e200])) == pytest.approx(-2e200)


# A wrong jac ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-100, 1.0, 1e100])
def test_half_of_sigma_may_be_wrong_where_f_is_linear(scale):
    """A J that is too steep by q in its weakest direction makes the distance 1/(1 - q) times as long."""
    A, w = scale * np.diag([1.0, 1e-3]), np.array([0.0, 1.0])  # the only solution is 0
    assert certify(lambda w: A @ w, lambda w: A, w, beta=0.0).jac_margin == pytest.approx(0.5e-3 * scale, rel=1e-6)
    for share in (0.5, 0.99, 1.01):
        error = 0.5e-3 * scale * share / (1.0 - 0.5 * share)
        steep = A + np.diag([0.0, error])
        with pytest.warns(RuntimeWarning, match="jac"):
            c = certify(lambda w: A @ w, lambda w, J=steep: J, w, beta=0.0)
        assert error == pytest.approx(share * c.jac_margin, rel=1e-6)
        assert (2.0 * c.radius >= 1.0) is (share < 1.0)


@pytest.mark.parametrize("distance", [1e-6, 1e-2, 0.1])
@pytest.mark.parametrize("rows", [False, True])
def test_a_jac_wrong_within_its_margin(distance, rows):
    p = testing.quadratic(5, 12)
    w = p.solution + distance * np.random.default_rng(1).standard_normal(12) / math.sqrt(12)
    beta = p.beta_rows if rows else p.beta
    right = certify(p.F, p.jac, w, p.y, beta=beta)
    assert right.exists
    E = np.random.default_rng(2).standard_normal((5, 12))
    E *= 0.5 * right.jac_margin / np.linalg.norm(E, 2)
    with pytest.warns(RuntimeWarning, match="jac"):
        wrong = certify(p.F, lambda w: p.jac(w) + E, w, p.y, beta=beta)
    assert wrong.exists
    assert np.linalg.norm(E, 2) <= wrong.jac_margin
    x = solve(p.F, p.jac, w, p.y, tol=1e-14).x
    assert np.linalg.norm(x - w) <= 2.0 * wrong.radius


def test_no_solution_with_a_jac_that_is_wrong_altogether():
    c = certify(lambda w: [w @ w + 1.0], lambda w: 2.0 * w[None], [0.3, 0.4], beta=2.0)
    assert c.absent
    assert c.jac_margin == pytest.approx(1.0 + 1.5 * c.radius, rel=1e-9)


def test_margins_within_bounds():
    """Beyond the bounds beta says nothing: no margin where twice the ball leaves them."""
    p = testing.quadratic(5, 12)
    w = p.solution + 1e-3
    c = certify(p.F, p.jac, w, p.y, beta=p.beta)
    for width, margin in ((3.0, c.jac_margin), (1.5, 0.0)):
        box = (w - width * c.radius, w + width * c.radius)
        inside = certify(p.F, p.jac, w, p.y, beta=p.beta, bounds=box)
        assert inside.rigorous
        assert inside.jac_margin == margin


def test_the_sentence_says_what_it_rests_on():
    c = certify(lambda w: [w @ w], lambda w: 2 * w[None], [0.6, 0.81], [1.0], beta=2.0)
    text = str(c)
    assert "beta taken as given" in text
    twice, error = (float(text.split(words)[1].split(")")[0].split()[0]) for words in ("; within ", "wrong by up to "))
    assert 2.0 * c.radius <= twice <= 2.2 * c.radius
    assert error <= c.jac_margin <= 1.1 * error
    none = certify(lambda w: [w @ w + 1.0], lambda w: 2.0 * w[None], [0.3, 0.4], beta=2.0)
    half, error = (float(str(none).split(words)[1].split(")")[0].split()[0]) for words in ("none within ", "up to "))
    assert half <= 0.5 * none.radius
    assert error <= none.jac_margin
    assert "jac" not in str(certify(lambda w: [w @ w], lambda w: 2 * w[None], [0.6, 0.8], [1.0]))  # no proof at all


class Operator(LinearOperator):
    """A matrix with a kernel and products with its transpose that may be those of other matrices."""

    def __init__(self, J, kernel=None, adjoint=None):
        super().__init__(np.dtype(float), J.shape)
        self.J, self.adjoint_of = J, J if adjoint is None else adjoint
        if kernel is not None:
            self.gram = lambda: kernel

    def _matvec(self, v):
        return self.J @ v

    def _rmatvec(self, z):
        return self.adjoint_of.T @ z


@pytest.mark.parametrize("what", ["gram", "rmatvec", "rmatvec, gram right"])
@pytest.mark.parametrize("error", [0.5, 1e-4, 1e-8, 0.0])
@pytest.mark.parametrize("scale", [1e-60, 1.0, 1e60])
def test_an_operator_that_contradicts_itself(what, error, scale):
    p = testing.quadratic(5, 12)
    w = p.solution + 1e-3

    def jac(w):
        J = scale * p.jac(w)
        other = J.copy()
        other[1, 2] += error * scale
        if what == "gram":
            return Operator(J, kernel=other @ other.T)
        return Operator(J, kernel=J @ J.T if "right" in what else None, adjoint=other)

    def made():
        return certify(lambda w: scale * p.F(w), jac, w, scale * p.y, beta=scale * p.beta)

    if error == 0.0:
        assert made().rigorous
        return
    with pytest.warns(RuntimeWarning, match=r"`jac` is wrong: the operator's products"):
        c = made()
    assert c.exists
    assert not c.rigorous
    assert "gram()" in str(c)


# Right, but as inaccurate as the model allows -------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["gauss-newton", "gd"])
@pytest.mark.parametrize("form", ["array", "gram"])
def test_runs_at_the_edge_of_the_model_are_not_doubted(method, form):
    """Linear, ill conditioned, from w = 0: F is small there, and only the rounding of J is not."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        system, w = hunt.weak(rng)
        system.rounding = hunt.at_the_edge(rng, system, w)
        jac = system.jac if form == "array" else lambda w, s=system: hunt.Gram(s.jac(w))
        sol = solve(system.F, jac, w, system.target, beta=system.beta_rows, method=method, max_iter=30)
        assert sol.certificate.reason in ("", "nothing is proved")  # and a warning is an error


@pytest.mark.parametrize("method", ["gauss-newton", "gd"])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("at", [0, 100, 10_000])
def test_near_a_double_root_the_rounding_grows_with_the_distance(method, sign, at):
    """J is nearly zero at the last point, but not at those before, where the rounding of F depends on it."""
    one, root = integers([[1]]), at << 60
    for apart in (1, 1 << 20):  # 2^-60 and 2^-40
        roots, lead = [[root, root + apart]], integers([300 << C])
        system = Factored(n=1, m=1, y=np.zeros(1), A=one, M=one, roots=roots, lead=lead, gap=integers([0]))
        system.rounding = Rounding(np.array([sign]), np.array([[-sign]]))
        for offset in (1e-9, 1e-6, 1e-3):
            sol = solve(system.F, system.jac, [at + offset], beta=system.beta_rows, method=method, max_iter=20, tol=0)
            assert sol.certificate.reason in ("", "nothing is proved")
            certify(system.F, system.jac, [at + offset], beta=system.beta_rows)
