"""The model ||r + J p||^2 + p^T S p of the loss around a point, n >= m, and its minimum in a ball and a box.

It is stored in q = p / d by J diag(d) = Q R and c = Q^T r. If the ball does not limit the step, triangular factors give
the minimum; else the singular values of R do or, with S, the eigenvalues of the Hessian. Unknowns that meet a bound are
held there, and the others are solved for again.
"""

from __future__ import annotations

import math
from copy import copy
from functools import cache, cached_property
from typing import NamedTuple

import numpy as np
from scipy.linalg import blas, lapack

from plsolve._linalg import Array, Mask, diagonal_range, norm, trtrs
from plsolve._tangent import Tangent
from plsolve.methods.tuning import TUNING

RANK = 1e-15  # of the largest singular value: smaller ones are zero
ROUNDING = 1e-15  # of the largest eigenvalue: error of the others
ALL, NOWHERE = np.empty(0, np.bool_), np.empty(0)


class Spectrum(NamedTuple):
    """The Hessian V diag(e) V^T in the free unknowns, and b = V^T times half the slope."""

    e: Array
    V: Array
    b: Array


class Minimum(NamedTuple):
    """The minimum q of the model, whether it lies inside the ball, and the damping t."""

    q: Array
    full: bool
    t: float


class Quadratic:
    """The model; the argument ``curved`` of its methods: with S.

    Attributes
    ----------
    d, c : ndarray (m,)
        The scale, and Q^T r.
    R, S : ndarray (m, m)
        The entries of R below its diagonal are undefined; ``regular``: R is safely invertible.
    below, above : ndarray
        Lower and upper bounds of p; empty: without bounds.
    low, high : ndarray
        The same for q.
    free : ndarray
        Marks the unknowns that are not held at a bound; empty: all.
    newton : ndarray (m,)
        The minimum of the model without S; empty where R is not regular, or unknowns are held.
    length : float
        The norm of ``newton``; inf where that is empty.
    """

    cautious = False  # see `cautious_copy`

    def __init__(
        self,
        d: Array,
        R: Array,
        c: Array,
        S: Array,
        regular: bool,
        below: Array = NOWHERE,
        above: Array = NOWHERE,
        free: Mask = ALL,
    ) -> None:
        self.d, self.R, self.c, self.S = d, R, c, S
        self.below, self.above, self.free = below, above, free
        self.low, self.high = (below / d, above / d) if below.size else (below, above)
        self.newton, self.length = NOWHERE, math.inf
        if regular and not free.size:
            self.newton = trtrs(R, -c, False)
            self.length = norm(self.newton)

    def step(self, q: Array) -> Array:
        """The step p for q; where q is at its limit, p leads exactly to the bound."""
        p = self.d * q
        if not self.low.size:
            return p
        return np.where(q == self.low, self.below, np.where(q == self.high, self.above, p))

    def within(self, p: Array) -> Array:
        """The step in the box that is nearest to p."""
        return np.minimum(np.maximum(p, self.below), self.above) if self.below.size else p

    def nears_bounds(self, q: Array) -> bool:
        """Whether q goes more than half the way to a bound."""
        if self.cautious or not self.low.size:
            return False
        return bool(((q < TUNING.bound_share * self.low) | (q > TUNING.bound_share * self.high)).any())

    def cautious_copy(self) -> Quadratic:
        """The model with bounds at a share of the distance to the true ones."""
        model = copy(self)
        model.below, model.above, model.low, model.high = (
            TUNING.bound_share * limit for limit in (self.below, self.above, self.low, self.high)
        )
        model.cautious = True
        return model

    @cached_property
    def triangle(self) -> Array:
        """R with zeros below the diagonal."""
        return upper(self.R)

    @cached_property
    def scaled_S(self) -> Array:
        """diag(d) S diag(d)."""
        return self.d[:, None] * self.S * self.d

    @cached_property
    def plain_spectrum(self) -> Spectrum:
        """The spectrum without S."""
        return self.spectrum(False, self.free, NOWHERE)

    @cached_property
    def curved_spectrum(self) -> Spectrum:
        """The spectrum with S."""
        return self.spectrum(True, self.free, NOWHERE)

    @cached_property
    def curved_newton(self) -> tuple[Array, float, float]:
        """The minimum of the model with S, its length and reduction; empty where Cholesky does not give it."""
        if not self.free.size:
            R = self.triangle
            slope = R.T.dot(self.c)
            L, q, failed = lapack.dposv(R.T.dot(R) + self.scaled_S, -slope)
            pivot, largest = diagonal_range(L)
            if not failed and pivot >= TUNING.sound_pivots * largest:
                return q, norm(q), -float(slope.dot(q))
        return NOWHERE, math.inf, math.inf

    def spectrum(self, curved: bool, free: Mask, q: Array) -> Spectrum:
        """The spectrum in the free unknowns, the others being fixed at q (empty: at zero)."""
        R, c = self.triangle, self.c
        if q.size:
            c = c + R[:, ~free].dot(q[~free])
        if free.size:
            R = R[:, free]
        if R.shape[1] == 0:
            return Spectrum(NOWHERE, np.empty((0, 0)), NOWHERE)
        if not curved:
            U, s, Vt, _ = lapack.dgesdd(R, full_matrices=0)
            b = s * c.dot(U)
            if s[-1] <= RANK * s[0]:
                b[s <= RANK * s[0]] = 0.0
            return Spectrum(s * s, Vt.T, b)
        slope, S = R.T.dot(c), self.scaled_S
        if q.size:
            slope = slope + S[np.ix_(free, ~free)].dot(q[~free])
        if free.size:
            S = S[np.ix_(free, free)]
        e, V, _ = lapack.dsyevd(R.T.dot(R) + S)
        return Spectrum(e, V, slope.dot(V))

    # -- predicted reductions -----------------------------------------------------------------------------------------

    def predicted(self, q: Array, curved: bool) -> float:
        """The predicted reduction of ||r||^2 by a step."""
        if q is self.newton:
            plain = float(self.c.dot(self.c))
        else:
            Rq = blas.dtrmv(self.R, q)
            plain = -(2.0 * float(self.c.dot(Rq)) + float(Rq.dot(Rq)))
        return plain - (float(q.dot(self.scaled_S.dot(q))) if curved else 0.0)

    def largest_reduction(self, curved: bool) -> float:
        """The predicted reduction by the step to the minimum; inf where there is no minimum."""
        if not curved:
            return float(self.c.dot(self.c)) if self.newton.size else reduction_at_minimum(self.plain_spectrum)
        return self.curved_newton[2] if self.curved_newton[0].size else reduction_at_minimum(self.curved_spectrum)

    # -- its minimum --------------------------------------------------------------------------------------------------

    def minimum(self, curved: bool, radius: float) -> Minimum:
        """The minimum in the ball and the box."""
        q, length = self.curved_newton[:2] if curved else (self.newton, self.length)
        if length <= radius and q.size:
            best = Minimum(q, True, 0.0)
        else:
            spectrum = self.curved_spectrum if curved else self.plain_spectrum
            best = in_ball(spectrum, radius)
            best = best._replace(q=spectrum.V.dot(best.q))
        return self.in_box(best, curved, radius) if self.low.size else best

    def in_box(self, whole: Minimum, curved: bool, radius: float) -> Minimum:
        """The minimum in the box; ``whole``: that without bounds on the free unknowns."""
        free = self.free if self.free.size else np.ones(self.d.size, np.bool_)
        q = np.zeros(self.d.size)
        q[free] = whole.q
        cut = (q < self.low) | (q > self.high)
        if not cut.any():
            return whole._replace(q=q)
        q = np.minimum(np.maximum(q, self.low), self.high)
        for _ in range(TUNING.bound_releases):
            g = self.slope(q, curved)
            moving = free & ~(((q <= self.low) & (g >= 0.0)) | ((q >= self.high) & (g <= 0.0)))
            if not moving.any():
                break
            rest, target = self.spectrum(curved, moving, q), q.copy()
            target[moving] = rest.V.dot(in_ball(rest, radius).q)
            new = self.towards(q, target, curved)
            if not self.predicted(new, curved) > self.predicted(q, curved) + 1e-3 * abs(self.predicted(q, curved)):
                break
            q = new
        down = self.downhill(curved, radius)
        better = self.predicted(q, curved) > 0.5 * self.predicted(down, curved)
        return Minimum(q if better else down, False, whole.t)

    def slope(self, q: Array, curved: bool) -> Array:
        """Half the gradient of the model at q."""
        R = self.triangle
        g: Array = R.T.dot(self.c + R.dot(q))
        return g + self.scaled_S.dot(q) if curved else g

    def towards(self, q: Array, target: Array, curved: bool) -> Array:
        """A point where the model is lower than at q, on the line to the target projected on the box; else q."""
        least, t = self.predicted(q, curved), 1.0
        for _ in range(10):
            new: Array = np.minimum(np.maximum(q + t * (target - q), self.low), self.high)
            if self.predicted(new, curved) > least:
                return new
            t *= 0.5
        return q

    def downhill(self, curved: bool, radius: float) -> Array:
        """A step along the projected gradient that reduces the model sufficiently (Armijo)."""
        R = self.triangle
        g = R.T.dot(self.c)
        if self.free.size:
            g[~self.free] = 0.0
        size, image = norm(g), norm(R.dot(g))
        t = min(radius / max(size, 1e-300), 10.0 * (size / image) ** 2 if image > 0.0 else 1.0)
        q: Array = g
        for _ in range(60):
            q = np.minimum(np.maximum(-t * g, self.low), self.high)
            if self.predicted(q, curved) >= -0.2 * float(g.dot(q)):
                break
            t *= 0.3
        return q

    def damped_inverse(self, T: Tangent, x: Array, t: float) -> Array:
        """(A^T A + t)^+ A^T x, A = J diag(d): for t = 0 the pseudo-inverse of A."""
        a = self.d * T.adjoint(x)
        if self.newton.size and t == 0.0:
            return trtrs(self.R, trtrs(self.R, a, True), False)
        free, (e, V, _) = self.free, self.plain_spectrum
        shifted = e + t
        z = (a[free] if free.size else a).dot(V)
        z = np.where(shifted > RANK * RANK * e.max(), z, 0.0) / np.where(shifted > 0.0, shifted, 1.0)
        if not free.size:
            return V.dot(z)  # type: ignore[no-any-return]
        a = np.zeros(free.size)
        a[free] = V.dot(z)
        return a


