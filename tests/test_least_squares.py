"""least_squares: scipy's fields and numbers, bounds, losses, sparse and operator Jacobians, any shape."""

import warnings
from itertools import product

import numpy as np
import problems
import pytest
import scipy.optimize
import scipy.sparse as sps
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from plsolve import least_squares

FIELDS = {
    "x",
    "cost",
    "fun",
    "jac",
    "grad",
    "optimality",
    "active_mask",
    "nfev",
    "njev",
    "status",
    "message",
    "success",
}


ROSENBROCK = problems.rosenbrock().F
X = np.linspace(0, 4, 40)


def decay(p):
    x = X
    return p[0] * np.exp(-p[1] * x) + p[2] - (2.5 * np.exp(-1.3 * x) + 0.5 + 0.1 * np.sin(40 * x))


def slope(p):
    x = X
    e = np.exp(-p[1] * x)
    return np.column_stack([e, -p[0] * x * e, np.ones_like(x)])


def wide(x):
    return np.array([x @ x - 4.0, np.sin(x).sum() - 1.0])


TRIDIAGONAL = sps.diags_array([np.ones(39), np.ones(40), np.ones(39)], offsets=[-1, 0, 1])


def broyden(x):
    f = (3 - x) * x + 1
    f[1:] -= x[:-1]
    f[:-1] -= 2 * x[1:]
    return f


@pytest.mark.parametrize("method", ["trf", "dogbox", "lm", "gauss-newton"])
@pytest.mark.parametrize("jac", ["2-point", "3-point", "cs", slope])
def test_agrees_with_scipy(method, jac):
    res = least_squares(decay, [1.0, 1.0, 0.0], jac, method=method)
    exact = scipy.optimize.least_squares(decay, [1.0, 1.0, 0.0], slope, ftol=1e-15, xtol=1e-15, gtol=1e-15)
    assert set(res) >= FIELDS | {"nit", "history"}
    assert res.success
    assert res.status in (1, 2, 3, 4)
    assert res.x == pytest.approx(exact.x, rel=1e-8)
    assert res.cost == pytest.approx(exact.cost, rel=1e-12)
    assert res.jac == pytest.approx(slope(res.x), rel=1e-6, abs=1e-8)
    assert res.optimality < 1e-7
    assert res.kernel.n == 40


def test_sgd_does_not_stop_where_the_loss_rises():
    A = np.random.default_rng(0).standard_normal((5, 40)) / 6
    res = least_squares(
        lambda w: A @ w + 0.1 * np.sin(A @ w) - 1,
        np.zeros(40),
        lambda w: (1 + 0.1 * np.cos(A @ w))[:, None] * A,
        method="sgd",
    )
    assert res.cost < 1e-16


@pytest.mark.parametrize("jac", ["given", "2-point"])
@pytest.mark.parametrize("loss", ["huber", "cauchy"])
def test_sgd_goes_down_the_robust_loss(loss, jac):
    """Its batches carry the loss as the whole residual does: outliers do not pull it away."""
    rng = np.random.default_rng(0)
    A, x = rng.standard_normal((40, 5)), rng.standard_normal(5)
    y = A @ x
    y[:4] += 30.0

    def fit(method):
        derivative = (lambda w: A) if jac == "given" else jac
        return least_squares(lambda w: A @ w - y, np.zeros(5), derivative, loss=loss, method=method, max_nfev=6000)

    assert fit("sgd").cost < 1.001 * fit("trf").cost


@pytest.mark.parametrize("method", ["trf", "dogbox", "lm", "gauss-newton", "gd"])
def test_fewer_residuals_than_unknowns(method):
    res = least_squares(wide, np.full(5, 0.5), method=method)
    assert res.success
    assert np.abs(wide(res.x)).max() < (1e-6 if method == "gd" else 1e-12)


