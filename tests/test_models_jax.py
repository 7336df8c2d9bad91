"""JaxModel and JaxSystem against dense Jacobians of JAX, and against WideNetwork."""

import os
import subprocess
import sys

import numpy as np
import pytest

from plsolve import solve
from plsolve.networks import WideNetwork

os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")
jax = pytest.importorskip("jax")
jax.config.update("jax_enable_x64", True)

import jax.flatten_util  # noqa: E402
from jax import numpy as jnp  # noqa: E402

from plsolve.models import JaxModel, JaxSystem, _jaxpr, _operator  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.standard_normal((9, 3))


def normal(*shape):
    return jnp.asarray(RNG.standard_normal(shape))


def mlp(p, x):
    return (jnp.tanh(jax.nn.softplus(x @ p["W"] + p["b"]) @ p["V"] + p["c"]) @ p["v"])[0]


MLP = {"W": normal(3, 8), "b": normal(8), "V": normal(8, 7), "c": normal(7), "v": normal(7, 1)}


def residual(p, x):
    h = jax.nn.gelu(p["W"].T @ x + p["b"])
    h = h + jnp.tanh(jnp.dot(h, p["V"][:, :7] @ jnp.ones((7, 8))))
    return jnp.stack([h @ p["b"], jnp.sum(h)])


def layer_norm(p, x):
    h = x @ p["W"]
    h = (h - h.mean()) / jnp.sqrt(h.var() + 1e-3) * p["b"] + 1.0
    return jnp.tanh(h @ p["V"]) @ p["v"]


def scaled(p, x):
    return jnp.tanh(x @ (p["W"] / jnp.sqrt(3.0)) + 0.1 * p["b"]) @ (2.0 * p["V"])


def tokens(p, x):
    """Each layer is used at four places of a sequence, and once more in the other direction."""
    h = jnp.tanh(jnp.outer(jnp.arange(4.0), x) @ p["W"] + p["b"])
    return jnp.sum(jnp.tanh(h @ p["V"] + p["c"])) + jnp.sum((h @ p["W"].T) ** 2)


def recurrent(p, x):
    def step(h, _):
        return jnp.tanh(h @ p["V"] @ p["V"].T + p["b"]), None

    h, _ = jax.lax.scan(step, x @ p["W"], jnp.arange(3))
    return h @ jnp.ones(8)


def convolution(p, x):
    h = jnp.convolve(x, p["b"])
    return jnp.tanh(h) @ jnp.ones(h.size)


def laplacian(p, x):
    return jnp.trace(jax.hessian(lambda x: mlp(p, x))(x)) + mlp(p, x) ** 2


def by_gradients(p, x):
    return jnp.sum(jax.grad(lambda x: mlp(p, x))(x) ** 2)


def jitted(p, x):
    return jax.jit(mlp)(p, x) * jax.checkpoint(mlp)(p, x)


FUNCTIONS = [mlp, residual, layer_norm, scaled, tokens, recurrent, convolution, laplacian, by_gradients, jitted]


def dense(f, params, X):
    flat, unravel = jax.flatten_util.ravel_pytree(params)
    return np.asarray(jax.jacrev(lambda w: jax.vmap(lambda x: f(unravel(w), x))(X).ravel())(flat))


def close(a, b, size=None):
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13 * np.abs(b if size is None else size).max())


@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("room", [0, 2, 1000])
def test_every_product_and_kernel_agrees_with_the_dense_jacobian(monkeypatch, f, room):
    """room 0: all by chunks of rows; 1000: all that is only multiplied by its inputs and sensitivities."""
    monkeypatch.setattr(_jaxpr, "ROOM", room)
    monkeypatch.setattr(_operator, "HELD", 1 << 20 if room == 2 else 0)
    monkeypatch.setattr(JaxModel, "_formed", 1 << 20 if room == 2 else 0)
    monkeypatch.setattr(_operator, "SHARE", 8 if room == 2 else 1 << 30)
    model = JaxModel(f, MLP, X)
    w, J = model.w0, dense(f, MLP, X)
    assert (model.n, model.m) == J.shape
    close(model.F(w), np.asarray(jax.vmap(lambda x: f(MLP, x))(X)).ravel())
    operator = model.jac(w)
    close(operator.gram(), J @ J.T)
    for d2 in (RNG.uniform(size=model.m), (RNG.uniform(size=model.m) < 0.9).astype(float)):
        close(operator.gram(d2), (J * d2) @ J.T)
    close(operator.toarray(), J)
    if room != 2:
        return
    V, Z = RNG.standard_normal((model.m, 3)), RNG.standard_normal((model.n, 2))
    close(operator.matvec(V[:, 0]), J @ V[:, 0])
    close(operator.rmatvec(Z[:, 0]), J.T @ Z[:, 0])
    close(operator.matmat(V), J @ V)
    close(operator.rmatmat(Z), J.T @ Z)


