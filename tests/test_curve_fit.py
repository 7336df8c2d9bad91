"""curve_fit: covariances, more parameters than data, scipy's errors."""

import warnings

import numpy as np
import pytest
import scipy.optimize
from scipy.optimize import OptimizeWarning

from plsolve import curve_fit

X = np.linspace(0, 4, 30)
Y = 2.5 * np.exp(-1.3 * X) + 0.5 + 0.1 * np.sin(40 * X)


def model(x, a, b, c):
    return a * np.exp(-b * x) + c


def bumps(x, *p):
    height, place = np.reshape(p, (2, -1))
    return np.exp(-((x[:, None] - place) ** 2)) @ height


@pytest.mark.parametrize("method", [None, "lm", "trf", "dogbox"])
@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("sigma", [None, 0.2, "vector", "matrix"])
def test_agrees_with_scipy(method, absolute, sigma):
    if isinstance(sigma, str):
        A = np.random.default_rng(1).standard_normal((30, 30))
        sigma = 0.1 + 0.01 * np.arange(30) if sigma == "vector" else A @ A.T + np.eye(30)
    tight = {"ftol": 1e-14, "xtol": 1e-14, "gtol": 1e-14}
    ours = curve_fit(model, X, Y, sigma=sigma, absolute_sigma=absolute, method=method)
    theirs = scipy.optimize.curve_fit(
        model,
        X,
        Y,
        sigma=sigma,
        absolute_sigma=absolute,
        method=method,
        jac="3-point" if method in ("trf", "dogbox") else None,
        **tight,
    )
    assert ours[0] == pytest.approx(theirs[0], rel=1e-6)
    assert ours[1] == pytest.approx(theirs[1], rel=1e-5)


def test_more_parameters_than_data_fit_nearest_to_the_start():
    x, y = np.array([0.0, 1.0, 2.0]), np.array([1.0, 2.0, 0.5])
    p0 = np.array([0.5, 0.5, 0.5, 0.5, 0.2, 0.9, 1.4, 2.1])
    with pytest.warns(OptimizeWarning, match="could not be estimated"):
        popt, pcov, info, _, ier = curve_fit(bumps, x, y, p0, full_output=True)
    assert bumps(x, *popt) == pytest.approx(y, abs=1e-10)
    assert np.isinf(pcov).all()
    assert ier in (1, 2, 3, 4)
    assert info["rank"] == 3
    N = info["null_space"]
    assert N.shape == (8, 5)
    assert pytest.approx(np.eye(5), abs=1e-12) == N.T @ N
    # nearest: the way back to p0 has nothing along the null space
    assert np.linalg.norm(N.T @ (p0 - popt)) < 1e-6 * np.linalg.norm(p0 - popt)


