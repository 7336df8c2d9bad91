"""Wide networks as systems F(w) = y, with the tangent kernel from layer products instead of the Jacobian.

Layer l = 1, ..., L+1 maps A_{l-1} (n x m_{l-1}, A_0 = X) to Z_l = c_l A_{l-1} W_l + b_l and A_l = sigma(Z_l); the last
one gives the outputs. c_l = 1/sqrt(m_{l-1}) with NTK scaling, 1 with the standard one. With the sensitivities
D_l = df/dZ_l (n x m_l, one row for each equation), found by one backward pass,

    J v   = SUM_l rowsum(D_l o (c_l A_{l-1} V_l + v_l)),
    J^T z = (c_l A_{l-1}^T (z o D_l), D_l^T z)_l,
    K     = SUM_l (c_l^2 A_{l-1} A_{l-1}^T + 1) o (D_l D_l^T),        o = elementwise, + 1 for the bias,

so that K takes n^2 SUM m_l operations where forming it from J takes n^2 SUM m_{l-1} m_l, and n SUM m_l numbers in
memory instead of n m.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse.linalg import LinearOperator
from scipy.special import ndtr

from plsolve._checks import as_count, as_flag, as_float, as_number, as_real, check_finite, generator
from plsolve._tangent.layers import layer_kernel

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Function = Callable[[Array], Array]

if TYPE_CHECKING:
    _Operator = LinearOperator[np.float64]
else:
    _Operator = LinearOperator

_BLOCK_NUMBERS = 1 << 17  # in one temporary of a blocked pass (1 MiB: it stays in the cache)
_COLUMNS = 512  # of a matrix product with several vectors
_BLOCK_ROWS = 512  # rows of K at a time
UNITS = 1_000_000_000  # in a layer; more are a slip
_PROBES = 64  # entries of w that tell most points apart


class Activation(NamedTuple):
    """sigma and its derivative, from z alone or, where ``by_value``, from a = sigma(z) alone."""

    value: Callable[[Array, Array], object]  # (z, out); out may be z
    slope: Function
    by_value: bool


def _tanh_slope(a: Array) -> Array:
    s: Array = a * a
    return np.subtract(1.0, s, out=s)


def _gelu(z: Array, out: Array) -> None:
    np.multiply(z, ndtr(z), out=out)


def _gelu_slope(z: Array) -> Array:
    s: Array = ndtr(z) + z * np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    return s


def _softplus(z: Array, out: Array) -> None:
    np.logaddexp(0.0, z, out=out)


ACTIVATIONS = {
    "tanh": Activation(lambda z, out: np.tanh(z, out=out), _tanh_slope, True),
    "relu": Activation(lambda z, out: np.maximum(z, 0.0, out=out), lambda a: (a > 0.0).astype(np.float64), True),
    "softplus": Activation(_softplus, lambda a: -np.expm1(-a), True),
    "gelu": Activation(_gelu, _gelu_slope, False),
}


def as_activation(activation: Any, name: str) -> Activation:
    """The activation of that name, or made of a pair (sigma, derivative)."""
    if isinstance(activation, str) and activation in ACTIVATIONS:
        return ACTIVATIONS[activation]
    if isinstance(activation, Sequence) and len(activation) == 2 and all(callable(f) for f in activation):
        function, slope = activation

        def value(z: Array, out: Array) -> None:
            out[...] = function(z)

        return Activation(value, lambda z: np.array(slope(z), dtype=np.float64), False)
    raise ValueError(f"`{name}` must be one of {', '.join(ACTIVATIONS)} or a pair (f, df), got {activation!r}.")


def as_widths(widths: Any) -> list[int]:
    """One or several positive integers."""
    listed = isinstance(widths, (list, tuple, range)) or (isinstance(widths, np.ndarray) and widths.ndim > 0)
    several = list(widths) if listed else [widths]
    if not several:
        raise ValueError("`widths` must have at least one entry.")
    return [as_count(width, "widths", 1, UNITS) for width in several]


def as_generator(rng: Any) -> np.random.Generator:
    return generator(rng) or np.random.default_rng()


def slices(n: int, size: int) -> Iterator[slice]:
    """0, ..., n in pieces of this size."""
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


class Layer(NamedTuple):
    """Z = factor A W + b: where W and b lie in w, -1 where they are not trained but stand in the network."""

    fan_in: int
    fan_out: int
    factor: float
    start: int  # of W in w, row by row; b follows
    W: Array
    b: Array

    @property
    def trained(self) -> bool:
        return self.start >= 0

    @property
    def wide(self) -> bool:
        """Whether D_l is wider than A_{l-1}."""
        return self.fan_in < self.fan_out

    def blocks(self, n: int) -> Iterator[slice]:
        """Slices of n rows: temporaries stay in the cache, and no block has fewer rows than W."""
        return slices(n, max(_BLOCK_NUMBERS // min(self.fan_in, self.fan_out), self.fan_in, self.fan_out))

    def batches(self, columns: int) -> Iterator[slice]:
        """Slices of the columns that are multiplied at once, for the matrix products to be worth their name."""
        return slices(columns, max(1, _COLUMNS // min(self.fan_in, self.fan_out)))

    def rows(self, V: Array) -> Array:
        """W, with b as one more row, in each of the vectors V (s, m): a view (s, fan-in or one more, fan-out)."""
        end = self.start + self.fan_in * self.fan_out + self.b.size
        return V[:, self.start : end].reshape(len(V), -1, self.fan_out)

    def split(self, w: Array) -> tuple[Array, Array]:
        """W and b in w; b empty without biases."""
        if not self.trained:
            return self.W, self.b
        end = self.start + self.fan_in * self.fan_out
        return w[self.start : end].reshape(self.fan_in, self.fan_out), w[end : end + self.b.size]


class WideNetwork:
    """A fully connected network at the data X: the system F(w) = y of fitting it, one equation a point and output.

    Parameters
    ----------
    X : array_like (n, d)
        Inputs.
    widths : sequence of int
        Units of the hidden layers.
    activation : {'tanh', 'relu', 'softplus', 'gelu'} or (f, df)
        Of the hidden units; a pair of functions gives f and its derivative, elementwise.
    outputs : int
        With q outputs F has n q equations, those of one point side by side: entry i q + k is output k at point i.
    bias : bool
        Whether layers have biases.
    scaling : {'ntk', 'standard'}
        'ntk': weights of variance 1, layers divided by sqrt(fan-in); 'standard': weights of variance 1/fan-in.
    train : {'all', 'first', 'hidden'}
        The layers in w: all, the first one, or all but the last. The others are drawn once, by ``rng``: output weights
        +-1 (over sqrt(fan-in) in standard scaling), hidden ones as `init` draws them, biases zero.
    output_activation : None, name or (f, df)
        Applied to the outputs; None: linear.
    rng : int, numpy.random.Generator, ...
        For the layers that are not trained.

    Attributes
    ----------
    n, m : int
        Equations and unknowns. w holds layer by layer W (fan-in x fan-out, by rows), then b.

    Examples
    --------
    >>> import numpy as np
    >>> from plsolve import solve
    >>> from plsolve.networks import WideNetwork
    >>> x = np.linspace(-1, 1, 8)[:, None]
    >>> net = WideNetwork(3 * x, (300, 300))
    >>> sol = solve(net.F, net.jac, net.init(0), np.abs(x[:, 0]))
    >>> sol.success, net.m
    (True, 91201)
    """

    def __init__(
        self,
        X: Any,
        widths: Sequence[int],
        activation: Any = "tanh",
        outputs: int = 1,
        bias: bool = True,
        scaling: str = "ntk",
        train: str = "all",
        *,
        output_activation: Any = None,
        rng: Any = 0,
    ) -> None:
        self.X = self._inputs(X)
        sizes = [self.X.shape[1], *as_widths(widths), as_count(outputs, "outputs", 1, UNITS)]
        if str(scaling) not in ("ntk", "standard"):
            raise ValueError(f"`scaling` must be 'ntk' or 'standard', got {scaling!r}.")
        if str(train) not in ("all", "first", "hidden"):
            raise ValueError(f"`train` must be 'all', 'first' or 'hidden', got {train!r}.")
        self.activation = as_activation(activation, "activation")
        self.output = None if output_activation is None else as_activation(output_activation, "output_activation")
        self.outputs, self.bias, self.ntk = sizes[-1], as_flag(bias, "bias"), str(scaling) == "ntk"
        trained = {"all": len(sizes) - 1, "first": 1, "hidden": len(sizes) - 2}[str(train)]
        self.layers: list[Layer] = []
        self.m = 0
        generator = as_generator(rng)
        for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
            factor, start, W = 1.0 / math.sqrt(fan_in) if self.ntk else 1.0, -1, np.zeros((0, 0))
            b = np.zeros(fan_out if self.bias else 0)
            if i < trained:
                start, self.m = self.m, self.m + fan_in * fan_out + b.size
            elif i == len(sizes) - 2:
                W = generator.choice([-1.0, 1.0], (fan_in, fan_out)) * self._deviation(fan_in)
            else:
                W = generator.standard_normal((fan_in, fan_out)) * self._deviation(fan_in)
            self.layers.append(Layer(fan_in, fan_out, factor, start, W, b))
        self.n = len(self.X) * self.outputs
        self._last: Point | None = None

    def _deviation(self, fan_in: int) -> float:
        """Standard deviation of the weights."""
        return 1.0 if self.ntk else 1.0 / math.sqrt(fan_in)

    def _inputs(self, inputs: Any) -> Array:
        X: Array = np.array(as_float(inputs, "X"), order="C")
        if X.ndim != 2 or X.size == 0:
            raise ValueError(f"`X` must have shape (n, d), got {X.shape}.")
        check_finite(X, "X")
        return X

    def __repr__(self) -> str:
        sizes = " - ".join(str(layer.fan_in) for layer in self.layers)
        return f"WideNetwork({sizes} - {self.outputs}, n={self.n}, m={self.m})"

    def init(self, rng: Any = None, first: float = 1.0) -> Array:
        """Normal weights and biases (m,), of deviation 1, or 1/sqrt(fan-in) in standard scaling; output biases zero.

        ``first`` multiplies the first layer: the steeper its units, the better the kernel is conditioned.
        """
        generator, first = as_generator(rng), as_number(first, "first")
        if not math.isfinite(first):
            raise ValueError(f"`first` must be finite, got {first}.")
        w = np.zeros(self.m)
        for i, layer in enumerate(self.layers):
            if not layer.trained:
                continue
            deviation = self._deviation(layer.fan_in) * (first if i == 0 else 1.0)
            for part in layer.split(w)[: 1 if i == len(self.layers) - 1 else 2]:
                generator.standard_normal(out=part.reshape(-1))
                part *= deviation
        return w

    def F(self, w: Array, rows: Indices | None = None) -> Array:
        """The outputs (n,) at the data, or the entries ``rows`` of them."""
        w = self._weights(w)
        if rows is not None:
            rows = self._rows(rows)
            f = self._forward(w, self.X[rows // self.outputs], None)
            return np.asarray(f[np.arange(len(rows)), rows % self.outputs])
        return self._point(w).f.flatten()

    def jac(self, w: Array, rows: Indices | None = None) -> NetworkJacobian:
        """The Jacobian (n, m), or the rows ``rows`` of it, as an operator that knows its tangent kernel."""
        w = self._weights(w)
        if rows is None:
            return NetworkJacobian(self, self._point(w), None)
        rows = self._rows(rows)
        return NetworkJacobian(self, self._evaluated(w, self.X[rows // self.outputs]), rows % self.outputs)

    #: Neither writes into w: `solve` need not copy it for them.
    F.reads_only = jac.reads_only = True  # type: ignore[attr-defined]

    def predict(self, w: Array, X: Any) -> Array:
        """The outputs at other inputs X (N, d): (N,), or (N, outputs) if there are several."""
        w, X = self._weights(w), self._inputs(X)
        if X.shape[1] != self.X.shape[1]:
            raise ValueError(f"`X` must have {self.X.shape[1]} columns, got {X.shape[1]}.")
        rows = max(256, 8 * _BLOCK_NUMBERS // max(layer.fan_out for layer in self.layers))
        f = np.concatenate([self._forward(w, X[i : i + rows], None) for i in range(0, len(X), rows)])
        return f[:, 0] if self.outputs == 1 else f

    def _weights(self, w: Array) -> Array:
        w = as_float(w, "w")
        if w.shape != (self.m,):
            raise ValueError(f"`w` must have shape ({self.m},), got {w.shape}.")
        return w

    def _rows(self, rows: Any) -> Indices:
        rows = as_real(rows, "rows")
        if rows.ndim != 1 or rows.dtype.kind not in "iu" or (rows.size and not 0 <= rows.min() <= rows.max() < self.n):
            raise ValueError(f"`rows` must be numbers of equations, from 0 to {self.n - 1}, got {rows!r}.")
        numbers: Indices = rows.astype(np.int64, copy=False)
        return numbers

    def _point(self, w: Array) -> Point:
        """The network at w, evaluated already if w is what it was last time."""
        last = self._last
        if last is not None and (last.w is w or self._equal(last.w, w)):
            return last
        self._last = last = None  # before the next takes memory
        self._last = point = self._evaluated(w, self.X)
        return point

    def _equal(self, v: Array, w: Array) -> bool:
        """Whether v and w have the same entries, told by a few where they do not."""
        probes = slice(None, None, max(1, self.m // _PROBES))
        return np.array_equal(v[probes], w[probes]) and np.array_equal(v, w)

    def _evaluated(self, w: Array, X: Array) -> Point:
        kept: list[Array] = []
        if w.base is not None or w.flags.writeable:  # it may change: keep a copy
            w = w.copy()
        f = self._forward(w, X, kept)
        return Point(w, X, kept, f)

    def _forward(self, w: Array, X: Array, kept: list[Array] | None) -> Array:
        """The outputs (N, q); ``kept`` receives X, A_1, ..., A_L, each followed by what its slope is a function of."""
        A = X
        for layer, activation in self._stages():
            W, b = layer.split(w)
            Z = A @ W
            if layer.factor != 1.0:
                Z *= layer.factor
            if b.size:
                Z += b
            A = Z
            if activation is not None:
                A = Z if activation.by_value or kept is None else np.empty_like(Z)
                activation.value(Z, A)
            if kept is not None:
                kept += [A, Z]
        return A

    def _stages(self) -> Iterator[tuple[Layer, Activation | None]]:
        for layer in self.layers[:-1]:
            yield layer, self.activation
        yield self.layers[-1], self.output


class Point(NamedTuple):
    """The network at w, its own copy: outputs f (N, q) and, in ``kept``, A_1, Z_1, A_2, Z_2, ... (Z_l is A_l: same)."""

    w: Array
    X: Array
    kept: list[Array]
    f: Array


def accumulate(A: Array, B: Array, G: Array, fresh: bool) -> None:
    """G = A B, or G += A B; G may have one of its two axes in two."""
    if fresh and G.ndim == 2:
        np.matmul(A, B, out=G)
    elif fresh:
        G[...] = (A @ B).reshape(G.shape)
    else:
        G += (A @ B).reshape(G.shape)


def sum_of_products(Z: Array, D: list[Array]) -> Array:
    """SUM_k Z[:, k, s] D_k[:, j] (N, s, j)."""
    total = Z[:, 0, :, None] * D[0][:, None, :]
    for k in range(1, len(D)):
        total += Z[:, k, :, None] * D[k][:, None, :]
    return total


class NetworkJacobian(_Operator):
    """J of a network: J v, J^T z, and K = J J^T without J.

    Parameters
    ----------
    network, point
        The network and where it was evaluated.
    output : (N,) or None
        None: all outputs of every point are equations; else the one of each point that is.
    """

    def __init__(self, network: WideNetwork, point: Point, output: Indices | None) -> None:
        self._network, self._w = network, point.w
        self._A = [point.X, *point.kept[:-2:2]][: sum(layer.trained for layer in network.layers)]  # their inputs
        q, N = network.outputs, len(point.X)
        seeds = [np.zeros((N, q)) for _ in range(q if output is None else 1)]
        for k, seed in enumerate(seeds):
            if output is None:
                seed[:, k] = 1.0
            else:
                seed[np.arange(N), output] = 1.0
        self._D = self._sensitivities(seeds, point.kept[1::2])
        super().__init__(np.float64, (N * len(seeds), network.m))  # type: ignore[call-arg]

    def _sensitivities(self, seeds: list[Array], Z: list[Array]) -> list[list[Array]]:
        """D_l of the trained layers, one array (N, m_l) for each output."""
        net = self._network
        if net.output is not None:
            slope = net.output.slope(Z[-1])
            seeds = [seed * slope for seed in seeds]
        D, trained = [seeds], [layer.trained for layer in net.layers]
        for i in range(len(net.layers) - 1, 0, -1):
            layer = net.layers[i]
            W, _ = layer.split(self._w)
            slope = net.activation.slope(Z[i - 1])
            if layer.factor != 1.0:
                slope *= layer.factor
            below = []
            for seed in D[0]:
                B = seed @ W.T
                B *= slope
                below.append(B)
            D = [below, *(D if trained[i] else [])]
        return D

    def _trained(self) -> Iterator[tuple[Layer, Array, list[Array]]]:
        """The trained layers, first to last: layer, A_{l-1}, D_l."""
        return zip((layer for layer in self._network.layers if layer.trained), self._A, self._D, strict=False)

    def _matvec(self, v: Array) -> Array:
        return self._matmat(v.reshape(-1, 1)).ravel()

    def _rmatvec(self, z: Array) -> Array:
        return self._rmatmat(z.reshape(-1, 1)).ravel()

    def _matmat(self, V: Array) -> Array:
        """J V. Of A and D the wider one goes into matrix products, with many columns at once, the other beside them."""
        V = np.ascontiguousarray(V.T)
        out = np.zeros((len(self._A[0]), len(self._D[0]), len(V)))
        for layer, A, D in self._trained():
            for columns in layer.batches(len(V)):
                self._outwards(layer, A, D, layer.rows(V[columns]), out[:, :, columns])
        return out.reshape(self.shape[0], -1)

    def _outwards(self, layer: Layer, A: Array, D: list[Array], V: Array, out: Array) -> None:
        """Add the layer's share of J V to out (N, q, s), V (s, fan-in and one for the bias, fan-out)."""
        if layer.wide:
            V = V.reshape(-1, layer.fan_out).T
            for block in layer.blocks(len(A)):
                for k, seed in enumerate(D):
                    U = (seed[block] @ V).reshape(len(seed[block]), out.shape[2], -1)
                    out[block, k] += layer.factor * np.einsum("nsi,ni->ns", U[:, :, : layer.fan_in], A[block])
                    if layer.b.size:
                        out[block, k] += U[:, :, -1]
            return
        b = V[:, layer.fan_in :].reshape(-1) / layer.factor
        V = V[:, : layer.fan_in].transpose(1, 0, 2).reshape(layer.fan_in, -1)
        for block in layer.blocks(len(A)):
            U = A[block] @ V
            if b.size:
                U += b
            U = U.reshape(len(U), out.shape[2], -1)
            for k, seed in enumerate(D):
                out[block, k] += layer.factor * np.einsum("nso,no->ns", U, seed[block])

    def _rmatmat(self, Z: Array) -> Array:
        """J^T Z, like J V."""
        Z = Z.reshape(len(self._A[0]), len(self._D[0]), -1)
        G = np.empty((Z.shape[2], self.shape[1]))
        for layer, A, D in self._trained():
            for columns in layer.batches(len(G)):
                self._inwards(layer, A, D, Z[:, :, columns], layer.rows(G[columns]))
        return G.T

    def _inwards(self, layer: Layer, A: Array, D: list[Array], Z: Array, G: Array) -> None:
        """Set the layer's part of J^T Z, G (s, fan-in and one for the bias, fan-out)."""
        s, fan_in, fresh = len(G), layer.fan_in, True
        W = G if layer.wide else G[:, :fan_in].transpose(1, 0, 2)
        if s == 1:
            W = W.squeeze(0 if layer.wide else 1)  # two axes: the product is written in its place
        for block in layer.blocks(len(A)):
            if layer.wide:
                for k, seed in enumerate(D):
                    B = np.empty((len(seed[block]), *G.shape[:2]))
                    np.multiply((layer.factor * Z[block, k])[:, :, None], A[block, None, :], out=B[:, :, :fan_in])
                    B[:, :, fan_in:] = Z[block, k, :, None]
                    accumulate(B.reshape(len(B), -1).T, seed[block], W, fresh)
                    fresh = False
                continue
            B = sum_of_products(Z[block] if layer.factor == 1.0 else layer.factor * Z[block], [S[block] for S in D])
            accumulate(A[block].T, B.reshape(len(B), -1), W, fresh)
            if layer.b.size:
                b = (np.ones(len(B)) @ B.reshape(len(B), -1)).reshape(s, -1) / layer.factor
                G[:, fan_in] = b if fresh else G[:, fan_in] + b
            fresh = False

    def gram(self, d2: Array | None = None) -> Array:
        """K = J J^T, a new array; with weights d2 >= 0 (m,) J diag(d2) J^T."""
        if d2 is not None:
            return self._weighted(np.asarray(d2, dtype=np.float64))
        N, q = len(self._A[0]), len(self._D[0])
        K = np.empty((N, q, N, q))
        for start in range(0, N, _BLOCK_ROWS):
            block = slice(start, min(start + _BLOCK_ROWS, N))
            for columns in (slice(0, start), block):
                if columns.stop > columns.start:
                    self._gram_block(K, block, columns)
        return K.reshape(N * q, N * q)

    def _weighted(self, d2: Array) -> Array:
        """J diag(d2) J^T."""
        n, q = self.shape[0], len(self._D[0])
        K = np.zeros((n, n))
        for layer, A, D in self._trained():
            inputs = layer.factor * A
            if layer.b.size:
                inputs = np.column_stack([inputs, np.ones(len(A))])
            sensitivities = np.stack(D, axis=1).reshape(n, layer.fan_out)
            K += layer_kernel(np.repeat(inputs, q, axis=0), sensitivities, layer.rows(d2[None])[0])
        return K

    def _gram_block(self, K: Array, rows: slice, columns: slice) -> None:
        """These rows and columns of K, and by symmetry the same with both exchanged."""
        q = len(self._D[0])
        for number, (layer, A, D) in enumerate(self._trained()):
            P = A[rows] @ A[columns].T
            P *= layer.factor**2
            if layer.b.size:
                P += 1.0
            for k in range(q):
                for j in range(q):
                    Q = D[k][rows] @ D[j][columns].T
                    Q *= P
                    if number == 0:
                        K[rows, k, columns, j] = Q
                    else:
                        K[rows, k, columns, j] += Q
        if rows != columns:
            K[columns, :, rows, :] = K[rows, :, columns, :].transpose(2, 3, 0, 1)

    def row_squares(self) -> Array:
        """The diagonal of K (n,)."""
        total = np.zeros((len(self._A[0]), len(self._D[0])))
        for layer, A, D in self._trained():
            a = np.einsum("ij,ij->i", A, A)
            a *= layer.factor**2
            if layer.b.size:
                a += 1.0
            for k, seed in enumerate(D):
                total[:, k] += a * np.einsum("ij,ij->i", seed, seed)
        return total.ravel()