@cache
def ones_above(m: int) -> Array:
    return np.asfortranarray(np.triu(np.ones((m, m))))


def upper(R: Array) -> Array:
    """R with zeros below the diagonal."""
    return R * ones_above(R.shape[0])  # a quarter of the time of triu


def in_ball(model: Spectrum, radius: float) -> Minimum:
    """x with (e + t) x = -b, ||x|| <= radius, t >= 0 and e + t >= 0."""
    e, b = model.e, model.b
    size = norm(b) if b.size else 0.0
    if size == 0.0:
        return Minimum(np.zeros(b.size), True, 0.0)
    low, top = sorted((float(e[0]), float(e[-1])))  # e is sorted, one way or the other
    if low > 1e-14 * top or ((e > 0.0) | (b == 0.0)).all():
        x = b / (e if low > 0.0 else np.where(e > 0.0, e, 1.0))
        if norm(x) <= radius:
            return Minimum(-x, True, 0.0)
    top = max(abs(top), abs(low))
    if radius == math.inf:
        radius = max(size / max(top, 1e-300), 1e-300)
    least_t = max(0.0, -low) + (ROUNDING if low < 0.0 else 1e-32) * top
    t = max(size / radius - top, least_t)
    for _ in range(20):
        shifted = e + t
        x = b / shifted
        length = norm(x)
        slope = float(x.dot(x / shifted))
        if abs(length - radius) <= 0.1 * radius or slope == 0.0:
            break
        t = max(t + (length / radius - 1.0) * length * length / slope, least_t)
    return Minimum(x * -min(1.0, radius / max(norm(x), 1e-300)), False, t)


def reduction_at_minimum(model: Spectrum) -> float:
    """The predicted reduction by the step to the minimum; inf where there is no minimum."""
    e, b = model.e, model.b
    if e.size and not min(e[0], e[-1]) > 0.0:
        e, b = e[b != 0.0], b[b != 0.0]
    if e.size and not min(e[0], e[-1]) > 0.0:
        return math.inf
    return float(b.dot(b / e))