def test_nfev_and_njev_are_true():
    calls = {"F": 0, "jac": 0}

    def F(p):
        calls["F"] += 1
        return decay(p)

    def jac(p):
        calls["jac"] += 1
        return slope(p)

    res = least_squares(F, [1.0, 1.0, 0.0], jac)
    assert (res.nfev, res.njev) == (calls["F"], calls["jac"])
    calls.update(F=0, jac=0)
    res = least_squares(F, [1.0, 1.0, 0.0])
    assert res.nfev + res.nfev_jac == calls["F"]


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_max_nfev(limit):
    calls = []
    res = least_squares(
        lambda x: calls.append(1) or ROSENBROCK(x),
        [-1.2, 1.0],
        lambda x: np.array([[-20 * x[0], 10], [-1, 0]]),
        max_nfev=limit,
    )
    assert len(calls) == res.nfev == limit
    assert res.status == 0
    assert not res.success


def test_arguments_are_refused_as_scipy_does():
    for bad in (
        {"method": "best"},
        {"jac": "oops"},
        {"loss": "hinge"},
        {"tr_solver": "best"},
        {"verbose": 3},
        {"max_nfev": 0},
        {"bounds": (1, 2, 3)},
        {"bounds": (2, 1)},
        {"bounds": (3, 4)},
        {"x_scale": -1.0},
        {"ftol": None, "xtol": None, "gtol": None},
        {"method": "lm", "bounds": (0, 5)},
        {"method": "lm", "loss": "huber"},
    ):
        with pytest.raises(ValueError) as theirs:
            scipy.optimize.least_squares(ROSENBROCK, [2.0, 2.0], **bad)
        with pytest.raises(ValueError) as ours:
            least_squares(ROSENBROCK, [2.0, 2.0], **bad)
        assert str(ours.value)[:25] == str(theirs.value)[:25], bad
    with pytest.raises(ValueError, match="real"):
        least_squares(ROSENBROCK, [1j, 2.0])
    with pytest.raises(ValueError, match="not finite in the initial point"):
        least_squares(lambda x: x * np.nan, [1.0])


# -- bounds -----------------------------------------------------------------------------------------------------------


# -- losses, sparse, operators ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["linear", "huber", "soft_l1", "cauchy", "arctan"])
@pytest.mark.parametrize("jac", ["2-point", slope])
def test_losses(loss, jac):
    def spoilt(p):
        f = decay(p)
        f[5] += 4.0
        return f

    res = least_squares(spoilt, [2.0, 1.0, 0.3], jac, loss=loss, f_scale=0.1)
    exact = scipy.optimize.least_squares(
        spoilt, res.x, slope, loss=loss, f_scale=0.1, ftol=1e-15, xtol=1e-15, gtol=1e-15
    )
    assert res.success
    assert res.x == pytest.approx(exact.x, rel=1e-6)
    assert res.cost == pytest.approx(exact.cost, rel=1e-10)
    assert (res.fun == spoilt(res.x)).all()
    assert res.grad == pytest.approx(np.zeros(3), abs=1e-6)
    once = least_squares(spoilt, [2.0, 1.0, 0.3], slope, loss=loss, f_scale=0.1, max_nfev=1)
    theirs = scipy.optimize.least_squares(spoilt, [2.0, 1.0, 0.3], slope, loss=loss, f_scale=0.1, max_nfev=1)
    for field in ("cost", "fun", "jac", "grad", "optimality"):
        assert once[field] == pytest.approx(theirs[field], rel=1e-12, abs=1e-14), field


def test_saturating_losses_are_fast():
    x = np.linspace(-1, 1, 60)
    y = 1 + np.exp(0.5 * x)
    y[::9] += 20.0
    for loss in ("cauchy", "arctan", "soft_l1", "huber"):
        res = least_squares(lambda p: p[0] + np.exp(p[1] * x) - y, [0.0, 0.0], loss=loss, f_scale=0.1)
        assert res.success
        assert res.nfev < 60, loss