@pytest.mark.parametrize("f", [mlp, residual, convolution], ids=lambda f: f.__name__)
def test_rows_are_those_of_the_whole(f):
    model = JaxModel(f, MLP, X)
    J, w = dense(f, MLP, X), model.w0
    for rows in (np.array([2]), np.array([5, 0, 5, model.n - 1]), np.arange(model.n)):
        close(model.F(w, rows=rows), model.F(w)[rows])
        operator, z = model.jac(w, rows=rows), RNG.standard_normal(rows.size)
        close(operator.matvec(w), J[rows] @ w)
        close(operator.rmatvec(z), J[rows].T @ z)
        close(operator.gram(), J[rows] @ J[rows].T)
    with pytest.raises(ValueError, match="rows"):
        model.F(w, rows=np.array([model.n]))


@jax.custom_vjp
def own_tanh(z):
    return jnp.tanh(z)


own_tanh.defvjp(lambda z: (jnp.tanh(z), z), lambda z, g: (g * (1.0 - jnp.tanh(z) ** 2),))
twice = jax.jit(lambda x, W: jnp.tanh(x @ W))
SMALL = {"W": normal(3, 4), "b": normal(4), "v": normal(4), "s": normal(), "T": normal(3, 4, 5)}
USES = {
    "one compiled function at two places": lambda p, x: twice(x, p["W"]) @ p["v"] + twice(2 * x, p["W"]) @ p["b"],
    "z before its bias is used too": lambda p, x: (lambda z: jnp.tanh(z + p["b"]) @ p["v"] + z @ z)(x @ p["W"]),
    "a bias added twice": lambda p, x: jnp.tanh(x @ p["W"] + p["b"] + p["b"]) @ p["v"],
    "the output is a parameter": lambda p, x: p["b"] * (x @ p["W"]).sum() + p["b"],
    "a branch": lambda p, x: jax.lax.cond(x[0] > 0, lambda: jnp.tanh(x @ p["W"]) @ p["v"], lambda: p["b"] @ p["v"]),
    "in both directions": lambda p, x: jnp.tanh(x @ p["W"] @ p["W"].T @ p["W"]) @ p["v"],
    "einsum": lambda p, x: jnp.einsum("i,ij,j->", x, p["W"], p["v"]) + jnp.sum(p["W"] * jnp.outer(x, p["b"])),
    "a function of a parameter": lambda p, x: jax.nn.relu(p["W"]).sum() * x[0] + x @ jax.nn.softplus(p["W"]) @ p["v"],
    "with a sign": lambda p, x: jnp.tanh(x @ (-p["W"]) - p["b"]) @ (p["v"] / 3.0),
    "in part without a gradient": lambda p, x: jnp.tanh(x @ jax.lax.stop_gradient(p["W"]) + x @ p["W"]) @ p["v"],
    "at three places": lambda p, x: jax.vmap(lambda t: jnp.tanh(t * x @ p["W"] + p["b"]) @ p["v"])(
        jnp.arange(3.0)
    ).sum(),
    "a number": lambda p, x: p["s"] * jnp.tanh(x @ p["W"]) @ p["v"] + p["s"],
    "three axes": lambda p, x: jnp.tensordot(x, p["T"], 1).sum() + jnp.tanh(jnp.einsum("i,ijk->kj", x, p["T"])).sum(),
    "a bias along another axis": lambda p, x: jnp.tanh(jnp.outer(x, p["v"]) + p["b"]).sum(),
    "derivatives of one's own": lambda p, x: own_tanh(x @ p["W"] + p["b"]) @ p["v"],
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("room", [2, 1000])
def test_whatever_a_parameter_is_used_for(monkeypatch, use, room):
    monkeypatch.setattr(_jaxpr, "ROOM", room)
    model, J = JaxModel(USES[use], SMALL, X), dense(USES[use], SMALL, X)
    operator = model.jac(model.w0)
    close(operator.gram(), J @ J.T)
    close(operator.matvec(model.w0), J @ model.w0)
    close(operator.rmatvec(np.arange(1.0, model.n + 1.0)), J.T @ np.arange(1.0, model.n + 1.0))


@pytest.mark.parametrize(("f", "layers"), [(mlp, 5), (residual, 2), (layer_norm, 3), (scaled, 3), (jitted, 2)])
def test_layers_are_found(f, layers):
    assert len(JaxModel(f, MLP, X)._layers.parts) == layers


def test_a_part_of_the_kernel_is_as_good_as_all_of_it(monkeypatch):
    monkeypatch.setattr(_jaxpr, "ROOM", 1000)
    whole = JaxModel(laplacian, MLP, X).jac(JaxModel(laplacian, MLP, X).w0).gram()
    monkeypatch.setattr(_operator, "BLOCK_ROWS", 4)
    monkeypatch.setattr(_operator, "BLOCK_NUMBERS", 1)
    model = JaxModel(laplacian, MLP, X)
    close(model.jac(model.w0).gram(), whole)


@pytest.mark.parametrize("f", [residual, laplacian, recurrent], ids=lambda f: f.__name__)
def test_a_batched_function_is_the_same_model(f):
    model = JaxModel(lambda p, X: jax.vmap(lambda x: f(p, x))(X), MLP, X, batch=True)
    close(model.jac(model.w0).gram(), dense(f, MLP, X) @ dense(f, MLP, X).T)
    assert model.predict(model.w0, X[:4]).shape == (JaxModel(f, MLP, X).predict(model.w0, X[:4])).shape


def test_masked_and_other_leaves_are_no_unknowns():
    params = {
        "layer": {"W": MLP["W"], "b": MLP["b"]},
        "V": MLP["V"],
        "c": MLP["c"],
        "v": MLP["v"],
        "power": 2,
        "n": jnp.arange(3),
    }

    def f(p, x):
        return mlp({**p, **p["layer"]}, x) ** p["power"] + p["n"][1]

    mask = {"layer": True, "V": False, "c": True, "v": False, "power": True, "n": True}
    model = JaxModel(f, params, X, mask=mask)
    assert model.m == 24 + 8 + 7
    w = model.w0 + 0.1
    after = model.params(w)
    assert after["power"] == 2
    np.testing.assert_array_equal(after["V"], params["V"])
    np.testing.assert_allclose(after["layer"]["W"], params["layer"]["W"] + 0.1)
    free = {k: after[k] for k in ("layer", "c")}
    J = dense(lambda p, x: f({**after, **p}, x), free, X)
    order = np.asarray(jax.flatten_util.ravel_pytree(free)[0])
    place = [int(np.flatnonzero(order == v)[0]) for v in w]
    close(model.jac(w).gram(), J @ J.T)
    close(model.jac(w).rmatvec(np.ones(9)), (J.T @ np.ones(9))[place])


@pytest.mark.parametrize("q", [1, 2])
def test_the_iterates_are_those_of_wide_network(q):
    rng = np.random.default_rng(3)
    inputs, y = rng.standard_normal((20, 4)), rng.standard_normal(20 * q)
    net = WideNetwork(inputs, (30, 20), outputs=q, scaling="standard")
    w0, seen = net.init(1), []
    params = []
    for layer in net.layers:
        W, b = layer.split(w0)
        params.append((jnp.asarray(W), jnp.asarray(b)))

    def f(params, x):
        for W, b in params[:-1]:
            x = jnp.tanh(x @ W + b)
        return x @ params[-1][0] + params[-1][1]

    model = JaxModel(f, params, inputs)
    np.testing.assert_array_equal(model.w0, w0)
    for system in (net, model):
        path = []
        assert solve(system.F, system.jac, w0, y, callback=lambda w, path=path: path.append(w.copy())).success
        seen.append(np.array(path))
    np.testing.assert_allclose(seen[1], seen[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("method", ["gauss-newton", "gd", "sgd"])
@pytest.mark.parametrize("f", [mlp, layer_norm], ids=lambda f: f.__name__)
def test_every_method_solves(method, f):
    model = JaxModel(f, MLP, X)
    y = model.F(model.w0) + 0.05 * RNG.standard_normal(model.n)
    sol = solve(model.F, model.jac, model.w0, y, method=method, tol=1e-3, rng=0, max_iter=20_000)
    assert sol.success, sol.message
    close(model.F(sol.x), y + sol.fun)


def test_bounds_and_targets_of_jax():
    model = JaxModel(mlp, MLP, X)
    y = jnp.asarray(model.F(model.w0)) + 0.05
    sol = solve(model.F, model.jac, jnp.asarray(model.w0), y, bounds=(model.w0 - 0.2, model.w0 + 0.2))
    assert sol.success
    assert (np.abs(sol.x - model.w0) <= 0.2 + 1e-15).all()


def points(p, x):
    return laplacian(p, x)


def both(p, x):
    return jnp.stack([3.0 * (p["V"] @ p["c"])[0] * x["a"], x["a"] + mlp(p, x["b"])])


PAIRS = {"a": RNG.standard_normal(4), "b": RNG.standard_normal((4, 3))}


def in_one(p):
    inside = jax.vmap(lambda x: points(p, x))(jnp.asarray(X))
    return jnp.concatenate([inside, jax.vmap(lambda x: both(p, x))(PAIRS).ravel()])


@pytest.mark.parametrize("f", [in_one, [(points, X), (both, PAIRS)]], ids=["one", "terms"])
@pytest.mark.parametrize("formed", [0, 1 << 20])
def test_systems_of_any_kind(monkeypatch, f, formed):
    monkeypatch.setattr(JaxSystem, "_formed", formed)
    system = JaxSystem(f, MLP)
    flat, unravel = jax.flatten_util.ravel_pytree(MLP)
    J = np.asarray(jax.jacrev(lambda w: in_one(unravel(w)))(flat))
    close(system.F(system.w0), np.asarray(in_one(MLP)))
    operator = system.jac(system.w0)
    close(operator.gram(), J @ J.T)
    d2 = RNG.uniform(size=system.m)
    close(operator.gram(d2), (J * d2) @ J.T)
    close(operator.matvec(system.w0), J @ system.w0)
    close(operator.toarray(), J)


@pytest.mark.parametrize("f", [[(mlp, X[:4]), (mlp, X[4:])], lambda p: jax.vmap(lambda x: mlp(p, x))(jnp.asarray(X))])
def test_systems_are_solved(f):
    system = JaxSystem(f, MLP)
    sol = solve(system.F, system.jac, system.w0, system.F(system.w0) + 0.05)
    assert sol.success
    close(JaxModel(mlp, MLP, X).F(sol.x), system.F(sol.x))


def test_functions_are_traced_once():
    traces = []

    def f(p, x):
        traces.append(1)
        return mlp(p, x)

    model = JaxModel(f, MLP, X)
    y = model.F(model.w0) + 0.1
    assert solve(model.F, model.jac, model.w0, y).success
    model.jac(model.w0).matvec(model.w0)
    before = len(traces)
    assert solve(model.F, model.jac, model.w0 + 0.1, y).success
    assert len(traces) == before


def test_an_operator_belongs_to_its_point():
    model = JaxModel(mlp, MLP, X)
    w = model.w0.copy()
    J = model.jac(w)
    before = J.rmatvec(np.ones(9))
    w[:] = 0.0
    np.testing.assert_array_equal(J.rmatvec(np.ones(9)), before)
    f = model.F(model.w0)
    f[:] = 0.0
    assert model.F(model.w0).any()


def test_float32_by_saying_so():
    model = JaxModel(mlp, MLP, X, dtype="float32")
    assert model.F(model.w0).dtype == np.float32
    sol = solve(model.F, model.jac, model.w0, model.F(model.w0) + 0.1)
    assert sol.success
    assert np.linalg.norm(sol.fun) < 1e-5


def test_float64_must_be_enabled():
    code = (
        "import jax.numpy as jnp, plsolve; from plsolve.models import JaxModel\n"
        "f, p, X = lambda p, x: jnp.sin(p * x).sum(), jnp.ones(3), jnp.ones((2, 3))\n"
        "try: JaxModel(f, p, X)\n"
        "except ValueError as e: print(e)\n"
        "m = JaxModel(f, p, X, dtype='float32'); print(m.F(m.w0).dtype)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "jax_enable_x64" in out.stdout
    assert "float32" in out.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"f": 3}, TypeError, "`f`"),
        ({"params": {"a": 1}}, ValueError, "`params`"),
        ({"X": np.zeros((0, 3))}, ValueError, "`X`"),
        ({"X": 1.0}, ValueError, "`X`"),
        ({"X": (np.zeros(2), np.zeros(3))}, ValueError, "`X`"),
        ({"dtype": "half"}, ValueError, "`dtype`"),
        ({"batch": "yes"}, TypeError, "`batch`"),
        ({"f": lambda p, x: mlp(p, x).astype(jnp.float32)}, ValueError, "float32"),
    ],
)
def test_bad_input(change, error, match):
    given = {"f": mlp, "params": MLP, "X": X, **change}
    with pytest.raises(error, match=match):
        JaxModel(given.pop("f"), given.pop("params"), given.pop("X"), **given)


@pytest.mark.parametrize("f", [3, [3], [(3, X)], [(mlp,)]])
def test_bad_terms(f):
    with pytest.raises(TypeError, match="`f`"):
        JaxSystem(f, MLP)


def test_bad_weights():
    model = JaxModel(mlp, MLP, X)
    for call in (model.F, model.jac, model.params):
        with pytest.raises(ValueError, match="`w`"):
            call(np.zeros(3))


def test_what_the_function_raises_passes():
    def out_of_memory(p, x):
        raise MemoryError("on the device")

    with pytest.raises(MemoryError, match="on the device"):
        JaxModel(out_of_memory, MLP, X)
