"""Numbers at the edge of their range: no exception, warning or sentence of numpy's or scipy's from inside.

Everything here runs with warnings as errors, and with numpy set to raise at overflow and underflow.
"""

import numpy as np
import pytest
import scipy.sparse as sps
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from plsolve import Status, certify, curve_fit, least_squares, root, solve, solve_batch, tangent_kernel

METHODS = [
    ("gauss-newton", {}),
    ("gauss-newton", {"linear_solver": "qr"}),
    ("gauss-newton", {"linear_solver": "cg"}),
    ("gd", {}),
    ("gd", {"step_size": "polyak"}),
    ("gd", {"step_size": "cauchy"}),
    ("gd", {"momentum": "heavy-ball"}),
    ("gd", {"momentum": "nesterov"}),
    ("gd", {"momentum": "chebyshev"}),
    ("sgd", {}),
    ("sgd", {"step_size": "polyak"}),
    ("sgd", {"step_size": "theorem"}),
    ("sgd", {"momentum": "mass"}),
    ("sgd", {"rows": "max"}),
]
SIZES = [-300, -170, -160, -100, -20, 0, 0, 0, 20, 100, 150, 160, 300]
KINDS = {
    "array": np.asarray,
    "sparse": sps.csr_array,
    "operator": aslinearoperator,
    "2-point": None,
    "3-point": None,
}


@pytest.fixture(autouse=True)
def strict():
    with np.errstate(all="raise"):
        yield


class Scaled:
    """a sinh-like F of A w, with rows, columns, F itself and w of all sizes."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.rng, self.points = rng, []
        n, m = [(2, 4), (3, 3), (6, 3), (1, 1), (1, 5), (5, 1)][seed % 6]
        with np.errstate(all="ignore"):
            spread = 10.0 ** rng.uniform(-20, 20, m) if rng.random() < 0.4 else np.ones(m)
            self.A = rng.standard_normal((n, m)) * spread * self.size()
            self.b, self.shape = self.size() * 10.0 ** (rng.uniform(-20, 20, n) * (rng.random() < 0.4)), rng.integers(4)
            self.w0 = rng.standard_normal(m) * self.size() * (rng.random() < 0.7)
            y = self.value(rng.standard_normal(m) / spread)
        self.y = y if rng.random() < 0.5 and np.isfinite(y).all() else np.zeros(n)

    def size(self):
        return 10.0 ** self.rng.choice(SIZES)

    def value(self, w):
        with np.errstate(all="ignore"):
            z = self.A @ w
            return self.b * [z, z + 0.3 * np.sin(z), z**3, np.exp(z)][self.shape]

    def slope(self, w):
        with np.errstate(all="ignore"):
            z = self.A @ w
            d = self.b * [np.ones(z.size), 1 + 0.3 * np.cos(z), 3 * z**2, np.exp(z)][self.shape]
            return d[:, None] * self.A

    def F(self, w):
        self.points.append(w)
        return self.value(w)

    def r(self, w):
        with np.errstate(all="ignore"):
            return self.F(w) - self.y

    def jac(self, kind):
        return kind if KINDS[kind] is None else lambda w: KINDS[kind](self.slope(w))


REFUSED = [
    "must be finite",
    "not finite in the initial point",
    "There is no certificate",
    "There is no Jacobian",
    "is contradicted",
    "needs the entries of J",
]
INTERNAL = ["Ended", "FloatingPointError", "ZeroDivisionError", "OverflowError", "LinAlgError", "infs or NaNs"]


def asked(f):
    """What f gives; None where it refuses what it was given, by name."""
    try:
        return f()
    except (ValueError, RuntimeWarning) as error:
        if any(words in str(error) for words in REFUSED):
            return None
        raise


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("method", "options"), METHODS)
def test_solve(method, options, kind):
    for seed in range(24):
        p = Scaled(seed)
        settings = {"x_scale": 10.0 ** p.rng.uniform(-150, 150, p.w0.size)} if p.rng.random() < 0.3 else {}
        if p.rng.random() < 0.3:
            settings["beta"] = p.size()
        if p.rng.random() < 0.2:
            settings["xtol"] = 1e-6
        run = {"method": method, "options": options, "max_iter": 30, "rng": 0, **settings}
        sol = asked(lambda p=p, run=run: solve(p.F, p.jac(kind), p.w0, p.y, **run))
        assert all(np.isfinite(w).all() for w in p.points)
        if sol is None:
            continue
        assert type(sol.status) is Status
        assert sol.success == (sol.status > 0)
        for name in ("certificate", "history", "jac", "grad", "optimality", "kernel"):
            asked(lambda sol=sol, name=name: sol[name])
        asked(lambda sol=sol: sol.kernel.kappa)
        assert not any(name in sol.message for name in INTERNAL), sol.message
        assert str(sol)


@pytest.mark.parametrize("seed", range(60))
def test_the_other_doors(seed):
    p = Scaled(seed)
    loss = ["linear", "huber", "cauchy", "soft_l1"][seed % 4]
    asked(lambda: str(least_squares(p.r, p.w0, "3-point" if seed % 2 else p.slope, loss=loss)))
    asked(lambda: str(root(p.r, p.w0, jac=p.slope if seed % 2 else None, method=["hybr", "lm"][seed % 2])))
    asked(lambda: str(certify(p.F, p.slope, p.w0, p.y, beta=None if seed % 3 else p.size())))
    asked(lambda: str(tangent_kernel(p.slope, p.w0)))
    asked(lambda: solve_batch(p.F, p.slope, p.w0, p.y, compiled=False))
    assert all(np.isfinite(w).all() for w in p.points)


def test_warnings_of_F_are_the_users():
    """F, jac and callback see numpy's settings as they are outside."""

    def overflows(w):
        return np.exp(w) * 1e300 * 1e300

    for call in (solve, least_squares, root):
        start = {"w0" if call is solve else "x0": np.ones(2)}
        with pytest.raises(FloatingPointError) as failure:
            call(overflows, jac=None if call is not least_squares else "2-point", **start)
        np.testing.assert_array_equal(failure.value.best, np.ones(2))
    sol = solve(lambda w: w - 1, lambda w: np.eye(2), np.zeros(2))
    seen = []
    solve(
        lambda w: w**2 - 1,
        lambda w: np.diag(2 * w),
        np.full(2, 3.0),
        callback=lambda w: seen.append(np.geterr()["under"]),
    )
    assert set(seen) == {"raise"}
    with np.errstate(under="warn"):
        solve(lambda w: seen.append(np.geterr()["under"]) or w, lambda w: np.eye(2), np.zeros(2))
    assert seen[-1] == "warn"
    assert np.geterr()["under"] == "raise"
    assert sol.success


