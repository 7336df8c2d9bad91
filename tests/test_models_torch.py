"""TorchModel against dense Jacobians of torch, and against WideNetwork."""

import warnings

import numpy as np
import pytest

from plsolve import solve
from plsolve.networks import WideNetwork

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from plsolve.models import TorchModel, _operator, _torch  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's forward mode of itself
RNG = np.random.default_rng(0)
X = RNG.standard_normal((9, 6))


class Residual(nn.Module):
    """In place, with a skip, and one layer twice."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x):
        h = nn.functional.relu(self.a(x), inplace=True)
        h = h + torch.tanh(self.b(h))
        return self.c(torch.tanh(self.b(h)))


class Outside(nn.Module):
    """A weight of a layer is used outside it too, and a parameter in no layer."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.s = nn.Linear(6, 8), nn.Linear(8, 1), nn.Parameter(torch.tensor(0.3))

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)) * self.s)[:, 0] + (x @ self.a.weight.T).sum(1)


class Sequence(nn.Module):
    """Layers at each of three places."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(2, 8), nn.Linear(8, 7, bias=False)

    def forward(self, x):
        return torch.tanh(self.b(torch.tanh(self.a(x.reshape(-1, 3, 2))))).sum((1, 2))


class Convolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv1d(1, 4, 3, padding=1), nn.Linear(24, 2)

    def forward(self, x):
        return self.b(torch.tanh(self.a(x[:, None])).flatten(1))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False)
        self.b.weight = self.a.weight

    def forward(self, x):
        return torch.tanh(self.b(torch.tanh(self.a(x)))).sum(1)


def mlp():
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 7), nn.Softplus(), nn.Linear(7, 1))


def layer_norm():
    return nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.BatchNorm1d(8), nn.Linear(8, 2)).eval()


MODULES = [mlp, Residual, Outside, Sequence, Convolution, Tied, layer_norm]


def built(make):
    torch.manual_seed(1)
    return make()


def dense(module, params):
    names = [name for name, p in module.named_parameters() if p.requires_grad]
    buffers = {name: b.double() if b.is_floating_point() else b for name, b in module.named_buffers()}
    fixed = {name: p.detach().double() for name, p in module.named_parameters()} | buffers
    x = torch.as_tensor(X)

    def f(*values):
        return torch.func.functional_call(module, fixed | dict(zip(names, values, strict=True)), (x,)).reshape(-1)

    J = torch.autograd.functional.jacobian(f, tuple(params))
    return np.concatenate([j.reshape(j.shape[0], -1).numpy() for j in J], axis=1)


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13 * np.abs(b).max())


@pytest.mark.parametrize("make", MODULES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("room", [0, 2, 1000])
def test_every_product_and_kernel_agrees_with_the_dense_jacobian(monkeypatch, make, room):
    """room 0: all by chunks of rows; 1000: all in linear layers by their inputs and sensitivities."""
    monkeypatch.setattr(_torch, "ROOM", room)
    monkeypatch.setattr(_operator, "HELD", 1 << 20 if room == 2 else 0)
    monkeypatch.setattr(_operator, "SHARE", 8 if room == 2 else 1 << 30)
    module = built(make)
    model = TorchModel(module, X)
    w = model.w0 + 0.1 * RNG.standard_normal(model.m)
    J = dense(module, model._split(w))
    assert (model.n, model.m) == J.shape
    f = model.F(w)
    np.testing.assert_allclose(f.reshape(model.predict(w, X).shape), model.predict(w, X), rtol=1e-14)
    operator = model.jac(w)
    V, Z = RNG.standard_normal((model.m, 3)), RNG.standard_normal((model.n, 2))
    close(operator.rmatvec(Z[:, 0]), J.T @ Z[:, 0])
    close(operator.gram(), J @ J.T)
    close(operator.rmatvec(Z[:, 0]), J.T @ Z[:, 0])
    close(operator.toarray(), J)
    close(operator.matvec(V[:, 0]), J @ V[:, 0])
    close(model.jac(w).matvec(V[:, 0]), J @ V[:, 0])
    close(operator.matmat(V), J @ V)
    close(operator.rmatmat(Z), J.T @ Z)
    for d2 in (RNG.uniform(size=model.m), (RNG.uniform(size=model.m) < 0.9).astype(float)):
        close(operator.gram(d2), (J * d2) @ J.T)
    for rows in (np.array([2]), np.array([5, 0, 5, model.n - 1]), np.arange(model.n)):
        close(model.F(w, rows=rows), f[rows])
        some, z = model.jac(w, rows=rows), RNG.standard_normal(rows.size)
        close(some.matvec(w), J[rows] @ w)
        close(some.rmatvec(z), J[rows].T @ z)
        close(some.gram(), J[rows] @ J[rows].T)


@pytest.mark.parametrize(
    ("make", "layers"),
    [(mlp, 6), (Residual, 5), (Outside, 3), (Sequence, 2), (Convolution, 2), (Tied, 1), (layer_norm, 4)],
)
def test_layers_are_found(make, layers):
    assert len(TorchModel(built(make), X)._layers) == layers


def test_a_part_of_the_kernel_is_as_good_as_all_of_it(monkeypatch):
    model = TorchModel(built(Residual), X)
    whole = model.jac(model.w0).gram()
    monkeypatch.setattr(_operator, "BLOCK_ROWS", 4)
    monkeypatch.setattr(_operator, "BLOCK_NUMBERS", 1)
    close(model.jac(model.w0).gram(), whole)


def test_frozen_parameters_are_no_unknowns_and_the_module_stays_as_it_is():
    module = built(layer_norm)
    module[0].weight.requires_grad_(False)
    module[3].bias.requires_grad_(False)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    model = TorchModel(module, X)
    assert model.m == sum(p.numel() for p in module.parameters() if p.requires_grad)
    J = dense(module, model._split(model.w0))
    close(model.jac(model.w0).gram(), J @ J.T)
    y = model.F(model.w0) + 0.05
    sol = solve(model.F, model.jac, model.w0, y, max_iter=5)
    after = module.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(p.dtype == torch.float32 for p in module.parameters())
    module.double().load_state_dict(model.params(sol.x))
    np.testing.assert_allclose(module(torch.as_tensor(X)).detach().ravel(), model.F(sol.x), rtol=1e-13)


@pytest.mark.parametrize("q", [1, 2])
def test_the_iterates_are_those_of_wide_network(q):
    rng = np.random.default_rng(3)
    inputs, y = rng.standard_normal((20, 4)), rng.standard_normal(20 * q)
    net = WideNetwork(inputs, (30, 20), outputs=q, scaling="standard")
    w0 = net.init(1)
    module = nn.Sequential(nn.Linear(4, 30), nn.Tanh(), nn.Linear(30, 20), nn.Tanh(), nn.Linear(20, q)).double()
    parts = [layer.split(w0) for layer in net.layers]
    with torch.no_grad():
        for layer, (W, b) in zip(module[::2], parts, strict=True):
            layer.weight.copy_(torch.as_tensor(W.T.copy()))
            layer.bias.copy_(torch.as_tensor(b.copy()))
    model = TorchModel(module, inputs)

    def as_net(w):
        return np.concatenate(
            [
                np.concatenate([v[f"{2 * i}.weight"].T.ravel(), v[f"{2 * i}.bias"]])
                for v in [model.params(w)]
                for i in range(3)
            ]
        )

    np.testing.assert_array_equal(as_net(model.w0), w0)
    seen = []
    for system, start, back in ((net, w0, lambda w: w.copy()), (model, model.w0, as_net)):
        path = []
        sol = solve(system.F, system.jac, start, y, callback=lambda w, path=path, back=back: path.append(back(w)))
        assert sol.success
        seen.append(np.array(path))
    np.testing.assert_allclose(seen[1], seen[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("method", ["gauss-newton", "gd", "sgd"])
@pytest.mark.parametrize("make", [mlp, layer_norm], ids=lambda f: f.__name__)
def test_every_method_solves(method, make):
    model = TorchModel(built(make), X)
    y = torch.as_tensor(model.F(model.w0) + 0.05 * RNG.standard_normal(model.n))
    sol = solve(model.F, model.jac, torch.as_tensor(model.w0), y, method=method, tol=1e-2, rng=0, max_iter=20_000)
    assert sol.success, sol.message


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_functions_of_tensors_need_no_model(dtype):
    A = torch.as_tensor(RNG.standard_normal((3, 8)), dtype=dtype)

    def F(w):
        return torch.sinh(A @ torch.as_tensor(w, dtype=dtype).requires_grad_())

    def jac(w):
        return torch.cosh(A @ torch.as_tensor(w, dtype=dtype))[:, None] * A

    sol = solve(F, jac, torch.zeros(8, dtype=dtype), torch.ones(3, dtype=dtype))
    assert sol.success
    assert isinstance(sol.x, np.ndarray)


def test_bounds():
    model = TorchModel(built(mlp), torch.as_tensor(X))
    sol = solve(model.F, model.jac, model.w0, model.F(model.w0) + 0.05, bounds=(model.w0 - 0.2, model.w0 + 0.2))
    assert sol.success
    assert (np.abs(sol.x - model.w0) <= 0.2 + 1e-15).all()


def test_read_only_arrays_bring_no_warning():
    model = TorchModel(built(mlp), X)
    w = model.w0.copy()
    w.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        J = model.jac(w)
        J.gram()
        J.rmatvec(model.F(w))
        J.matvec(w)


def test_an_operator_belongs_to_its_point():
    model = TorchModel(built(mlp), X)
    w = model.w0.copy()
    J = model.jac(w)
    before = J.rmatvec(np.ones(9))
    w[:] = 0.0
    np.testing.assert_array_equal(J.rmatvec(np.ones(9)), before)


def test_float32_by_saying_so():
    model = TorchModel(built(mlp), X, dtype="float32")
    assert model.F(model.w0).dtype == np.float32
    sol = solve(model.F, model.jac, model.w0, model.F(model.w0) + 0.1)
    assert sol.success
    assert np.linalg.norm(sol.fun) < 1e-5


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"module": 3}, TypeError, "`module`"),
        ({"module": nn.Tanh()}, ValueError, "requires_grad"),
        ({"module": nn.Sequential(nn.Linear(6, 1), nn.Dropout(0.1))}, ValueError, r"module.eval\(\)"),
        ({"module": nn.Sequential(nn.Linear(6, 2), nn.BatchNorm1d(2))}, ValueError, r"module.eval\(\)"),
        ({"module": nn.Sequential(nn.Linear(6, 2), nn.Flatten(0))}, ValueError, "`module` must return"),
        ({"X": np.zeros((0, 6))}, ValueError, "`X`"),
        ({"X": 1.0}, ValueError, "`X`"),
        ({"X": (np.zeros(2), np.zeros(3))}, ValueError, "`X`"),
        ({"dtype": "half"}, ValueError, "`dtype`"),
    ],
)
def test_bad_input(change, error, match):
    given = {"module": built(mlp), "X": X, **change}
    with pytest.raises(error, match=match):
        TorchModel(given.pop("module"), given.pop("X"), **given)


def test_bad_weights_and_rows():
    model = TorchModel(built(mlp), X)
    for call in (model.F, model.jac, model.params):
        with pytest.raises(ValueError, match="`w`"):
            call(np.zeros(3))
    with pytest.raises(ValueError, match="rows"):
        model.F(model.w0, rows=np.array([9]))


def test_what_the_module_raises_passes():
    class Full(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(6, 1)
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            if self.calls > 6:
                raise torch.OutOfMemoryError("on the device")
            return self.a(x)

    model = TorchModel(Full(), X)
    with pytest.raises(torch.OutOfMemoryError, match="on the device"):
        solve(model.F, model.jac, model.w0, np.ones(9))
