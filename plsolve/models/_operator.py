"""The Jacobian of a model as an operator: J v and J^T z by the framework, K = J J^T by layers, or by rows of J.

Unknowns in linear layers contribute SUM_uv (A_u A_v^T) o (D_u D_v^T), A_u and D_u the inputs and sensitivities of
their uses u (one for a layer of a network, several where a layer is shared by the points of a sequence or by the
derivatives in a differential equation). All others need rows of J: held where they are few, else made parameter by
parameter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from scipy.sparse.linalg import LinearOperator

from plsolve._checks import as_float, as_real
from plsolve._linalg import Array
from plsolve._tangent.layers import layer_kernel

Host = Callable[[Any], Array]
Indices = npt.NDArray[np.int64]

if TYPE_CHECKING:
    _Operator = LinearOperator[np.float64]
else:
    _Operator = LinearOperator

BLOCK_ROWS = 1024  # of K at a time
BLOCK_NUMBERS = 1 << 20  # in one block of rows of J (8 MiB)
ROOM = 2  # entries of inputs and sensitivities at most, per entry of the rows of J that they replace
HELD = 1 << 20  # entries of J that may always be held for unknowns in no layer (8 MiB)
SHARE = 8  # or this fraction of all entries of J: 1 / SHARE
FORMED = 1 << 25  # the same as HELD where each row of J costs a pass over all equations (256 MiB)
PART = 4  # rows of J that are not held are made in pieces with at most n m / PART entries


class Layer(NamedTuple):
    """A (N, U, fan-in) and D (N, q, U, fan-out), and how the unknowns lie: w[where] has that shape and these axes."""

    A: Any
    D: Any
    where: slice
    shape: tuple[int, ...]
    axes: tuple[int, ...]  # those that A is multiplied by, then the others

    def weights(self, d2: Array) -> Array:
        """The entries of these unknowns, as (fan-in, fan-out)."""
        return d2[self.where].reshape(self.shape).transpose(self.axes).reshape(self.A.shape[2], self.D.shape[3])

    def many(self) -> bool:
        """Whether rows of J cost less than products of every use with every other."""
        uses, fan_in, fan_out = self.A.shape[1], self.A.shape[2], self.D.shape[3]
        return uses > 1 and uses * uses * (fan_in + fan_out) > fan_in * fan_out  # type: ignore[no-any-return]

    def inputs(self) -> Iterator[slice]:
        """The inputs in pieces, for `rows`."""
        step = max(1, BLOCK_NUMBERS // (self.D.shape[0] * self.D.shape[1] * self.D.shape[3]))
        return (slice(start, start + step) for start in range(0, self.A.shape[2], step))

    def rows(self, some: slice, inputs: slice) -> Any:
        """J (N, q, inputs, fan-out) of some examples and the unknowns of these inputs."""
        return self.A[some, None, :, inputs].swapaxes(2, 3) @ self.D[some]


class Rows(NamedTuple):
    """J (N, q, k) for unknowns in no layer, the columns ``where`` of it."""

    J: Any
    where: slice


class Block(NamedTuple):
    """Unknowns in no layer whose rows of J are made together, so many equations at once."""

    leaves: tuple[int, ...]
    where: list[slice]
    chunks: list[slice]

    def weights(self, d2: Array) -> Array:
        """Of these unknowns."""
        return np.concatenate([d2[where] for where in self.where])


class Point(Protocol):
    """A model at a point: its examples give q equations each."""

    n: int
    m: int
    near: bool  # whether the arrays of the parts are numpy's
    blocks: list[Block]  # of the unknowns in no part

    def products(self, V: Array) -> Array:
        """J V (n, s) of V (m, s)."""

    def adjoints(self, Z: Array) -> Array:
        """J^T Z (m, s) of Z (n, s)."""

    def parts(self) -> Sequence[Layer | Rows]:
        """All unknowns but those of ``blocks``: arrays of numpy, or such as live on a device."""

    def rows(self, block: Block, chunk: int) -> Any:
        """The rows of J (a chunk of the block's, k)."""

    def like(self, x: Array) -> Any:
        """A vector as an array of the same library."""

    def host(self, array: Any) -> Array:
        """Any of these arrays as one of numpy."""


class ModelJacobian(_Operator):
    """J of a model at a point, with its kernel."""

    def __init__(self, point: Point) -> None:
        self._point = point
        self._parts: Sequence[Layer | Rows] | None = None
        super().__init__(np.float64, (point.n, point.m))  # type: ignore[call-arg]

    def _matvec(self, v: Array) -> Array:
        if self._parts is None or self._point.blocks or not self._point.near:
            return self._point.products(v.reshape(-1, 1)).ravel()
        total: Array = sum(product(part, v.ravel()) for part in self._parts)  # type: ignore[assignment]
        return total

    def _rmatvec(self, z: Array) -> Array:
        if self._parts is None or self._point.blocks or not self._point.near:
            return self._point.adjoints(z.reshape(-1, 1)).ravel()
        g = np.empty(self.shape[1])
        for part in self._parts:
            g[part.where] = adjoint(part, z.ravel())
        return g

    def _matmat(self, V: Array) -> Array:
        return self._point.products(V)

    def _rmatmat(self, Z: Array) -> Array:
        return self._point.adjoints(Z)

    def gram(self, d2: Array | None = None) -> Array:
        """K = J J^T (n, n), a new array; with weights d2 >= 0 (m,) J diag(d2) J^T."""
        point, n = self._point, self.shape[0]
        K = np.zeros((n, n))
        if self._parts is None:
            self._parts = point.parts()
        if d2 is not None:
            for part in self._parts:
                K += weighted(part, d2, point.host)
        elif self._parts:
            by_blocks(K, self._parts, point.host)
        for block in point.blocks:
            by_rows(K, point, block, None if d2 is None else point.like(block.weights(d2)))
        return K

    def toarray(self) -> Array:
        """J as an array (n, m)."""
        point, J = self._point, np.empty(self.shape)
        if self._parts is None:
            self._parts = point.parts()
        for part in self._parts:
            J[:, part.where] = entries(part, point.host)
        for block in point.blocks:
            columns = np.concatenate([np.arange(where.start, where.stop) for where in block.where])
            for i, some in enumerate(block.chunks):
                J[some, columns] = point.host(point.rows(block, i))
        return J


class PickedJacobian(_Operator):
    """Some rows of the Jacobian of a model."""

    def __init__(self, J: ModelJacobian, rows: Indices) -> None:
        self._J, self._rows = J, rows
        super().__init__(np.float64, (rows.size, J.shape[1]))  # type: ignore[call-arg]

    def _matvec(self, v: Array) -> Array:
        return self._J.matvec(v.ravel())[self._rows]

    def _rmatvec(self, z: Array) -> Array:
        return self._rmatmat(z.reshape(-1, 1)).ravel()

    def _matmat(self, V: Array) -> Array:
        return self._J.matmat(V)[self._rows]

    def _rmatmat(self, Z: Array) -> Array:
        whole = np.zeros((self._J.shape[0], Z.shape[1]))
        np.add.at(whole, self._rows, Z)
        return self._J.rmatmat(whole)

    def gram(self, d2: Array | None = None) -> Array:
        """The kernel of these rows."""
        K: Array = self._J.gram(d2)[np.ix_(self._rows, self._rows)]
        return K


def divided(others: Sequence[int], shapes: Sequence[tuple[int, ...]], n: int, m: int) -> tuple[list[int], list[int]]:
    """Of the parameters in no layer those whose rows of J are few enough to be held, and the rest."""
    left = max(HELD // n, m // SHARE)
    held: list[int] = []
    for i in sorted(others, key=lambda i: math.prod(shapes[i])):
        left -= math.prod(shapes[i])
        if left < 0:
            break
        held.append(i)
    return held, [i for i in others if i not in held]


def grouped(leaves: Sequence[int], sizes: Sequence[int], m: int, whole: bool) -> list[tuple[tuple[int, ...], int]]:
    """Parameters whose rows of J are made together, and in how many chunks; ``whole``: all, in one."""
    if whole:
        return [(tuple(leaves), 1)] if leaves else []
    room = max(m // PART, 1)
    groups: list[tuple[tuple[int, ...], int]] = []
    filled = room
    for i in leaves:
        if filled + sizes[i] > room:
            groups.append(((), -(-2 * sizes[i] // room) if sizes[i] > room else 1))
            filled = 0
        groups[-1] = (*groups[-1][0], i), groups[-1][1]
        filled += sizes[i]
    return groups


def as_rows(rows: Any, n: int, q: int) -> tuple[Indices, Indices]:
    """The examples to which these equations belong (q for each), and their positions among those examples' rows."""
    given = as_real(rows, "rows")
    if given.ndim != 1 or given.dtype.kind not in "iu" or (given.size and not 0 <= given.min() <= given.max() < n):
        raise ValueError(f"`rows` must be numbers of equations, from 0 to {n - 1}, got {rows!r}.")
    examples, inverse = np.unique(given.astype(np.int64) // q, return_inverse=True)
    return examples, inverse * q + given % q


def as_weights(w: Any, m: int) -> Array:
    """A vector of unknowns."""
    vector = as_float(w, "w")
    if vector.shape != (m,):
        raise ValueError(f"`w` must have shape ({m},), got {vector.shape}.")
    return vector


def by_rows(K: Array, point: Point, block: Block, d2: Any) -> None:
    """Add what the unknowns of the block contribute, two chunks of rows of J at a time."""
    for i, some in enumerate(block.chunks):
        R = point.rows(block, i)
        left = R if d2 is None else R * d2
        K[some, some] += point.host(left @ R.T)
        for j, others in enumerate(block.chunks[:i]):
            beside = point.host(left @ point.rows(block, j).T)
            K[some, others] += beside
            K[others, some] += beside.T


def by_blocks(K: Array, parts: Sequence[Layer | Rows], host: Host) -> None:
    """Set K: blocks of rows by what lies left of them, the rest by symmetry."""
    first = parts[0].J if isinstance(parts[0], Rows) else parts[0].D
    N, q = first.shape[:2]
    step = max(1, BLOCK_ROWS // q)
    for top in range(0, N, step):
        for left in range(0, top + 1, step):
            some, others = slice(top, top + step), slice(left, left + step)
            rows, columns = slice(q * top, q * (top + step)), slice(q * left, q * (left + step))
            K[rows, columns] = host(block(parts, some, others))
            if left < top:
                K[columns, rows] = K[rows, columns].T


def block(parts: Sequence[Layer | Rows], some: slice, others: slice) -> Any:
    """The contribution of the parts to a block of K, for some examples and others, in their arrays' own library."""
    total: Any = 0.0
    alike: dict[int, list[Layer]] = {}  # layers with the same sensitivities, as a matrix and its bias have
    for part in parts:
        if isinstance(part, Rows):
            total = total + flat(part.J[some]) @ flat(part.J[others]).T
        elif part.many():
            for i in part.inputs():
                total = total + flat(part.rows(some, i)) @ flat(part.rows(others, i)).T
        else:
            alike.setdefault(id(part.D), []).append(part)
    for layers in alike.values():
        D = layers[0].D
        q = D.shape[1]
        for u in range(D.shape[2]):
            for v in range(D.shape[2]):
                P = sum(layer.A[some, u] @ layer.A[others, v].T for layer in layers)
                Q = flat(D[some, :, u]) @ flat(D[others, :, v]).T
                K = Q * P if q == 1 else (Q.reshape(len(P), q, -1, q) * P[:, None, :, None]).reshape(Q.shape)
                total = total + K
    return total


def entries(part: Layer | Rows, host: Host) -> Array:
    """J (n, k), of the unknowns of the part."""
    if isinstance(part, Rows):
        return flat(host(part.J))  # type: ignore[no-any-return]
    part = part._replace(A=host(part.A), D=host(part.D))
    J = flat(part.rows(slice(None), slice(None)))
    J = J.reshape(len(J), *(part.shape[i] for i in part.axes))
    return J.transpose(0, *(1 + np.argsort(part.axes))).reshape(len(J), -1)  # type: ignore[no-any-return]


def product(part: Layer | Rows, v: Array) -> Array:
    """J v, of the unknowns of the part."""
    if isinstance(part, Rows):
        return flat(part.J) @ v[part.where]  # type: ignore[no-any-return]
    N, uses, fan_in = part.A.shape
    U = (part.A.reshape(N * uses, fan_in) @ part.weights(v)).reshape(N, uses, -1)
    Jv: Array = np.einsum("nub,nqub->nq", U, part.D).ravel()
    return Jv


def adjoint(part: Layer | Rows, z: Array) -> Array:
    """J^T z, of the unknowns of the part."""
    if isinstance(part, Rows):
        g: Array = z @ flat(part.J)
        return g
    N, uses, fan_in = part.A.shape
    B = np.einsum("nq,nqub->nub", z.reshape(N, -1), part.D) if part.D.shape[1] > 1 else part.D[:, 0] * z[:, None, None]
    G = part.A.reshape(N * uses, fan_in).T @ B.reshape(N * uses, -1)
    return G.reshape([part.shape[i] for i in part.axes]).transpose(np.argsort(part.axes)).ravel()  # type: ignore[no-any-return]


def flat(J: Any) -> Any:
    """One row for each equation."""
    return J.reshape(J.shape[0] * J.shape[1], -1)


def weighted(part: Layer | Rows, d2: Array, host: Host) -> Array:
    """The contribution of the part to J diag(d2) J^T."""
    if isinstance(part, Rows):
        J = flat(host(part.J))
        return (J * d2[part.where]) @ J.T  # type: ignore[no-any-return]
    part, d2 = part._replace(A=host(part.A), D=host(part.D)), part.weights(d2)
    n, q = part.D.shape[0] * part.D.shape[1], part.D.shape[1]
    if part.A.shape[1] == 1:
        return layer_kernel(np.repeat(part.A[:, 0], q, axis=0), part.D.reshape(n, -1), d2)
    K = np.zeros((n, n))
    for i in part.inputs():
        J = flat(part.rows(slice(None), i))
        K += (J * d2[i].ravel()) @ J.T
    return K