# -- starts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1e-14, 1e-17, 1e-20, 1e-100, 1e-300, 0.0])
def test_tiny_starts_leave(size):
    x = np.arange(5.0)
    popt, pcov = curve_fit(lambda x, a, b: a * x + b, x, 2 * x + 1, p0=[size, -size])
    np.testing.assert_allclose(popt, [2, 1], rtol=1e-8)
    assert np.sqrt(pcov.diagonal()).max() < 1e-6

    def r(w):
        with np.errstate(under="ignore"):
            return [w[0] - 3, w[1] - 2, w[0] * w[1] - 6, w[0] + w[1] - 5]

    sol = least_squares(r, [size, size])
    np.testing.assert_allclose(sol.x, [3, 2], rtol=1e-8)
    assert root(lambda w: w - 3, size).x == pytest.approx(3, rel=1e-8)
    for n in (1, 2, 3):
        sol = solve(lambda w, n=n: np.array([w[0] - 3, 1e3 * (w[1] - 2), w[0] + w[1] - 5])[:n], None, [size, size])
        assert sol.success
        assert sol.nfev < 60


@pytest.mark.parametrize("highest", [4, 8, 14])
@pytest.mark.parametrize("call", ["solve", "least_squares", "root", "curve_fit"])
def test_high_powers_from_zero(call, highest):
    """Columns of J from 1 to 12^14: one-sided steps at 0 say nothing. A result, or a status that claims nothing."""
    h = np.linspace(1, 12, 8)
    powers = h[:, None] ** np.arange(4, highest + 1, 2)
    y, m = 0.1 * (h / 12) ** 3, powers.shape[1]

    def r(w):
        with np.errstate(all="ignore"):
            return np.sin(powers @ w) - y

    if call == "curve_fit":
        try:
            popt, _ = curve_fit(lambda h, *p: r(np.array(p)) + y, h, y, p0=np.zeros(m))
        except RuntimeError as error:
            popt = error.best if hasattr(error, "best") else np.zeros(m)
        assert np.linalg.norm(r(popt)) <= np.linalg.norm(y)
        return
    if call == "root":
        sol = root(lambda w: r(w)[:m], np.zeros(m))
    else:
        sol = solve(r, None, np.zeros(m)) if call == "solve" else least_squares(r, np.zeros(m))
    assert np.linalg.norm(sol.fun) <= np.linalg.norm(y)
    assert sol.nfev < 2000
    if call == "solve" and sol.status == Status.STATIONARY:
        assert np.linalg.norm(sol.grad) <= 1e-7 * np.linalg.norm(sol.jac) * np.linalg.norm(sol.fun)


# -- J ----------------------------------------------------------------------------------------------------------------

A = np.random.default_rng(0).standard_normal((4, 9)) / 3


def F(w):
    return np.tanh(A @ w) + A @ w


def jac(w):
    return (2 - np.tanh(A @ w) ** 2)[:, None] * A


