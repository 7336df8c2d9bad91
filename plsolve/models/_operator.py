"""The Jacobian of a model as an operator: the framework computes J v and J^T z; K comes from layers and rows of J.

Unknowns in linear layers contribute SUM_uv (A_u A_v^T) o (D_u D_v^T) to K = J J^T, where A_u and D_u are the inputs and
sensitivities of the uses u of a layer. A layer usually has one use, but several if the points of a sequence or the
derivatives in a differential equation share it. All other unknowns need rows of J. These are held if they are few, and
otherwise computed again, a group of parameters at a time.
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

BLOCK_ROWS = 1024  # rows of K computed at a time
BLOCK_NUMBERS = 1 << 20  # entries of J computed at a time for a layer with many uses (8 MiB)
ROOM = 2  # limit of the entries of inputs and sensitivities per entry of the rows of J that they replace
HELD = 1 << 20  # entries of J that may always be held for unknowns outside layers (8 MiB)
SHARE = 8  # 1 / SHARE of all entries of J may be held as well
FORMED = 1 << 25  # used instead of HELD if each row of J costs a pass over all equations (256 MiB)
PART = 4  # rows of J that are not held are computed in pieces of at most n m / PART entries


class Layer(NamedTuple):
    """A (N, U, fan-in), D (N, q, U, fan-out), and the place, shape and axes of the unknowns in w[where]."""

    A: Any
    D: Any
    where: slice
    shape: tuple[int, ...]
    axes: tuple[int, ...]  # first the axes multiplied by A, then the others

    def weights(self, d2: Array) -> Array:
        """The entries of d2 for these unknowns, as (fan-in, fan-out)."""
        return d2[self.where].reshape(self.shape).transpose(self.axes).reshape(self.A.shape[2], self.D.shape[3])

    def many(self) -> bool:
        """Whether rows of J cost less than the products of all pairs of uses."""
        uses, fan_in, fan_out = self.A.shape[1], self.A.shape[2], self.D.shape[3]
        return uses > 1 and uses * uses * (fan_in + fan_out) > fan_in * fan_out  # type: ignore[no-any-return]

    def inputs(self) -> Iterator[slice]:
        """Divide the inputs into pieces for `rows`."""
        step = max(1, BLOCK_NUMBERS // (self.D.shape[0] * self.D.shape[1] * self.D.shape[3]))
        return (slice(start, start + step) for start in range(0, self.A.shape[2], step))

    def rows(self, some: slice, inputs: slice) -> Any:
        """J (N, q, inputs, fan-out) for some examples and the unknowns of some inputs."""
        return self.A[some, None, :, inputs].swapaxes(2, 3) @ self.D[some]


class Rows(NamedTuple):
    """J (N, q, k) for unknowns outside layers: the columns ``where`` of the whole J."""

    J: Any
    where: slice


class Block(NamedTuple):
    """Unknowns outside layers whose rows of J are computed together, one chunk of equations at a time."""

    leaves: tuple[int, ...]
    where: list[slice]
    chunks: list[slice]

    def weights(self, d2: Array) -> Array:
        """The entries of d2 for these unknowns."""
        return np.concatenate([d2[where] for where in self.where])


class Point(Protocol):
    """A model at a point, where each example gives q equations."""

    n: int
    m: int
    near: bool  # whether the arrays of the parts are numpy arrays
    blocks: list[Block]  # the unknowns in none of the parts

    def products(self, V: Array) -> Array:
        """J V (n, s) for V (m, s)."""

    def adjoints(self, Z: Array) -> Array:
        """J^T Z (m, s) for Z (n, s)."""

    def parts(self) -> Sequence[Layer | Rows]:
        """All unknowns except those of ``blocks``, with arrays in numpy or on a device."""

    def rows(self, block: Block, chunk: int) -> Any:
        """The rows of J for a chunk of the block, restricted to its k unknowns."""

    def like(self, x: Array) -> Any:
        """Convert a vector to an array of the same library as the parts."""

    def host(self, array: Any) -> Array:
        """Convert any of these arrays to a numpy array."""


class ModelJacobian(_Operator):
    """The Jacobian of a model at a point, as an operator with its tangent kernel."""

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
        """The kernel K = J J^T (n, n) in a new array, or J diag(d2) J^T with weights d2 >= 0 (m,)."""
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
        """The kernel of the picked rows."""
        K: Array = self._J.gram(d2)[np.ix_(self._rows, self._rows)]
        return K


def divided(others: Sequence[int], shapes: Sequence[tuple[int, ...]], n: int, m: int) -> tuple[list[int], list[int]]:
    """Divide the parameters outside layers into those whose rows of J can be held, and the rest."""
    left = max(HELD // n, m // SHARE)
    held: list[int] = []
    for i in sorted(others, key=lambda i: math.prod(shapes[i])):
        left -= math.prod(shapes[i])
        if left < 0:
            break
        held.append(i)
    return held, [i for i in others if i not in held]


def grouped(leaves: Sequence[int], sizes: Sequence[int], m: int, whole: bool) -> list[tuple[tuple[int, ...], int]]:
    """Group parameters whose rows of J are computed together, with the number of chunks; ``whole``: one of each."""
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
    """The examples (q equations each) that contain the equations ``rows``, and the positions of these among theirs."""
    given = as_real(rows, "rows")
    if given.ndim != 1 or given.dtype.kind not in "iu" or (given.size and not 0 <= given.min() <= given.max() < n):
        raise ValueError(f"`rows` must be indices of equations, from 0 to {n - 1}, got {rows!r}.")
    examples, inverse = np.unique(given.astype(np.int64) // q, return_inverse=True)
    return examples, inverse * q + given % q


def as_weights(w: Any, m: int) -> Array:
    """Check and convert a vector of unknowns."""
    vector = as_float(w, "w")
    if vector.shape != (m,):
        raise ValueError(f"`w` must have shape ({m},), got {vector.shape}.")
    return vector


def by_rows(K: Array, point: Point, block: Block, d2: Any) -> None:
    """Add the contribution of the block to K, from two chunks of rows of J at a time."""
    for i, some in enumerate(block.chunks):
        R = point.rows(block, i)
        left = R if d2 is None else R * d2
        K[some, some] += point.host(left @ R.T)
        for j, others in enumerate(block.chunks[:i]):
            beside = point.host(left @ point.rows(block, j).T)
            K[some, others] += beside
            K[others, some] += beside.T


def by_blocks(K: Array, parts: Sequence[Layer | Rows], host: Host) -> None:
    """Fill K block by block, up to its diagonal, and the rest by symmetry."""
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
    """The contribution of the parts to the block of K between some examples and others, in the parts' library."""
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
    """J (n, k) for the unknowns of the part."""
    if isinstance(part, Rows):
        return flat(host(part.J))  # type: ignore[no-any-return]
    part = part._replace(A=host(part.A), D=host(part.D))
    J = flat(part.rows(slice(None), slice(None)))
    J = J.reshape(len(J), *(part.shape[i] for i in part.axes))
    return J.transpose(0, *(1 + np.argsort(part.axes))).reshape(len(J), -1)  # type: ignore[no-any-return]


def product(part: Layer | Rows, v: Array) -> Array:
    """The contribution to J v of the unknowns of the part."""
    if isinstance(part, Rows):
        return flat(part.J) @ v[part.where]  # type: ignore[no-any-return]
    N, uses, fan_in = part.A.shape
    U = (part.A.reshape(N * uses, fan_in) @ part.weights(v)).reshape(N, uses, -1)
    Jv: Array = np.einsum("nub,nqub->nq", U, part.D).ravel()
    return Jv


def adjoint(part: Layer | Rows, z: Array) -> Array:
    """J^T z for the unknowns of the part."""
    if isinstance(part, Rows):
        g: Array = z @ flat(part.J)
        return g
    N, uses, fan_in = part.A.shape
    B = np.einsum("nq,nqub->nub", z.reshape(N, -1), part.D) if part.D.shape[1] > 1 else part.D[:, 0] * z[:, None, None]
    G = part.A.reshape(N * uses, fan_in).T @ B.reshape(N * uses, -1)
    return G.reshape([part.shape[i] for i in part.axes]).transpose(np.argsort(part.axes)).ravel()  # type: ignore[no-any-return]


def flat(J: Any) -> Any:
    """Reshape J (N, q, ...) to one row for each equation."""
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