def test_sparse_and_operator_jacobians_stay_what_they_are():
    n = 120
    D = sps.diags_array([1.0, -2.5, 1.0], offsets=[-1, 0, 1], shape=(n, n), format="csr")
    structure = (abs(D) > 0).astype(int)

    def F(x):
        return D @ x + 0.1 * np.sin(x) - 1.0

    def jac(x):
        return (D + sps.diags_array(0.1 * np.cos(x))).tocsr()

    dense = least_squares(F, np.zeros(n), lambda x: jac(x).toarray())
    for J, kind in ((jac, sps.sparray), (lambda x: aslinearoperator(jac(x)), LinearOperator)):
        res = least_squares(F, np.zeros(n), J)
        assert isinstance(res.jac, kind)
        assert res.x == pytest.approx(dense.x, rel=1e-10)
    res = least_squares(F, np.zeros(n), jac_sparsity=structure)
    assert sps.issparse(res.jac)
    assert res.x == pytest.approx(dense.x, rel=1e-8)


@pytest.mark.parametrize("jac", ["2-point", "3-point", "cs"])
@pytest.mark.parametrize("bounds", [(-np.inf, np.inf), (-1.0, 0.0)])
@pytest.mark.parametrize("workers", [None, 2])
def test_sparse_differences_solve_and_count(jac, bounds, workers):
    """Broyden's tridiagonal function: three groups of columns, two calls of F each for central differences."""
    n, calls = 40, []

    res = least_squares(broyden, -np.ones(n), jac, bounds, jac_sparsity=TRIDIAGONAL, workers=workers)
    plain = least_squares(lambda x: calls.append(1) or broyden(x), -np.ones(n), jac, bounds, jac_sparsity=TRIDIAGONAL)
    assert res.success
    assert res.cost < 1e-20
    assert (res.x == plain.x).all()
    assert 0 <= plain.nfev_jac - 3 * (1 + (jac == "3-point")) * res.njev <= res.njev  # F at the point itself
    assert len(calls) == plain.nfev + plain.nfev_jac
    exact = scipy.optimize.least_squares(broyden, -np.ones(n), jac, jac_sparsity=TRIDIAGONAL, xtol=1e-15)
    assert res.x == pytest.approx(exact.x, rel=1e-9)


# -- callback, verbose, workers ----------------------------------------------------------------------------------------


def test_callback_protocol():
    seen = []

    def keep(intermediate_result):
        seen.append(intermediate_result)

    res = least_squares(decay, [1.0, 1.0, 0.0], slope, callback=keep, loss="soft_l1")
    assert [r.nit for r in seen] == list(range(1, res.nit + 1))
    assert (seen[-1].x == res.x).all()
    assert (seen[-1].fun == decay(seen[-1].x)).all()
    assert seen[-1].cost == pytest.approx(res.cost, rel=1e-14)

    def stop(x):
        raise StopIteration

    res = least_squares(decay, [1.0, 1.0, 0.0], slope, callback=stop)
    assert (res.status, res.success, res.nit) == (-2, False, 1)


def test_verbose(capsys):
    least_squares(ROSENBROCK, [-1.2, 1.0], verbose=0)
    assert capsys.readouterr().out == ""
    res = least_squares(ROSENBROCK, [-1.2, 1.0], verbose=1)
    out = capsys.readouterr().out
    assert out.startswith(res.message)
    assert f"Function evaluations {res.nfev}" in out
    res = least_squares(ROSENBROCK, [-1.2, 1.0], verbose=2)
    head, *lines = capsys.readouterr().out.splitlines()[:-2]
    assert "Cost reduction" in head
    assert [int(line.split()[0]) for line in lines] == list(range(res.nit + 1))


def test_workers_change_nothing():
    batches = []

    def mapped(F, points):
        points = list(points)
        batches.append(len(points))
        return [F(p) for p in points]

    for jac in ("2-point", "3-point", "cs"):
        plain = least_squares(decay, [1.0, 1.0, 0.0], jac)
        res = least_squares(decay, [1.0, 1.0, 0.0], jac, workers=mapped)
        assert (res.x == plain.x).all()
        assert res.nfev == plain.nfev
    assert set(batches) <= {3, 6}


def test_diff_step_is_taken_at_its_word():
    points = []
    least_squares(lambda x: points.append(x[0]) or x**2 - 2, 1.5, diff_step=1e-3, max_nfev=1)
    assert points == pytest.approx([1.5, 1.5015], rel=1e-12)
    res = least_squares(ROSENBROCK, [0.0, 1.0], diff_step=1e-20)  # no step at all: scipy's default takes its place
    assert res.x == pytest.approx([1, 1], rel=1e-6)


