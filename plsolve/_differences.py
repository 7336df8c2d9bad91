"""Finite-difference Jacobians for small dense systems, with steps relative to |w|.

scipy steps by eps^s max(1, |w|), which for an unknown near 1e-7 is a change of 15 %. Here the step is eps^s |w_j|, and
only where that moves F by no more than rounding does it grow to eps^s max(1, |w_j|).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csc_array, csr_array

from plsolve._geometry import Box
from plsolve._linalg import Array, finite, norm

_EPS = float(np.finfo(np.float64).eps)
Residual = Callable[[Array], Array]  # F - y, (m,) -> (n,)
COMPLEX = 1e-30  # relative step: there is no cancellation that would need a longer one
CROOKED = 0.03  # of the change in F: beyond this curvature a central difference has few digits
ROUNDING = 100.0  # times eps |F|: a change that rounding in F may cause
TINY = 1e-290  # smaller |w_j| do not set the length of a step


def jacobian(f: Residual, w: Array, r: Array, magnitude: Array, central: bool, box: Box, eps: float = _EPS) -> Array:
    """DF(w) (n, m) from values of f inside the box only.

    r is the residual at w. Rounding changes F by about eps * magnitude (n,).
    """
    J = np.empty((w.size, r.size))
    relative = eps ** (1 / 3) if central else eps ** (1 / 2)  # balances truncation and rounding
    rounding = 1e-3 * relative * magnitude
    invisible = norm(rounding)
    sizes = np.abs(w).tolist()
    for j in range(w.size):
        size = sizes[j]
        small = relative * (size if size > TINY else 1.0)
        large = relative * max(1.0, size)
        step, change, differences = column(f, w, j, small, r, central, box)
        if central and not norm(change - step * differences) <= CROOKED * norm(change):  # F has a pole or an end near
            shorter = eps ** (1 / 2) * min(small / relative, 1.0)
            _, closer, better = column(f, w, j, shorter, r, central, box)
            if not finite(differences) or norm(closer) > 1e3 * eps * norm(magnitude):
                differences = better
        if large > small and norm(change) <= invisible and (np.abs(change) <= rounding).all():
            _, _, better = column(f, w, j, large, r, central, box)
            if finite(better):
                differences = better
        J[j] = differences
    return J.T


def stepped_jacobian(f: Residual, w: Array, r: Array, steps: Array, central: bool, box: Box) -> Array:
    """DF(w) (n, m) with the given steps (m,)."""
    J = np.empty((w.size, r.size))
    for j in range(w.size):
        J[j] = column(f, w, j, steps[j], r, central, box)[2]
    return J.T


def column(f: Residual, w: Array, j: int, h: float, r: Array, central: bool, box: Box) -> tuple[float, Array, Array]:
    """The step, the change of F by it (n,), and the column of the Jacobian."""
    below = w.item(j) - box.lower.item(j) if box.bounded else math.inf
    above = box.upper.item(j) - w.item(j) if box.bounded else math.inf
    if max(below, above) <= 0.0:  # lower == upper: the unknown never moves
        return 0.0, np.zeros(r.size), np.zeros(r.size)
    side = above if h <= above or above >= below else -below
    if central and h <= min(above, below):
        a, fa = moved(f, w, j, h, r, box)
        b, fb = moved(f, w, j, -h, r, box)
        if math.isfinite(norm(fa)) and math.isfinite(norm(fb)):
            return a, fa, parabola(a, fa, b, fb)
        side = h if math.isfinite(norm(fa)) else -h  # F ends on the other side
    for room in (side, -below if side > 0.0 else above):
        step = math.copysign(min(h, abs(room) / (2.0 if central else 1.0)), room)
        a, fa = moved(f, w, j, step, r, box)
        if not math.isfinite(norm(fa)) and a * side > 0.0 and min(above, below) > 0.0:
            continue  # F may end on this side
        if not central:
            return a, fa, chord(a, fa)
        b, fb = moved(f, w, j, 2.0 * step, r, box)
        if math.isfinite(norm(fb)):
            return a, fa, parabola(a, fa, b, fb)
    return a, fa, chord(a, fa)


def parabola(a: float, fa: Array, b: float, fb: Array) -> Array:
    """The slope at 0 of the parabola through 0, (a, fa) and (b, fb)."""
    if a == b or b == 0.0:  # so little room that both steps are equal after rounding
        return chord(a, fa)
    if a == 0.0:
        return chord(b, fb)
    c = 2.0**500 if abs(a) < 1e-150 else 1.0  # the squares of such steps would underflow
    a, b = c * a, c * b
    return fa * (c * (b / (a * (b - a)))) - fb * (c * (a / (b * (b - a))))


def chord(a: float, fa: Array) -> Array:
    """fa / a; NaN where no step could be made."""
    return fa / a if a != 0.0 else np.full(fa.size, np.nan)


def moved(f: Residual, w: Array, j: int, h: float, r: Array, box: Box) -> tuple[float, Array]:
    """The step from w_j to w_j + h as rounded, and the change of F."""
    z, old = w.copy(), w.item(j)
    new = old + h
    if box.bounded:
        new = min(max(new, box.lower.item(j)), box.upper.item(j))
    z[j] = new
    return new - old, difference(f(z), r)


def difference(f: Array, r: Array) -> Array:
    """f - r, without warnings: where SGD differences some rows, others may be infinite."""
    if math.isfinite(norm(f)):
        return f - r
    with np.errstate(invalid="ignore"):
        return f - r


def complex_jacobian(f: Callable[[Any], Any], w: Array, n: int) -> Array:
    """DF(w) (n, m) from values of F at complex points."""
    J = np.empty((w.size, n))
    for j in range(w.size):
        h = COMPLEX * (abs(w[j]) if abs(w[j]) > TINY / COMPLEX else 1.0)
        z = w.astype(complex)
        z[j] += 1j * h
        J[j] = f(z).imag / h
    return J.T


def disagreement(
    f: Residual, apply: Callable[[Array], Array], w: Array, magnitude: Array, box: Box, eps: float = _EPS
) -> tuple[float, int]:
    """How far J v (``apply``) is from a difference of f along a random direction v, and the equation where most.

    It is relative to the larger of the two, 0 where rounding alone explains it, and NaN where f is not finite.
    """
    sizes = np.where(np.abs(w) > TINY, np.abs(w), norm(w) / math.sqrt(w.size) or 1.0)
    step = eps ** (1 / 3) * np.random.default_rng(0).standard_normal(w.size) * sizes
    ahead, behind = box.project(w + step), box.project(w - step)
    change, expected = difference(f(ahead), f(behind)), apply(ahead - behind)
    error = np.abs(change - expected)
    size = max(norm(change), norm(expected))
    return 0.0 if norm(error) <= ROUNDING * eps * norm(magnitude) else norm(error) / size, int(np.argmax(error))


class Ahead:
    """f, with values computed in advance, all at once, at the points that differences evaluate first."""

    def __init__(self, f: Callable[[Any], Any], w: Array, r: Array) -> None:
        self.points: list[Any] = []
        self.found: dict[bytes, Array] | None = None
        self._f, self._w, self._r = f, w, r

    def __call__(self, z: Any) -> Any:
        if self.found is not None:
            value = self.found.get(z.tobytes())
            return self._f(z) if value is None else value
        self.points.append(z)
        if np.iscomplexobj(z):
            return self._r
        return self._r + 1e200 * float((z - self._w).sum())  # linear and large, so that no other step is tried


def ahead(
    build: Callable[[Callable[[Any], Any]], Array],
    f: Callable[[Any], Any],
    values: Callable[[list[Any]], list[Array]],
    w: Array,
    r: Array,
) -> Array:
    """build(f), a Jacobian by differences, with the values of f that it needs first computed all at once."""
    source = Ahead(f, w, r)
    with np.errstate(all="ignore"):
        build(source)
    source.found = {z.tobytes(): v for z, v in zip(source.points, values(source.points), strict=True)}
    return build(source)


# -- sparse Jacobians -------------------------------------------------------------------------------------------------

#: The step relative to |w| that balances truncation and rounding.
RELATIVE = {"2-point": _EPS ** (1 / 2), "3-point": _EPS ** (1 / 3), "cs": COMPLEX}


class Sparsity:
    """The entries of DF that may differ from zero; columns of a group share no row (Curtis, Powell, Reid, 1974).

    Attributes
    ----------
    shape : (n, m)
    rows, columns : ndarray (nnz,)
        Row and column numbers of these entries.
    group : ndarray (m,)
        The number of each column's group.
    """

    def __init__(self, structure: Any) -> None:
        pattern = csc_array(structure, dtype=bool, copy=True)
        pattern.sum_duplicates()
        pattern.eliminate_zeros()
        self.shape: tuple[int, int] = pattern.shape
        self.rows = pattern.indices.astype(np.int64)
        self.columns = np.repeat(np.arange(self.shape[1]), np.diff(pattern.indptr))
        self.group = first_free(self.shape[0], np.split(self.rows, pattern.indptr[1:-1]))

    @property
    def count(self) -> int:
        """The number of groups."""
        return int(self.group.max()) + 1

    def groups(self) -> Iterator[tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]]:
        """For each group: a mask of its columns, and the indices of their entries."""
        numbers = self.group[self.columns]
        order = np.argsort(numbers, kind="stable")
        ends = np.searchsorted(numbers[order], np.arange(1, self.count))
        for k, places in enumerate(np.split(order, ends)):
            yield self.group == k, places


def first_free(n: int, columns: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """For each column, given by its rows, the least group without an earlier column that shares a row."""
    taken = [0] * n  # for each row, the groups of the columns that have it, as bits
    numbers = np.empty(len(columns), np.int64)
    for j, column in enumerate(columns):
        rows, seen = column.tolist(), 0
        for i in rows:
            seen |= taken[i]
        free = ~seen & (seen + 1)
        for i in rows:
            taken[i] |= free
        numbers[j] = free.bit_length() - 1
    return numbers


def sparse_jacobian(
    values: Callable[[Iterable[Any], int], Iterable[Any]],
    w: Array,
    f: Array,
    kind: str,
    relative: Any,
    sparsity: Sparsity,
    bounds: tuple[Any, Any],
) -> Any:
    """DF(w) (n, m) as a CSR matrix; all unknowns of a group are moved at once.

    f is F(w); values(points, count) gives F at each point; relative: the steps as multiples of |w|.
    """
    ends = [w + 1j * lengths(w, relative, COMPLEX)] if kind == "cs" else ends_inside(w, kind, relative, *bounds)
    entries = np.empty(sparsity.rows.size)
    points = (np.where(columns, end, w) for columns, _ in sparsity.groups() for end in ends)
    found = iter(values(points, len(ends) * sparsity.count))
    for _, places in sparsity.groups():
        i, j = sparsity.rows[places], sparsity.columns[places]
        entries[places] = slope(f[i], [next(found)[i] for _ in ends], [(end - w)[j] for end in ends])
    return csr_array((entries, (sparsity.rows, sparsity.columns)), shape=sparsity.shape)


def lengths(w: Array, relative: Any, least: float) -> Array:
    """The steps relative * |w|; where these are zero, least * max(1, |w|)."""
    steps = np.abs(relative * np.abs(w))
    return np.where(steps > TINY, steps, least * np.maximum(1.0, np.abs(w)))


def ends_inside(w: Array, kind: str, relative: Any, lower: Any, upper: Any) -> list[Array]:
    """The moved values of the unknowns: one, or two for '3-point', on both sides of w if there is room."""
    h = lengths(w, relative, RELATIVE[kind])
    h = np.where(w + h == w, lengths(w, 0.0, RELATIVE[kind]), h)
    above, below = upper - w, w - lower
    up = (h <= above) | (above >= below)
    sign, room = np.where(up, 1.0, -1.0), np.where(up, above, below)
    if kind == "2-point":
        return [np.clip(w + sign * np.minimum(h, room), lower, upper)]
    both = h <= np.minimum(above, below)
    first = np.where(both, h, sign * np.minimum(h, 0.5 * room))
    return [np.clip(w + step, lower, upper) for step in (first, np.where(both, -h, 2.0 * first))]


def slope(f: Array, ends: list[Any], steps: list[Any]) -> Array:
    """The derivative from f at w and at one or two other points, entry by entry."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        chords = [(end - f) / step for end, step in zip(ends, steps, strict=True)]
        if len(steps) == 1:
            return np.asarray(chords[0].real)
        (first, second), (a, b) = chords, steps
        bent = first + (first - second) * (a / (b - a))
    return np.asarray(np.where(a == 0.0, second, np.where(np.isfinite(bent), bent, first)))
