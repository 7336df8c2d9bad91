"""Systems F(w) = y whose F is a PyTorch module of its trainable parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.func import functional_call, jvp, vjp, vmap

from plsolve._checks import as_choice
from plsolve._linalg import Array, norm, scattered
from plsolve.models._operator import (
    HELD,
    ROOM,
    Block,
    Layer,
    ModelJacobian,
    PickedJacobian,
    Rows,
    adjoint,
    as_rows,
    as_weights,
    divided,
    grouped,
)

_EXPLAINED = 1e-6  # of J^T z: if a parameter's layers explain it less exactly, it is also used outside layers
_MOVED = 1e-2  # of the entries of w0: distance from w0, often a symmetric point, at which layers are looked for
_RANDOM = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_MIXING = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class Use(NamedTuple):
    """One call of a linear layer, with its input a and its output z."""

    weight: str
    bias: str
    a: Any
    z: Any


class TorchModel:
    """A PyTorch module as a system F(w) = y: its outputs at the data, with the tangent kernel computed by layers.

    Parameters
    ----------
    module : torch.nn.Module
        Called with the whole batch, it returns (N,) or (N, q), and no output may depend on another example. Its
        trainable parameters are the unknowns; those with ``requires_grad=False`` are fixed. The module is not changed.
    X : torch.Tensor, array_like or tuple of them
        The N examples, along the first axis. A tuple holds several arguments of the module.
    dtype : {'float64', 'float32'}
        The precision in which the module is evaluated, whatever its own precision. With float32, `plsolve.solve`
        judges the residual by float32's rounding level.

    Attributes
    ----------
    F, jac : callable
        F(w) (n,), where n = N q, and the Jacobian at w as a LinearOperator, which multiplies several vectors at once
        and has ``gram(d2=None)``. Both accept ``rows``, indices of equations, for sgd.
    w0 : ndarray (m,)
        The initial unknowns.
    n, m : int
        The numbers of equations and of unknowns.

    Notes
    -----
    The parameters of each `torch.nn.Linear` contribute (A A^T + 1) o (D D^T) to K, with activations A and
    sensitivities D from one forward and one backward pass. The contributions of the others (scales of a layer norm,
    convolutions) are computed from rows of J. The whole J is never formed.

    Examples
    --------
    >>> import numpy as np, plsolve, torch
    >>> generator = torch.manual_seed(0)
    >>> net = torch.nn.Sequential(torch.nn.Linear(1, 50), torch.nn.Tanh(), torch.nn.Linear(50, 1))
    >>> X = np.linspace(-1, 1, 5)[:, None]
    >>> model = plsolve.models.TorchModel(net, X)
    >>> sol = plsolve.solve(model.F, model.jac, model.w0, np.sin(3 * X[:, 0]))
    >>> sol.success
    True
    """

    def __init__(self, module: nn.Module, X: Any, *, dtype: str = "float64") -> None:
        if not isinstance(module, nn.Module):
            raise TypeError(f"`module` must be a torch.nn.Module, got {type(module).__name__}.")
        dtype = as_choice(dtype, "dtype", ("float64", "float32"))
        refuse_training(module)
        self._module, self._dtype = module, getattr(torch, dtype)
        named = dict(module.named_parameters())
        self._names = [name for name, p in named.items() if p.requires_grad]
        if not self._names:
            raise ValueError("`module` must have a parameter with requires_grad=True.")
        self._device = named[self._names[0]].device
        rest = [*((name, p) for name, p in named.items() if not p.requires_grad), *module.named_buffers()]
        self._fixed = {name: self._cast(value) for name, value in rest}
        self._shapes = [tuple(named[name].shape) for name in self._names]
        ends = np.cumsum([0, *map(math.prod, self._shapes)]).tolist()
        self._where = [slice(start, end) for start, end in pairwise(ends)]
        self.m = ends[-1]
        self.w0: Array = np.concatenate([numbers(named[name]).ravel() for name in self._names])
        self._X = self._examples(X)
        with torch.no_grad():
            f = self._call(self._split(self.w0), self._X)
        if f.dtype != self._dtype or f.shape[:1] != self._X[0].shape[:1]:
            N = len(self._X[0])
            got = f"{f.dtype} of shape {tuple(f.shape)}"
            raise ValueError(f"`module` must return {dtype} of shape ({N},) or ({N}, q), got {got}.")
        self._shape, self.n = tuple(f.shape[1:]), f.numel()
        self._q = self.n // len(f)
        self._find_layers()

    def _examples(self, X: Any) -> tuple[Any, ...]:
        """Convert data to tensors."""
        try:
            tensors = tuple(self._cast(torch.as_tensor(x)) for x in (X if isinstance(X, tuple) else (X,)))
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"`X` cannot be converted to tensors of numbers: {error}") from error
        if len({x.shape[:1] for x in tensors}) != 1 or tensors[0].shape[:1] in ((), (0,)):
            raise ValueError("`X` must be a tensor, or a tuple of them, with one entry for each example.")
        return tensors

    def _cast(self, value: Any) -> Any:
        """Move a tensor to the module's device, and floating-point tensors to the precision of the model."""
        dtype = self._dtype if value.is_floating_point() else value.dtype
        return value.detach().to(device=self._device, dtype=dtype)

    def __repr__(self) -> str:
        return f"TorchModel(n={self.n}, m={self.m})"

    def F(self, w: Array, rows: Any = None) -> npt.NDArray[Any]:
        """Evaluate the outputs at the examples.

        Parameters
        ----------
        w : array_like (m,)
            The unknowns.
        rows : ndarray of int (k,), optional
            Indices of the equations to evaluate; all by default.

        Returns
        -------
        ndarray (n,) or (k,)
            F(w), or its entries ``rows``.
        """
        data, places = self._some(rows)
        with torch.no_grad():
            f: npt.NDArray[Any] = self._call(self._split(w), data).reshape(-1).cpu().numpy()
        return f if places is None else f[places]

    def jac(self, w: Array, rows: Any = None) -> ModelJacobian | PickedJacobian:
        """Return the Jacobian at w as an operator that can compute its tangent kernel.

        Parameters
        ----------
        w : array_like (m,)
            The unknowns.
        rows : ndarray of int (k,), optional
            Indices of the equations to evaluate; all by default.

        Returns
        -------
        scipy.sparse.linalg.LinearOperator (n, m) or (k, m)
            J(w), or its rows ``rows``.
        """
        data, places = self._some(rows)
        J = ModelJacobian(TorchPoint(self, self._split(w), data))
        return J if places is None else PickedJacobian(J, places)

    #: Neither function writes into w, so that `solve` need not copy it.
    F.reads_only = jac.reads_only = True  # type: ignore[attr-defined]

    def params(self, w: Any) -> dict[str, Any]:
        """Return the state of the module, with the unknowns taken from w.

        Parameters
        ----------
        w : array_like (m,)
            The unknowns.

        Returns
        -------
        dict
            A state dict for ``module.load_state_dict``.
        """
        now = dict(zip(self._names, self._split(w), strict=True)) | self._fixed
        owners = {id(p): name for name, p in self._module.named_parameters()}
        state = self._module.state_dict(keep_vars=True)
        return {name: now[owners.get(id(value), name)] for name, value in state.items()}

    def predict(self, w: Any, X: Any) -> npt.NDArray[Any]:
        """Evaluate the outputs at other examples.

        Parameters
        ----------
        w : array_like (m,)
            The unknowns.
        X : array_like or torch.Tensor (N, ...), or a tuple of them
            The examples.

        Returns
        -------
        ndarray (N,) or (N, q)
            One output for each example, or q outputs.
        """
        X = self._examples(X)
        with torch.no_grad():
            f: npt.NDArray[Any] = self._call(self._split(w), X).cpu().numpy()
        return f

    def _split(self, w: Any) -> list[Any]:
        """Copy w, which the caller may change later, to the trainable parameters."""
        flat = torch.as_tensor(as_weights(w, self.m).copy()).to(device=self._device, dtype=self._dtype)
        return [flat[where].reshape(shape) for where, shape in zip(self._where, self._shapes, strict=True)]

    def _call(self, params: Sequence[Any], X: Any) -> Any:
        return functional_call(self._module, dict(zip(self._names, params, strict=True)) | self._fixed, X)

    def _some(self, rows: Any) -> tuple[Any, Any]:
        """The examples that contain the equations ``rows``, and the positions of these among all their equations."""
        if rows is None:
            return self._X, None
        wanted, places = as_rows(rows, self.n, self._q)
        return tuple(x[torch.as_tensor(wanted, device=self._device)] for x in self._X), places

    # -- layers -------------------------------------------------------------------------------------------------------

    def _find_layers(self) -> None:
        """Find the parameters used only in linear layers, and the others whose rows of J can be held."""
        places = {name: i for i, name in enumerate(self._names)}
        self._layers: set[int] = set(range(len(self._names)))
        self._held: list[int] = []
        self._groups: list[tuple[tuple[int, ...], int]] = []
        size = norm(self.w0) / math.sqrt(self.m)
        params = self._split(self.w0 + _MOVED * (size if size > 0.0 else 1.0) * scattered(self.w0, 1))
        few = tuple(x[: min(len(x), 2)] for x in self._X)
        uses, D = self._at_work(params, few)
        self._layers = {places[name] for use in uses for name in (use.weight, use.bias) if name in places}
        point = TorchPoint(self, params, few)
        z = scattered(np.zeros(point.n), 2)
        g, where = point.adjoints(z[:, None])[:, 0], self._where
        explained = set()
        for part in point.layers(uses, D):
            i = next(i for i, w in enumerate(where) if w == part.where)
            if norm(adjoint(part, z) - g[part.where]) <= _EXPLAINED * norm(g[part.where]) and worth(part):
                explained.add(i)
        self._layers = explained
        others = [i for i in range(len(self._names)) if i not in explained]
        self._held, others = divided(others, self._shapes, self.n, self.m)
        sizes = [math.prod(shape) for shape in self._shapes]
        self._groups = grouped(others, sizes, self.m, self.n * sum(sizes[i] for i in others) <= HELD)

    @contextmanager
    def _noted(self, uses: list[Use], count: int) -> Iterator[None]:
        """Within this context, linear layers record their inputs and outputs."""
        names = {id(p): name for name, p in self._module.named_parameters()}
        handles = []

        def hook_of(weight: str, bias: str) -> Callable[..., Any]:
            def hook(module: Any, inputs: tuple[Any, ...], z: Any) -> Any:
                if z.requires_grad and len(z) == count:
                    uses.append(Use(weight=weight, bias=bias, a=inputs[0].detach(), z=z))
                    return z.clone()  # later operations may write into z
                return None

            return hook

        for layer in self._module.modules():
            if type(layer) is nn.Linear:
                weight, bias = (names.get(id(p), "") for p in (layer.weight, layer.bias))
                handles.append(layer.register_forward_hook(hook_of(weight, bias)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _at_work(self, params: Sequence[Any], X: Any) -> tuple[list[Use], list[Any]]:
        """The calls of linear layers at w, and df/dz (N, q, U, fan-out) for each."""
        leaves = [p.detach().requires_grad_(i in self._layers) for i, p in enumerate(params)]
        uses: list[Use] = []
        with torch.enable_grad(), self._noted(uses, len(X[0])):
            f = self._call(leaves, X).reshape(len(X[0]), -1)
        if not uses:
            return uses, []
        z, q = [use.z for use in uses], f.shape[1]
        slopes = [
            torch.autograd.grad(f[:, k].sum(), z, retain_graph=k + 1 < q, materialize_grads=True) for k in range(q)
        ]
        return uses, [
            torch.stack([slope[i].reshape(len(f), -1, use.z.shape[-1]) for slope in slopes], dim=1)
            for i, use in enumerate(uses)
        ]


class TorchPoint:
    """A model at w: the torch version of `plsolve.models._operator.Point`."""

    def __init__(self, model: TorchModel, params: list[Any], X: Any) -> None:
        self._model, self._params, self._X = model, params, X
        self.n, self.m = len(X[0]) * model._q, model.m
        self.blocks = [self._block(leaves, count) for leaves, count in model._groups]
        self.near = model._dtype == torch.float32 or model._device.type == "cpu"

    def _block(self, leaves: tuple[int, ...], count: int) -> Block:
        q, N = self._model._q, len(self._X[0])
        step = -(-N // count)
        chunks = [slice(i * q, min(i + step, N) * q) for i in range(0, N, step)]
        return Block(leaves=leaves, where=[self._model._where[i] for i in leaves], chunks=chunks)

    def _value(self, params: Sequence[Any]) -> Any:
        return self._model._call(params, self._X).reshape(-1)

    def products(self, V: Array) -> Array:
        tangents = self._model_tensors(V.T)

        def product(*tangent: Any) -> Any:
            return jvp(lambda *params: self._value(params), tuple(self._params), tangent)[1]

        if V.shape[1] == 1:
            return self.host(product(*(t[0] for t in tangents)))[:, None]
        return self.host(vmap(product)(*tangents)).T

    def _model_tensors(self, V: Array) -> list[Any]:
        """Split the vectors V (s, m) into one tensor for each parameter."""
        model = self._model
        parts = zip(model._where, model._shapes, strict=True)
        return [self._tensor(V[:, where]).reshape(len(V), *shape) for where, shape in parts]

    def _tensor(self, x: Array) -> Any:
        return torch.as_tensor(x.copy()).to(device=self._model._device, dtype=self._model._dtype)

    def adjoints(self, Z: Array) -> Array:
        back = vjp(lambda *params: self._value(params), *self._params)[1]
        z = self._tensor(Z.T)
        slopes = [slope[None] for slope in back(z[0])] if len(z) == 1 else vmap(back)(z)
        out = np.empty((self.m, len(z)))
        for where, slope in zip(self._model._where, slopes, strict=True):
            out[where] = self.host(slope.reshape(len(z), -1)).T
        return out

    def parts(self) -> list[Layer | Rows]:
        uses, D = self._model._at_work(self._params, self._X) if self._model._layers else ([], [])
        held = self._model._held
        rows = self._rows(held, self._X) if held else []
        return [
            *self.layers(uses, D),
            *(Rows(J=self._kept(J), where=self._model._where[i]) for i, J in zip(held, rows, strict=True)),
        ]

    def _kept(self, x: Any) -> Any:
        return self.host(x) if self.near else x

    def layers(self, uses: Sequence[Use], D: Sequence[Any]) -> list[Layer]:
        """The parameters in linear layers, each with all of its uses."""
        model, N = self._model, len(self._X[0])
        found: dict[str, list[int]] = {}
        for i, use in enumerate(uses):
            for name in (use.weight, use.bias):
                found.setdefault(name, []).append(i)
        together: dict[tuple[int, ...], Any] = {}
        layers = []
        for j, name in enumerate(model._names):
            numbers = tuple(found.get(name, ()))
            if not numbers or j not in model._layers:
                continue
            if numbers not in together:  # a weight and its bias have the same sensitivities
                together[numbers] = self._kept(torch.cat([D[i] for i in numbers], dim=2))
            by_weight = uses[numbers[0]].weight == name
            inputs = [uses[i].a.reshape(N, -1, uses[i].a.shape[-1]) for i in numbers]
            A = torch.cat(inputs, dim=1) if by_weight else torch.ones_like(torch.cat(inputs, dim=1)[:, :, :1])
            shape, axes = model._shapes[j], (1, 0) if by_weight else (0,)
            layers.append(Layer(A=self._kept(A), D=together[numbers], where=model._where[j], shape=shape, axes=axes))
        return layers

    def _rows(self, which: Sequence[int], X: Any) -> list[Any]:
        """The columns of J (N, q, ...) for the parameters ``which``, at the examples X."""
        some = tuple(self._params[i] for i in which)

        def of_one(*x: Any) -> Any:
            def f(*some: Any) -> Any:
                return self._model._call(self._with(which, some), tuple(a[None] for a in x)).reshape(-1)

            back = vjp(f, *some)[1]
            return vmap(back)(torch.eye(self._model._q, dtype=self._model._dtype, device=self._model._device))

        return list(vmap(of_one)(*X))

    def _with(self, which: Sequence[int], some: Sequence[Any]) -> list[Any]:
        params = list(self._params)
        for i, value in zip(which, some, strict=True):
            params[i] = value
        return params

    def rows(self, block: Block, chunk: int) -> Any:
        some, q = block.chunks[chunk], self._model._q
        J = self._rows(block.leaves, tuple(x[some.start // q : some.stop // q] for x in self._X))
        return self._kept(torch.cat([j.reshape(j.shape[0] * j.shape[1], -1) for j in J], dim=1))

    def like(self, x: Array) -> Any:
        return x if self.near else self._tensor(x)

    def host(self, array: Any) -> Array:
        return numbers(array)


def numbers(tensor: Any) -> Array:
    """Convert a tensor to an array of float64."""
    array: Array = tensor if isinstance(tensor, np.ndarray) else tensor.detach().cpu().double().numpy()
    return array


def worth(part: Layer) -> bool:
    """Whether inputs and sensitivities need less memory than the rows of J that they replace."""
    uses, fan_in = part.A.shape[1:]
    q, fan_out = part.D.shape[1], part.D.shape[3]
    return uses * (fan_in + q * fan_out) <= ROOM * q * fan_in * fan_out  # type: ignore[no-any-return]


def refuse_training(module: nn.Module) -> None:
    """Raise an error if outputs would be random or depend on other examples."""
    for name, layer in module.named_modules():
        if layer.training and isinstance(layer, (*_RANDOM, *_MIXING)):
            raise ValueError(
                f"`module` must be in evaluation mode: its layer {name!r} ({type(layer).__name__}) is random or mixes "
                "examples in training mode. Call module.eval()."
            )