def test_absolute_covariance_of_what_the_data_determine():
    """b and c only occur as a product, a is determined."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        popt, pcov, info, *_ = curve_fit(
            lambda x, a, b, c: a + b * c * x,
            X,
            1 + 2 * X,
            [0.5, 1.0, 1.0],
            sigma=0.1,
            absolute_sigma=True,
            full_output=True,
        )
    assert popt[0] == pytest.approx(1, abs=1e-9)
    assert popt[1] * popt[2] == pytest.approx(2, abs=1e-9)
    A = np.column_stack([np.ones(30), X]) / 0.1
    assert pcov[0, 0] == pytest.approx(np.linalg.inv(A.T @ A)[0, 0], rel=1e-6)
    assert np.isinf(pcov[1:]).all()
    assert np.isinf(pcov[:, 1:]).all()
    assert info["rank"] == 2
    assert np.abs(info["null_space"][0]).max() < 1e-7


@pytest.mark.parametrize("jac", [None, "exact"])
def test_rank_deficient_is_all_inf_with_one_warning(jac):
    exact = (lambda x, a, b: np.column_stack([x, 0 * x])) if jac else None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _, pcov = curve_fit(lambda x, a, b: a * x, X, 2 * X, jac=exact)
    assert np.isinf(pcov).all()
    assert [w.category for w in caught] == [OptimizeWarning]


def test_as_many_parameters_as_data():
    _popt, pcov = curve_fit(lambda x, a, b: a * x + b, X[:2], Y[:2], sigma=[0.1, 0.1], absolute_sigma=True)
    A = np.column_stack([X[:2], np.ones(2)]) / 0.1
    assert pcov == pytest.approx(np.linalg.inv(A.T @ A), rel=1e-6)
    with pytest.warns(OptimizeWarning):
        assert np.isinf(curve_fit(lambda x, a, b: a * x + b, X[:2], Y[:2])[1]).all()


def test_full_output_and_bounds():
    popt, _, info, message, ier = curve_fit(model, X, Y, bounds=(0, [2, 3, 4]), full_output=True)
    assert popt[0] == 2
    assert set(info) >= {"nfev", "fvec", "rank", "null_space"}
    assert isinstance(message, str)
    assert ier in (1, 2, 3, 4)
    *_, info, _, _ = curve_fit(model, X, Y, full_output=True)
    assert set(info) >= {"fjac", "ipvt", "qtf"}
    theirs = scipy.optimize.curve_fit(model, X, Y, full_output=True)[2]
    assert info["fjac"].shape == theirs["fjac"].shape
    assert info["qtf"].shape == theirs["qtf"].shape


def test_errors_are_scipys():
    for kwargs, error in (
        ({"method": "lm", "bounds": (0, 1)}, ValueError),
        ({"sigma": np.ones(4)}, ValueError),
        ({"sigma": -np.eye(30)}, ValueError),
        ({"args": (1,)}, ValueError),
        ({"nonsense": 1}, TypeError),
        ({"method": "trf", "nonsense": 1}, TypeError),
        ({"maxfev": 2}, RuntimeError),
        ({"method": "best"}, ValueError),
        ({"p0": [1, 1, 1], "bounds": (2, 3)}, ValueError),
    ):
        with pytest.raises(error) as theirs:
            scipy.optimize.curve_fit(model, X, Y, **dict(kwargs))
        with pytest.raises(error) as ours:
            curve_fit(model, X, Y, **dict(kwargs))
        assert str(ours.value)[:20] == str(theirs.value)[:20], kwargs
    for x, y in (([1, np.nan], [1, 2]), ([1, 2], [1, np.nan]), ([], [])):
        with pytest.raises(ValueError):
            curve_fit(lambda x, a: a * x, x, y)


def test_nearly_degenerate_fits_have_positive_variances():
    """scipy's test_gh4555."""

    def f(x, a, b, c, d, e):
        return a * np.log(x + 1 + b) + c * np.log(x + 1 + d) + e

    rng = np.random.default_rng(408113519974467917)
    x = np.arange(100)
    y = np.linspace(2, 7, 100) + rng.random(100)
    with np.errstate(all="ignore"):
        _, cov = curve_fit(f, x, y, maxfev=100_000)
    assert (np.diag(cov) > 0).all()
    if np.isfinite(cov).all():
        assert (np.linalg.eigvalsh(cov) > -1e-2).all()
        assert cov == pytest.approx(cov.T)


@pytest.mark.parametrize(("method", "accuracy"), [("lm", 1e-5), ("trf", 2e-7)])
def test_covariance_is_that_of_the_minimum(method, accuracy):
    """'lm', as MINPACK, takes the J of the last step, 1.6e-6 off here (scipy's test_gh4555b); 'trf' the J at x."""
    rng = np.random.default_rng(408113519974467917)
    x = np.linspace(0, 4, 50)
    y = model(x, 2.5, 1.3, 0.5) + 0.2 * rng.normal(size=50)

    def jac(x, a, b, c):
        e = np.exp(-b * x)
        return np.column_stack([e, -a * x * e, np.ones_like(x)])

    exact = scipy.optimize.curve_fit(model, x, y, jac=jac, ftol=1e-15, xtol=1e-15)[1]
    for derivative in (None, jac):
        assert curve_fit(model, x, y, method=method, jac=derivative)[1] == pytest.approx(exact, rel=accuracy)


def test_covariance_after_a_long_last_step():
    """Data that are met exactly: the last step is longer than the residual that it leaves, so J at x is wanted."""
    x = np.linspace(0, 4, 50)
    y = model(x, 2.5, 1.3, 0.5)
    _, pcov = curve_fit(model, x, y, sigma=0.1, absolute_sigma=True)
    e = np.exp(-1.3 * x)
    J = np.column_stack([e, -2.5 * x * e, np.ones_like(x)]) / 0.1
    assert pcov == pytest.approx(np.linalg.inv(J.T @ J), rel=1e-7)


# -- as the documentation lets one expect ------------------------------------------------------------------------------


def straight(x, a, b):
    return a * np.asarray(x) + b


