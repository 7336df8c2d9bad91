"""Fully connected networks with their data, as the system F(w) = y of fitting them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from plsolve._checks import as_count, as_flag, as_float, as_number, as_real, check_finite, generator
from plsolve._linalg import Array
from plsolve.networks._jacobian import NetworkJacobian
from plsolve.networks._layers import BLOCK_NUMBERS, UNITS, Activation, Indices, Layer, Point, as_activation, as_widths

_PROBES = 64  # entries of w that are compared first


def as_generator(rng: Any) -> np.random.Generator:
    return generator(rng) or np.random.default_rng()


class WideNetwork:
    """A fully connected network with data X, as a system F(w) = y with an equation for each point and output.

    Parameters
    ----------
    X : array_like (n, d)
        Inputs.
    widths : sequence of int
        Units of the hidden layers.
    activation : {'tanh', 'relu', 'softplus', 'gelu'} or (f, df)
        The activation of the hidden units; a pair of functions gives f and its derivative, elementwise.
    outputs : int
        With q outputs F has n q equations; those of one point are adjacent: entry i q + k is output k at point i.
    bias : bool
        Whether layers have biases.
    scaling : {'ntk', 'standard'}
        'ntk': weights of variance 1, layers divided by sqrt(fan-in); 'standard': weights of variance 1/fan-in.
    train : {'all', 'first', 'hidden'}
        The layers in w: all, the first one, or all but the last. The other layers are drawn once, by ``rng``: output
        weights +-1 (over sqrt(fan-in) in standard scaling), hidden weights as by `init`, biases zero.
    output_activation : None, name or (f, df)
        Applied to the outputs; None: linear.
    rng : int, numpy.random.Generator or SeedSequence
        Draws the layers that are not trained.

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
        """Normal weights and biases, of deviation 1, or 1/sqrt(fan-in) in standard scaling; output biases are zero.

        Parameters
        ----------
        rng : int, numpy.random.Generator, ..., optional
            The source of random numbers, or its seed.
        first : float
            Factor of the first layer: the steeper its units, the better the kernel is conditioned.

        Returns
        -------
        ndarray (m,)
            A start.
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
        """The outputs at the data.

        Parameters
        ----------
        w : array_like (m,)
            The weights.
        rows : ndarray of int (k,), optional
            Numbers of the equations to evaluate, all by default.

        Returns
        -------
        ndarray (n,) or (k,)
            F(w), or these entries of it.
        """
        w = self._weights(w)
        if rows is not None:
            rows = self._rows(rows)
            f = self._forward(w, self.X[rows // self.outputs], None)
            return np.asarray(f[np.arange(len(rows)), rows % self.outputs])
        return self._point(w).f.flatten()

    def jac(self, w: Array, rows: Indices | None = None) -> NetworkJacobian:
        """The Jacobian as an operator that computes its own tangent kernel.

        Parameters
        ----------
        w : array_like (m,)
            The weights.
        rows : ndarray of int (k,), optional
            Numbers of the equations to evaluate, all by default.

        Returns
        -------
        NetworkJacobian
            J (n, m), or these rows of it (k, m).
        """
        w = self._weights(w)
        if rows is None:
            return NetworkJacobian(self, self._point(w), None)
        rows = self._rows(rows)
        return NetworkJacobian(self, self._evaluated(w, self.X[rows // self.outputs]), rows % self.outputs)

    #: Neither writes into w, so that `solve` need not copy it.
    F.reads_only = jac.reads_only = True  # type: ignore[attr-defined]

    def predict(self, w: Array, X: Any) -> Array:
        """The outputs at other inputs.

        Parameters
        ----------
        w : array_like (m,)
            The weights.
        X : array_like (N, d)
            The inputs.

        Returns
        -------
        ndarray (N,) or (N, outputs)
            One number for each input, or one for each output where there are several.
        """
        w, X = self._weights(w), self._inputs(X)
        if X.shape[1] != self.X.shape[1]:
            raise ValueError(f"`X` must have {self.X.shape[1]} columns, got {X.shape[1]}.")
        rows = max(256, 8 * BLOCK_NUMBERS // max(layer.fan_out for layer in self.layers))
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
        """The network at w; it is not evaluated again if w is the same as last time."""
        last = self._last
        if last is not None and (last.w is w or self._equal(last.w, w)):
            return last
        self._last = last = None  # released before the next takes memory
        self._last = point = self._evaluated(w, self.X)
        return point

    def _equal(self, v: Array, w: Array) -> bool:
        """Whether v and w have the same entries; a few are compared first."""
        probes = slice(None, None, max(1, self.m // _PROBES))
        return np.array_equal(v[probes], w[probes]) and np.array_equal(v, w)

    def _evaluated(self, w: Array, X: Array) -> Point:
        kept: list[Array] = []
        if w.base is not None or w.flags.writeable:  # w may change, so a copy is kept
            w = w.copy()
        f = self._forward(w, X, kept)
        return Point(w, X, kept, f)

    def _forward(self, w: Array, X: Array, kept: list[Array] | None) -> Array:
        """The outputs (N, q); ``kept`` receives X, A_1, ..., A_L, each followed by the argument of its derivative."""
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
