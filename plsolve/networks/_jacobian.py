"""Wide networks as systems F(w) = y, with the tangent kernel from layer products instead of the Jacobian.

Layer l = 1, ..., L+1 maps A_{l-1} (n x m_{l-1}, A_0 = X) to Z_l = c_l A_{l-1} W_l + b_l and A_l = sigma(Z_l); the last
one gives the outputs. c_l = 1/sqrt(m_{l-1}) with NTK scaling, 1 with the standard one. With the sensitivities
D_l = df/dZ_l (n x m_l, one row for each equation), found by one backward pass,

    J v   = SUM_l rowsum(D_l o (c_l A_{l-1} V_l + v_l)),
    J^T z = (c_l A_{l-1}^T (z o D_l), D_l^T z)_l,
    K     = SUM_l (c_l^2 A_{l-1} A_{l-1}^T + 1) o (D_l D_l^T),        o = elementwise, + 1 for the bias,

so that K takes n^2 SUM m_l operations, while forming it from J takes n^2 SUM m_{l-1} m_l, and n SUM m_l numbers of
memory instead of n m.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

from plsolve._checks import as_float, shown
from plsolve._linalg import Array
from plsolve._tangent.layers import layer_kernel
from plsolve.networks._layers import Indices, Layer, Point

if TYPE_CHECKING:
    from plsolve.networks._network import WideNetwork

    _Operator = LinearOperator[np.float64]
else:
    _Operator = LinearOperator

_BLOCK_ROWS = 512  # rows of K at a time


def accumulate(A: Array, B: Array, G: Array, fresh: bool) -> None:
    """G = A B, or G += A B; one of the two axes of G may be split in two."""
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
    """J of a network at a point, as `WideNetwork.jac` returns it: J v, J^T z, and K = J J^T without J."""

    def __init__(self, network: WideNetwork, point: Point, output: Indices | None) -> None:
        """``output`` (N,): the number of the output at each point that is an equation; None: all are."""
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
        """J V, by matrix products with the wider of A and D, many columns at once, and elementwise with the other."""
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
            W = W.squeeze(0 if layer.wide else 1)  # with two axes the product is written in place
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
        """K = J J^T, or J diag(d2) J^T.

        Parameters
        ----------
        d2 : ndarray (m,), optional
            Weights >= 0 of the unknowns.

        Returns
        -------
        ndarray (n, n)
            A new array.
        """
        if d2 is not None:
            return self._weighted(self._weights(d2))
        N, q = len(self._A[0]), len(self._D[0])
        K = np.empty((N, q, N, q))
        for start in range(0, N, _BLOCK_ROWS):
            block = slice(start, min(start + _BLOCK_ROWS, N))
            for columns in (slice(0, start), block):
                if columns.stop > columns.start:
                    self._gram_block(K, block, columns)
        return K.reshape(N * q, N * q)

    def cross(self, other: Any) -> Array:
        """J J'^T, J' the Jacobian of the network with the same layers at other inputs.

        Parameters
        ----------
        other : NetworkJacobian (p, m)
            J'.

        Returns
        -------
        ndarray (n, p)
            A new array.
        """
        if not isinstance(other, NetworkJacobian) or other.shape[1] != self.shape[1]:
            raise TypeError(f"`other` must be a NetworkJacobian with {self.shape[1]} columns, got {shown(other)}.")
        q, p = len(self._D[0]), len(other._D[0])
        K = np.zeros((len(self._A[0]), q, len(other._A[0]), p))
        for (layer, A, D), (_, B, E) in zip(self._trained(), other._trained(), strict=True):
            P = layer.factor**2 * (A @ B.T)
            if layer.b.size:
                P += 1.0
            for k in range(q):
                for j in range(p):
                    K[:, k, :, j] += P * (D[k] @ E[j].T)
        return K.reshape(self.shape[0], other.shape[0])

    def _weights(self, d2: Any) -> Array:
        """Weights >= 0 of the unknowns (m,)."""
        weights = as_float(d2, "d2")
        if weights.shape != (self.shape[1],):
            raise ValueError(f"`d2` must have shape ({self.shape[1]},), got {weights.shape}.")
        if not (np.isfinite(weights).all() and (weights >= 0.0).all()):
            raise ValueError("`d2` must be finite and >= 0.")
        return weights

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
        """Set these rows and columns of K and, by symmetry, the transposed block."""
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
        """The diagonal of K.

        Returns
        -------
        ndarray (n,)
            ||row i of J||^2.
        """
        total = np.zeros((len(self._A[0]), len(self._D[0])))
        for layer, A, D in self._trained():
            a = np.einsum("ij,ij->i", A, A)
            a *= layer.factor**2
            if layer.b.size:
                a += 1.0
            for k, seed in enumerate(D):
                total[:, k] += a * np.einsum("ij,ij->i", seed, seed)
        return total.ravel()