@pytest.mark.parametrize("size", [1e150, 1e160, 1e300, -1e308])
@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("kind", ["array", "sparse"])
@pytest.mark.parametrize(("method", "options"), METHODS)
def test_one_huge_jacobian_solves_nothing(method, options, kind, at, size):
    calls = []

    def wrong(w):
        calls.append(w)
        return KINDS[kind](np.full((4, 9), size) if len(calls) == at else jac(w))

    with np.errstate(all="ignore"):
        sol = solve(F, wrong, np.full(9, 0.1), np.full(4, 3.0), method=method, options=options, rng=0, max_iter=40)
    if sol.success:
        assert np.linalg.norm(sol.fun) <= 1e-9
    else:
        assert sol.status in (Status.STALLED, Status.MAX_ITER)
        assert "overflow" in sol.message or method == "sgd" or sol.status == Status.MAX_ITER


def test_huge_jacobians_of_well_chosen_units_are_none():
    unit = np.array([1e160, 1e-160, 1.0, 1e158])
    B = np.random.default_rng(1).standard_normal((2, 4))
    sol = solve(lambda w: B @ (w / unit) - 1, lambda w: B / unit, np.zeros(4), x_scale=unit)
    assert sol.status in (Status.RESIDUAL, Status.STALLED)
    assert sol.success == (np.linalg.norm(sol.fun) < 1e-9)


class NotFinite(LinearOperator):
    """An operator whose products are NaN, infinite or huge."""

    def __init__(self, value):
        self.value = value
        super().__init__(float, (4, 9))

    def _matvec(self, v):
        return np.full(4, self.value)

    def _rmatvec(self, z):
        return np.full(9, self.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e200, 1e308])
@pytest.mark.parametrize(("method", "options"), METHODS)
def test_operators_that_are_not_finite(method, options, value):
    points = []

    def f(w):
        points.append(w)
        return F(w)

    sol = solve(
        f, lambda w: NotFinite(value), np.zeros(9), np.ones(4), method=method, options=options, rng=0, max_iter=5
    )
    assert not sol.success
    assert all(np.isfinite(w).all() for w in points)
    assert np.linalg.norm(sol.fun) <= 2.0
    assert str(sol.certificate)


# -- certificates -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("power", [-450, -400, -200, 0, 200, 400, 450])
@pytest.mark.parametrize("equations", [True, False])
def test_a_certificate_does_not_depend_on_the_unit_of_F(power, equations):
    """In powers of 2 nothing is rounded differently."""
    rng = np.random.default_rng(2)
    B, c = rng.standard_normal((3, 5)), 2.0**power
    beta = 0.3 * np.linalg.norm(B, axis=1) * np.linalg.norm(B, 2)
    beta = beta if equations else float(np.linalg.norm(beta))

    def at(c):
        return certify(
            lambda w: c * (B @ w + 0.3 * np.sin(B @ w)),
            lambda w: c * B * (1 + 0.3 * np.cos(B @ w))[:, None],
            np.full(5, 0.05),
            c * np.array([0.2, 0.1, -0.3]),
            beta=c * beta,
        )

    one, other = at(1.0), at(c)
    assert other.rigorous == one.rigorous is True
    assert (other.exists, other.absent, other.theorem) == (one.exists, one.absent, one.theorem)
    assert other.radius == pytest.approx(one.radius, rel=1e-6)
    assert other.h == pytest.approx(one.h, rel=1e-6)


@pytest.mark.parametrize("size", [1e160, 1e300, 1e-160, 1e-170, 1e-300])
@pytest.mark.parametrize("beta", [None, 2.0, 1e-300, 1e300])
@pytest.mark.parametrize("units", [True, False])
def test_certify_far_out(size, beta, units):
    """What is not known of such numbers is not claimed."""
    B = np.random.default_rng(3).standard_normal((2, 3))
    c = 1.0 if units else size

    def f(w):
        with np.errstate(all="ignore"):
            return c * (B @ (w / size) + 0.1 * np.tanh(B @ (w / size)))

    def df(w):
        with np.errstate(all="ignore"):
            return B * (1 + 0.1 / np.cosh(B @ (w / size))[:, None] ** 2) * (c / size)

    found = asked(lambda: certify(f, df, np.full(3, size), c * np.array([0.2, 0.1]), beta=beta))
    if found is not None:
        assert found.exists + found.absent <= 1
        assert found.radius >= 0.0
        if found.exists:  # what F is there: a solution lies within 2 sizes of w
            assert found.radius < 10.0 * max(size, 1e-280)


@pytest.mark.parametrize("tiny", [1e-160, 1e-170, 1e-300])
def test_a_row_whose_squares_vanish_is_not_zero(tiny):
    """w_1 = 1 solves the second equation, however small its unit; beta = 0 is right."""
    J = np.array([[1.0, 0.0, 0.0], [0.0, tiny, 0.0]])
    found = certify(lambda w: J @ w, lambda w: J, np.zeros(3), J @ np.ones(3), beta=[0.0, 0.0])
    assert not (found.absent and found.radius > np.sqrt(2.0))
