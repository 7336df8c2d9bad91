"""WideNetwork against its dense Jacobian, differences, and an independent forward pass."""

import itertools
from collections import Counter
from math import erf

import naive
import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator

from benchmarks.checks.operators import Operator, damped
from plsolve import Status, solve
from plsolve._tangent import tangent
from plsolve.networks import WideNetwork, _jacobian, _layers

PAIR = (np.sin, np.cos)
ACTIVATIONS = ["tanh", "relu", "softplus", "gelu", PAIR]
PLAIN = {
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0.0),
    "softplus": lambda z: np.log(1.0 + np.exp(z)),
    "gelu": lambda z: z * np.vectorize(lambda t: 0.5 * (1.0 + erf(t / np.sqrt(2.0))))(z),
    PAIR: np.sin,
    None: lambda z: z,
}
X = np.random.default_rng(0).standard_normal((5, 3))


def naive_outputs(net, widths, activation, output, w, X):
    sizes, A, start = [3, *widths, net.outputs], X, 0
    for i, (a, b) in enumerate(itertools.pairwise(sizes)):
        layer = net.layers[i]
        if layer.trained:
            W = w[start : start + a * b].reshape(a, b)
            start += a * b
            bias = w[start : start + b] if net.bias else 0.0
            start += b if net.bias else 0
        else:
            W, bias = layer.W, 0.0
        Z = A @ W / (np.sqrt(a) if net.ntk else 1.0) + bias
        A = PLAIN[activation if i < len(widths) else output](Z)
    assert start == len(w) == net.m
    return A


CASES = list(
    itertools.product(
        ACTIVATIONS, ["ntk", "standard"], ["all", "first", "hidden"], [1, 3], [True, False], [None, "gelu"]
    )
)