# -- hard fits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "jac"), list(product(["trf", "lm"], ["2-point", "exact"])))
def test_badly_scaled_parameters(method, jac):
    """1e-13 next to 1e3: every parameter to eight digits."""
    x = np.linspace(0, 10, 60)
    true = np.array([1e3, 0.7, 1e-13])

    def F(p):
        return p[0] * np.exp(-p[1] * x) + p[2] * 1e15 * x - (true[0] * np.exp(-true[1] * x) + true[2] * 1e15 * x)

    def exact(p):
        return np.column_stack([np.exp(-p[1] * x), -p[0] * x * np.exp(-p[1] * x), 1e15 * x])

    res = least_squares(F, [5e2, 1.2, 3e-13], exact if jac == "exact" else jac, method=method)
    assert res.x == pytest.approx(true, rel=1e-8)


def test_overflow_on_the_way():
    x = np.linspace(0, 5, 30)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        res = least_squares(lambda p: p[0] * np.exp(p[1] * x) - 2 * np.exp(-x), [1.0, 3.0])
    assert res.x == pytest.approx([2, -1], rel=1e-8)


def test_near_a_pole():
    """The second of two logarithms ends where it is nearly minus infinity; from a start where J lacks rank."""
    rng = np.random.default_rng(408113519974467917)
    x = np.arange(100)
    y = np.linspace(2, 7, 100) + rng.random(100)

    def F(p):
        return p[0] * np.log(x + 1 + p[1]) + p[2] * np.log(x + 1 + p[3]) + p[4] - y

    for k in range(4):
        start = np.ones(5) + 1e-9 * np.random.default_rng(k).standard_normal(5)
        with np.errstate(all="ignore"):
            res = least_squares(F, start, max_nfev=2000)
        assert res.success
        assert 2 * res.cost == pytest.approx(7.43322747, rel=1e-8)


@pytest.mark.parametrize("start", [[1.09, 3.99, 1.89], [14.8, 3.52, 1.35], [14.4, 3.01, 2.74], [7.44, 3.81, 1.69]])
def test_columns_that_were_ten_decades_longer_at_the_start(start):
    """a x^b + c: the scale stays that of the longest column, which the step must not drown in."""
    x = np.linspace(1, 100, 40)
    y = 2 * np.sqrt(x) + 3 + 0.05 * np.sin(7 * x)
    res = least_squares(lambda p: p[0] * x ** p[1] + p[2] - y, start)
    exact = least_squares(lambda p: p[0] * x ** p[1] + p[2] - y, [2.0, 0.5, 3.0])
    assert res.success
    assert res.nfev < 150
    assert res.x == pytest.approx(exact.x, rel=1e-7)


@pytest.mark.parametrize("form", ["dense", "sparse", "differences"])
@pytest.mark.parametrize(("m", "n"), [(250, 400), (260, 400), (300, 450)])
def test_gauge_freedom_at_any_size(m, n, form):
    """Phases from noisy sines of their differences."""
    rng = np.random.default_rng(0)
    x, edges = rng.uniform(-1, 1, m), np.arange(n)
    i = np.r_[np.arange(m - 1), rng.integers(0, m, n - m + 1)]
    j = np.r_[np.arange(1, m), rng.integers(0, m, n - m + 1)]
    seen = np.sin(x[i] - x[j]) + 0.05 * rng.standard_normal(n)

    def jac(w):
        c = np.cos(w[i] - w[j])
        J = sps.csr_array((np.r_[c, -c], (np.r_[edges, edges], np.r_[i, j])), shape=(n, m))
        return J if form == "sparse" else J.toarray()

    w0 = x + 0.1 * rng.standard_normal(m)
    res = least_squares(lambda w: np.sin(w[i] - w[j]) - seen, w0, "2-point" if form == "differences" else jac)
    assert res.success
    assert res.njev <= 40
    assert res.optimality < 1e-6