@pytest.mark.parametrize("method", ["lm", "trf", "dogbox"])
@pytest.mark.parametrize("missing", [[2], [0, 5], [1, 2, 3]])
def test_tables_with_missing_values(method, missing):
    pd = pytest.importorskip("pandas")
    x = np.arange(8.0)
    y = 2 * x + 1
    holes = y.copy()
    holes[missing] = np.nan
    sigma = np.linspace(1, 2, 8)
    exact = curve_fit(straight, np.delete(x, missing), np.delete(y, missing) + 0.1, sigma=np.delete(sigma, missing))
    for given in (pd.Series(holes + 0.1), pd.Series(holes + 0.1, index=list("abcdefgh")), holes + 0.1):
        popt, pcov = curve_fit(straight, pd.Series(x), given, sigma=pd.Series(sigma), nan_policy="omit", method=method)
        np.testing.assert_allclose(popt, exact[0], rtol=1e-6)
        np.testing.assert_allclose(pcov, exact[1], rtol=1e-6, atol=1e-12)
    table = pd.DataFrame({"u": x, "v": x**2})
    table.loc[missing, "v"] = np.nan
    popt, _ = curve_fit(lambda t, a, b: a * t["u"] + b * t["v"], table, 2 * x - x**2, nan_policy="omit", method=method)
    np.testing.assert_allclose(popt, [2, -1], rtol=1e-6)
    popt, _ = curve_fit(
        lambda t, a, b: a * t[0] + b * t[1], table.to_numpy().T, 2 * x - x**2, nan_policy="omit", method=method
    )
    np.testing.assert_allclose(popt, [2, -1], rtol=1e-6)
    with pytest.raises(ValueError, match="xdata"):
        curve_fit(straight, pd.Series(x[:-1]), holes, nan_policy="omit", method=method)


@pytest.mark.parametrize("method", ["lm", "trf"])
@pytest.mark.parametrize("variance", [0.25, 4.0, 1e4])
def test_the_covariance_of_one_point(method, variance):
    """sigma with two dimensions is a covariance, of whatever size; with one, or none, it is a deviation."""
    given = {"p0": [1.0], "absolute_sigma": True, "method": method}
    popt, pcov = curve_fit(lambda x, a: a * x, [2.0], [6.0], sigma=[[variance]], **given)
    np.testing.assert_allclose([popt[0], pcov[0, 0]], [3.0, variance / 4.0], rtol=1e-8)
    for deviation in ([np.sqrt(variance)], np.sqrt(variance)):
        np.testing.assert_allclose(curve_fit(lambda x, a: a * x, [2.0], [6.0], sigma=deviation, **given)[1], pcov)


@pytest.mark.parametrize("shape", [(4, 3), (12, 1), (1, 12)])
@pytest.mark.parametrize("method", ["lm", "trf"])
def test_data_that_are_no_vectors(shape, method):
    x = np.arange(12.0).reshape(shape)
    with pytest.raises(ValueError, match=r"`f` must return 12 numbers.*\(\d+, \d+\)"):
        curve_fit(lambda x, a: a * x, x, 2 * x.ravel(), method=method)
    with pytest.raises(ValueError, match=r"`ydata` must have 1 dimension"):
        curve_fit(lambda x, a: a * x, x, 2 * x, method=method)
    popt, _ = curve_fit(lambda x, a: (a * x).ravel(), x, 2 * x.ravel(), method=method)
    np.testing.assert_allclose(popt, 2.0)


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ({"sigma": np.eye(30) + np.eye(30, k=1) / 9}, "`sigma` must be symmetric"),
        ({"sigma": np.zeros(30)}, "`sigma` must not be zero"),
        ({"sigma": np.full(30, np.nan)}, "`sigma` must be without NaN"),
        ({"maxfev": -5}, "`maxfev`"),
        ({"maxfev": "many"}, "`maxfev`"),
        ({"epsfcn": -1.0}, "`epsfcn`"),
        ({"diag": [1.0, -1.0, 1.0]}, "`diag`"),
        ({"ftol": "small"}, "`ftol`"),
        ({"p0": [1.0, np.nan, 1.0]}, "`p0`"),
        ({"jac": True}, "`jac`"),
        ({"nan_policy": "drop"}, "nan_policy"),
        ({"absolute_sigma": "yes"}, "`absolute_sigma`"),
    ],
)
def test_refusals_name_the_argument(bad, match):
    with pytest.raises((ValueError, TypeError), match=match):
        curve_fit(model, X, Y, **bad)