@pytest.mark.parametrize("widths", [(4,), (6, 5, 4)], ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_every_combination_agrees_with_dense_differences_and_a_plain_forward_pass(activation, widths):
    for act, scaling, train, q, bias, output in CASES:
        if act is not activation:
            continue
        net = WideNetwork(X, widths, act, q, bias, scaling, train, output_activation=output)
        w = net.init(1)
        np.testing.assert_allclose(
            net.F(w).reshape(5, q), naive_outputs(net, widths, act, output, w, X), rtol=1e-13, atol=1e-14
        )
        J = net.jac(w)
        by_rows = np.stack([J.rmatvec(e) for e in np.eye(net.n)])
        by_columns = np.stack([J.matvec(e) for e in np.eye(net.m)], axis=1)
        np.testing.assert_allclose(by_rows, by_columns, rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(by_rows, naive.jacobian(net.F, w), atol=1e-8)
        K = by_rows @ by_rows.T
        np.testing.assert_allclose(J.gram(), K, rtol=1e-13, atol=1e-14 * np.abs(K).max())
        np.testing.assert_allclose(J.row_squares(), np.diag(K), rtol=1e-13, atol=1e-14)
        rows = np.array([4, 0, 4, net.n - 1])
        np.testing.assert_allclose(net.F(w, rows=rows), net.F(w)[rows], rtol=1e-13)
        batch = net.jac(w, rows=rows)
        np.testing.assert_allclose(batch.rmatvec(np.ones(4)), by_rows[rows].sum(axis=0), rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(batch.gram(), K[np.ix_(rows, rows)], rtol=1e-12, atol=1e-13 * np.abs(K).max())


WEIGHTS = {
    "one": lambda m, rng: np.ones(m),
    "alike": lambda m, rng: np.full(m, 3.0),
    "few zero": lambda m, rng: (np.arange(m) % 11 != 3).astype(float),
    "most zero": lambda m, rng: (np.arange(m) % 11 == 3).astype(float),
    "none": lambda m, rng: np.zeros(m),
    "any": lambda m, rng: rng.uniform(0.0, 2.0, m),
    "far apart": lambda m, rng: 10.0 ** rng.uniform(-8.0, 8.0, m),
    "all that counts is zero": lambda m, rng: (np.arange(m) % 11 != 3) + 1e9 * (np.arange(m) % 11 == 3),
}


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("scaling", ["ntk", "standard"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("train", ["all", "first", "hidden"])
def test_the_kernel_with_weights(monkeypatch, weights, scaling, bias, train):
    from plsolve._tangent import layers

    for q, block in itertools.product([1, 3], [1, 1 << 20]):
        monkeypatch.setattr(layers, "BLOCK_NUMBERS", block)
        net = WideNetwork(X, (6, 5), "tanh", q, bias, scaling, train)
        J = net.jac(net.init(1))
        d2 = WEIGHTS[weights](net.m, np.random.default_rng(0))
        dense = np.stack([J.rmatvec(e) for e in np.eye(net.n)])
        K = (dense * d2) @ dense.T
        np.testing.assert_allclose(J.gram(d2), K, rtol=1e-12, atol=1e-13 * np.abs(K).max())
        batch = net.jac(net.init(1), rows=np.array([2, 0]))
        np.testing.assert_allclose(batch.gram(d2), K[np.ix_([2, 0], [2, 0])], rtol=1e-12, atol=1e-13 * np.abs(K).max())


def test_factors_of_weights_and_few_bounds_need_no_columns_in_order(monkeypatch):
    from plsolve._tangent import layers

    monkeypatch.setattr(layers, "by_columns", None)
    rng = np.random.default_rng(2)
    A, D = rng.standard_normal((7, 9)), rng.standard_normal((7, 8))
    d2 = np.outer(rng.uniform(0.1, 9.0, 9), rng.uniform(0.1, 9.0, 8))
    d2[rng.integers(9, size=5), rng.integers(8, size=5)] = 0.0
    J = (A[:, :, None] * D[:, None, :]).reshape(7, -1)
    np.testing.assert_allclose(layers.layer_kernel(A, D, d2), (J * d2.ravel()) @ J.T, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("spread", [None, 0.0, 0.3])  # of x_scale, as a power of ten
@pytest.mark.parametrize("width", [None, 1.5, 0.5])  # of the box
def test_bounds_and_scales_keep_the_kernel_of_layers(monkeypatch, spread, width):
    from plsolve._tangent import operator

    monkeypatch.setattr(operator.OperatorTangent, "toarray", None)
    monkeypatch.setattr(operator.OperatorTangent, "_gram", None)
    rng = np.random.default_rng(3)
    net = WideNetwork(rng.standard_normal((20, 3)), (60, 40))
    w0, y = net.init(2), 0.3 * rng.standard_normal(20)
    given = {"bounds": None if width is None else (w0 - width, w0 + width)}
    given["x_scale"] = 1.0 if spread is None else 2.0 * 10.0 ** np.linspace(-spread, spread, net.m)
    sol = solve(net.F, net.jac, w0, y + net.F(w0), **given)
    assert sol.success, sol.message
    T = tangent(net.jac(w0), 10.0 ** np.linspace(-spread, spread, net.m) if spread else np.zeros(0))
    free = np.zeros(0, bool) if width is None else rng.uniform(size=net.m) < width
    dense = np.stack([T.J.rmatvec(e) for e in np.eye(20)]) * (T.weights(free) if T.weights(free).size else 1.0)
    np.testing.assert_allclose(T.inverse(free, False).length(y), np.linalg.norm(np.linalg.pinv(dense) @ y), rtol=1e-6)
    if width is not None:
        assert (np.abs(sol.x - w0) <= width + 1e-15).all()


def test_an_operator_whose_gram_takes_no_weights_solves_as_before():
    net = WideNetwork(X, (60,))
    w0 = net.init(0)

    class Plain(LinearOperator):
        def __init__(self, J):
            self.J = J
            super().__init__(np.float64, J.shape)

        def _matvec(self, v):
            return self.J.matvec(v)

        def _rmatvec(self, z):
            return self.J.rmatvec(z)

        def gram(self):
            return self.J.gram()

    y = np.linspace(-1.0, 1.0, 5)
    sol = solve(
        net.F, lambda w: Plain(net.jac(w)), w0, y, bounds=(w0 - 0.5, w0 + 0.5), x_scale=np.linspace(1, 2, net.m)
    )
    assert sol.success
    assert (np.abs(sol.x - w0) <= 0.5 + 1e-15).all()


@pytest.mark.parametrize("q", [1, 2])
def test_gram_in_blocks(monkeypatch, q):
    monkeypatch.setattr(_jacobian, "_BLOCK_ROWS", 3)
    monkeypatch.setattr(_layers, "BLOCK_NUMBERS", 8)
    net = WideNetwork(np.random.default_rng(3).standard_normal((11, 2)), (5, 3), outputs=q)
    w = net.init(0)
    J = net.jac(w)
    dense = np.stack([J.rmatvec(e) for e in np.eye(net.n)])
    np.testing.assert_allclose(dense, naive.jacobian(net.F, w), atol=1e-8)
    np.testing.assert_allclose(J.matvec(w), dense @ w, rtol=1e-12)
    np.testing.assert_allclose(J.gram(), dense @ dense.T, rtol=1e-12)


@pytest.mark.parametrize("widths", [(4,), (3, 7, 2), (1, 1)], ids=str)
@pytest.mark.parametrize("q", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("columns", [1, 2, 9])
def test_several_vectors_at_once(monkeypatch, widths, q, bias, columns):
    monkeypatch.setattr(_layers, "_COLUMNS", 8)
    monkeypatch.setattr(_layers, "BLOCK_NUMBERS", 8)
    rng = np.random.default_rng(4)
    net = WideNetwork(rng.standard_normal((11, 3)), widths, outputs=q, bias=bias)
    J = net.jac(net.init(0))
    dense = naive.jacobian(net.F, net.init(0))
    V, Z = rng.standard_normal((net.m, columns)), rng.standard_normal((net.n, columns))
    np.testing.assert_allclose(J.matmat(V), dense @ V, atol=1e-7)
    np.testing.assert_allclose(J.rmatmat(Z), dense.T @ Z, atol=1e-7)
    np.testing.assert_allclose(J.matmat(V), np.stack([J.matvec(v) for v in V.T], 1), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(J.rmatmat(Z), np.stack([J.rmatvec(z) for z in Z.T], 1), rtol=1e-12, atol=1e-13)


def test_predict_and_the_data_agree():
    net = WideNetwork(X, (7, 4), outputs=2)
    w = net.init(0)
    np.testing.assert_allclose(net.predict(w, X).ravel(), net.F(w), rtol=1e-14)
    assert net.predict(w, X[:1]).shape == (1, 2)
    assert WideNetwork(X, (7,)).predict(WideNetwork(X, (7,)).init(0), X).shape == (5,)


def test_init_is_seeded_and_scaled():
    net = WideNetwork(X, (400, 300))
    w = net.init(5)
    assert np.array_equal(w, net.init(5))
    assert not np.array_equal(w, net.init(6))
    assert np.array_equal(net.init(5, first=3.0)[:1600], 3.0 * w[:1600])
    assert np.array_equal(net.init(5, first=3.0)[1600:], w[1600:])
    assert w[-1] == 0.0
    assert abs(w[1600:-301].std() - 1.0) < 0.01
    standard = WideNetwork(X, (400, 300), scaling="standard")
    np.testing.assert_allclose(standard.F(standard.init(5))[0], net.F(w)[0], atol=3.0)


def test_a_weight_changed_in_place_is_seen():
    net = WideNetwork(X, (6,))
    w = net.init(0)
    first = net.F(w)
    w[3] += 1.0
    second = net.F(w)
    assert not np.array_equal(first, second)
    assert np.array_equal(second, WideNetwork(X, (6,)).F(w))
    J = net.jac(w)
    before = J.rmatvec(np.ones(5))
    w[:] = 0.0
    assert np.array_equal(J.rmatvec(np.ones(5)), before), "an operator belongs to its point"


def test_what_f_returns_may_be_written_to():
    net = WideNetwork(X, (6,))
    w = net.init(0)
    f = net.F(w)
    kept = f.copy()
    f[:] = 0.0
    assert np.array_equal(net.F(w), kept)


def test_solve_passes_its_own_vectors_on_and_leaves_the_user_s_alone():
    net = WideNetwork(X, (60,))
    w0, y = net.init(0), np.ones(5)
    kept = w0.copy()
    sol = solve(net.F, net.jac, w0, y)
    assert sol.success
    assert w0.flags.writeable
    assert np.array_equal(w0, kept)
    assert sol.x.flags.writeable
    sol.x[:] = 0.0


@pytest.mark.parametrize("method", ["gauss-newton", "gd", "sgd"])
def test_every_method_solves_a_network(method):
    net = WideNetwork(X, (200,))
    sol = solve(net.F, net.jac, net.init(0), np.linspace(-1, 1, 5), method=method, tol=1e-6, rng=0)
    assert sol.success, sol.message


def test_gauss_newton_never_forms_j(monkeypatch):
    net = WideNetwork(X, (100, 100))
    from plsolve._tangent.operator import OperatorTangent

    def refuse(self):
        raise AssertionError("J was formed")

    monkeypatch.setattr(OperatorTangent, "toarray", refuse)
    assert solve(net.F, net.jac, net.init(0), np.linspace(-1, 1, 5)).success


def test_the_same_solution_as_from_the_dense_jacobian(monkeypatch):
    from plsolve.methods import gauss_newton, linear_model
    from plsolve.methods.tuning import TUNING

    alike = TUNING._replace(
        dogleg_below_own_kernel=TUNING.dogleg_below, chord_contraction_own_kernel=TUNING.chord_contraction
    )
    for module in (gauss_newton, linear_model):
        monkeypatch.setattr(module, "TUNING", alike)
    rng = np.random.default_rng(1)
    net = WideNetwork(rng.standard_normal((40, 3)), (300, 50), outputs=2)
    w0, y = net.init(2), rng.standard_normal(80)
    dense = solve(net.F, lambda w: np.stack([net.jac(w).rmatvec(e) for e in np.eye(80)]), w0, y)
    sol = solve(net.F, net.jac, w0, y)
    assert sol.success
    assert sol.nit == dense.nit
    np.testing.assert_allclose(sol.x, dense.x, atol=1e-7)


@pytest.mark.parametrize("linear_solver", ["auto", "cholesky", "qr", "cg"])
@pytest.mark.parametrize("width", [40, 1500])  # J small enough to be formed, and not
@pytest.mark.parametrize("labels", ["equal", "different"])
def test_duplicate_inputs_end_with_a_clear_status(monkeypatch, linear_solver, width, labels):
    from plsolve._tangent import operator

    monkeypatch.setattr(operator, "_DENSE_ENTRIES", 10_000)
    rng = np.random.default_rng(4)
    inputs = rng.standard_normal((12, 3))
    inputs[7] = inputs[2]
    y = rng.standard_normal(12)
    y[7] = y[2] + (0.0 if labels == "equal" else 1.0)
    net = WideNetwork(inputs, (width,))
    sol = solve(net.F, net.jac, net.init(0), y, options={"linear_solver": linear_solver})
    assert np.isfinite(sol.x).all()
    assert np.isfinite(sol.fun).all()
    if labels == "equal":
        assert sol.status == Status.RESIDUAL
    else:
        assert sol.status == Status.STATIONARY
        np.testing.assert_allclose(sol.cost, 0.25, rtol=1e-6)  # both outputs half way between the two labels


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"X": [1.0, 2.0]}, "X"),
        ({"X": [[np.nan]]}, "X"),
        ({"widths": ()}, "widths"),
        ({"widths": (0,)}, "widths"),
        ({"outputs": 0}, "outputs"),
        ({"activation": "sine"}, "activation"),
        ({"activation": (np.sin,)}, "activation"),
        ({"output_activation": 3}, "output_activation"),
        ({"scaling": "mup"}, "scaling"),
        ({"train": "last"}, "train"),
    ],
)
def test_bad_input(changes, match):
    with pytest.raises(ValueError, match=match):
        WideNetwork(**{"X": X, "widths": (4,), **changes})


def test_bad_weights():
    net = WideNetwork(X, (4,))
    with pytest.raises(ValueError, match="`w`"):
        net.F(np.zeros(3))
    with pytest.raises(ValueError, match="`X`"):
        net.predict(net.init(0), np.zeros((2, 4)))


@pytest.mark.parametrize("widths", [(300, 300), (200, 200, 200)], ids=str)
def test_an_operator_with_its_own_kernel_costs_no_more_than_a_damped_loop(widths):
    """J with K costs 1.3 F, J^T z as much as F: a direction must be worth its J^T z."""
    rng = np.random.default_rng(0)
    net = WideNetwork(rng.standard_normal((120, 6)), widths)
    w0, y, calls = net.init(3), rng.standard_normal(120), Counter()

    def F(w):
        calls["F"] += 1
        return net.F(w)

    def jac(w):
        calls["J"] += 1
        return Operator(net.jac(w), calls)

    def price():
        total = 1.3 * calls["J"] + calls["F"] + calls["J^T z"]
        calls.clear()
        return total

    assert solve(F, jac, w0, y, tol=1e-10, certify=False).success
    assert calls["J v"] <= 2  # whether r is small beside the terms of F
    assert calls["J^T z"] < calls["F"]
    ours = price()
    damped(F, jac, w0, y, 1e-10)
    assert ours <= price()
