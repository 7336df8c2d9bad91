"""Rounding-safe numbers at one point, for its certificate, and the tests of beta and J there."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.sparse.linalg import LinearOperator

from plsolve._linalg import HUGE, UNIT, Array, norm
from plsolve._problem import Problem
from plsolve._proofs import enclosure
from plsolve._record import Point
from plsolve._stopping import Ended
from plsolve._tangent import Tangent, tangent
from plsolve.theory import certificates as theory

PROBES = 2  # random directions in which curvature is measured
LARGE = 1_000_000  # entries of J beyond which curvature is measured with few products
STEPS = 4  # of the power iteration, one Jacobian each
BEND = 1e-4  # length of a probe, relative to the size of w
SLACK = 4.0  # times the bound of the rounding error
DOWN = 1.0 - 1e-12  # covers the rounding of a few scalar operations, as enclosure.UP does


class Local:
    """Rounding-safe numbers at a point x, from J there or at a point nearby (theory 3.9).

    Attributes
    ----------
    x, r : ndarray
        The point and its residual.
    noise : ndarray (n,)
        Bounds of the errors of the residual at the point of J.
    more_noise : float
        By how much an error of J adds to the noise at x, relative to that error.
    norm_J, frobenius : float
        ||J|| at its point, and an upper bound.
    mu : float
        lambda_min(K) there, estimated; 0 where n > m, or K is singular to rounding.
    away : float
        Distance of x from the point of J.
    """

    def __init__(
        self,
        problem: Problem,
        T: Tangent,
        base: Point,
        point: Point | None = None,
        kernel: enclosure.Kernel | None = None,
    ) -> None:
        self._problem, self._T, (self._w, self._r) = problem, T, base
        self.x, self.r = base if point is None else point
        self.away = norm(self.x - self._w) * enclosure.UP
        self._large = T.shape[0] * T.shape[1] > LARGE
        n, m = T.shape
        self._kernel = kernel = enclosure.kernel(T) if kernel is None else kernel
        self._rows = enclosure.row_norms(T, kernel)
        self._coarse = problem.system.precision / (2.0 * UNIT)
        self.noise = self._coarse * enclosure.noise(T, self._w, problem.magnitudes(self._r), self._rows)
        self.more_noise = self._coarse * enclosure.MODEL * math.sqrt(n) * norm(self.x) * enclosure.UP
        self.frobenius = enclosure.norm_bound(kernel, self._rows, tight=False)
        self._inverse = enclosure.inverse(T, kernel) if kernel is not None and n <= m else None
        self.mu, self._sigma = (0.0, 0.0) if self._inverse is None else (self._inverse.mu, self._inverse.sigma)
        if kernel is None:
            self.mu, self.norm_J = enclosure.ends(T)
        else:
            self.norm_J = enclosure.top(kernel, self._rows)

    def products_agree(self) -> bool:
        """False where J is an operator whose products contradict each other."""
        if self._kernel is None or self._T.shape[0] > self._T.shape[1] or not isinstance(self._T.J, LinearOperator):
            return True
        return enclosure.products_agree(self._T, self._kernel, self._rows)

    def _noise_at_x(self, betas: Array) -> Array:
        if self.away == 0.0:
            return self.noise
        terms = (self._rows + betas * self.away) * norm(self.x)
        return self._coarse * enclosure.MODEL * enclosure.UP * (self._problem.magnitudes(self.r) + terms)

    def newton(self, betas: Array) -> tuple[float, float, str]:
        """h of theory 3.1 at x, or of 3.2 if smaller; an upper bound of ||J^+ r|| there; and the theorem's number."""
        if self._inverse is None:
            return theory.INFINITE, theory.INFINITE, "3.1"
        omega, name = theory.equations_beta(betas.tolist()) / self._sigma, "3.1"
        if betas.size > 1 and (by_equation := enclosure.omega(self._inverse, betas)) < omega:
            omega, name = by_equation, "3.2"
        length = enclosure.newton_length(self._inverse, self.r, self._noise_at_x(betas))
        h, length = theory.moved_newton(omega * enclosure.UP, length, self.away)
        return h * enclosure.UP, length * enclosure.UP, name

    def change(self, beta: float) -> float:
        """A bound of the difference between J at x and this J, relative to sigma_min(J)."""
        return beta * self.away / self._sigma if self._sigma > 0.0 else theory.INFINITE

    def sigma(self, beta: float) -> float:
        """A lower bound of sigma_min(J) at x."""
        return max((self._sigma - beta * self.away) * DOWN, 0.0)

    def descent_radius(self, beta: float) -> float:
        """R of theory 3.4 at x."""
        size = (norm(self.r) + norm(self._noise_at_x(np.array([beta])))) * enclosure.UP
        lipschitz = (self.frobenius + beta * self.away) * enclosure.UP
        return theory.descent_ball(beta, size, self.sigma(beta), lipschitz)[0] * enclosure.UP

    def absence(self, betas: Array) -> tuple[float, float]:
        """The radius without a solution around the point of J, from all equations or one (3.5), and its jac_margin."""
        rest = np.abs(self._r) - self.noise
        lipschitz = enclosure.norm_bound(self._kernel, self._rows, tight=True)
        cases = [(norm(np.maximum(rest, 0.0)), lipschitz, theory.equations_beta(betas.tolist()))]
        cases += [
            (float(rest[i]), float(self._rows[i]), float(betas[i % betas.size])) for i in np.flatnonzero(rest > 0.0)
        ]
        radius, case = max((theory.absence_radius(*case), case) for case in cases)
        return radius * DOWN, theory.absence_jac_margin(radius, *case[1:], self.more_noise) * DOWN

    def evidence(self, path: Sequence[Point], betas: Array | None) -> tuple[float, Array]:
        """The curvature of F, of all equations together and of each.

        betas None: as an estimate of beta, it includes what rounding may hide. Otherwise it tests betas and J.
        """
        away = [(u, r) for u, r in path if norm(u - self._w) > 0.0]
        if self._large and away:
            away = [min(away, key=lambda point: norm(point[0] - self._w))]
        if betas is None:
            points = away if self._large and away else [*away, *self.probes()]
            seen, rows, hidden = self.curvature(points, np.zeros(1))
            return max(seen, hidden), rows
        seen, rows, _ = self.curvature(away or self.probes(), betas)
        points, rounding = self.tests(betas)
        tested, rows_tested, _ = self.curvature(points, betas, rounding)
        return max(seen, tested), np.maximum(rows, rows_tested)

    def curvature(
        self, points: Sequence[Point], betas: Array, rounding: Array | float = 0.0
    ) -> tuple[float, Array, float]:
        """The largest 2||r(u) - r - J(u - w)||/||u - w||^2, of all equations together and of each, less rounding.

        The third number is the least curvature that rounding could hide. J at u, which the rounding of F depends on, is
        bounded by betas. ``rounding`` is subtracted additionally.
        """
        whole, rows, hidden = 0.0, np.zeros(self._r.size), math.inf
        others = [(u, r, norm(u - self._w)) for u, r in points]
        away = [(u, r) for u, r, length in others if math.isfinite(norm(r)) and 1.0 / HUGE < length < HUGE]
        if not away:
            return whole, rows, math.inf if any(length > 0.0 for *_, length in others) else 0.0
        if len(away) == 1:
            JV = self._T.apply(away[0][0] - self._w)[:, None]
        else:
            JV = self._T.apply(np.column_stack([u - self._w for u, _ in away]))  # one pass over J
        for i, (u, r) in enumerate(away):
            length = norm(u - self._w)
            terms = self._problem.magnitudes(r) + (self._rows + betas * length) * norm(u)
            terms += self._rows * (self._w.size + 8) * length
            error = self.noise + 2.0 * self._coarse * enclosure.MODEL * terms + rounding
            per_square = 2.0 / (length * length)
            rest = per_square * np.maximum(np.abs(r - self._r - JV[:, i]) - error, 0.0)
            whole, rows, hidden = max(whole, norm(rest)), np.maximum(rows, rest), min(hidden, per_square * norm(error))
        return whole, rows, hidden

    def search(self) -> tuple[float, Array]:
        """||J(u) - J(w)||/||u - w||, and the same of each row, less rounding, at points u found by power iteration."""
        w, problem = self._w, self._problem
        J, length = self._T.toarray().copy(), self._probe_length()  # jac may fill the same array at every call
        whole, rows = 0.0, np.zeros(self._r.size)
        v = np.random.default_rng(1).standard_normal(w.size)
        z = np.random.default_rng(2).standard_normal(self._r.size)
        for _ in range(STEPS):
            u = problem.project(w + (length / norm(v)) * v)
            away = norm(u - w)
            r = problem.residual(u)
            if not (away > 0.0 and math.isfinite(norm(r))):
                break
            try:
                G = tangent(problem.linearise(u, r, True).J, np.zeros(0)).toarray()
            except Ended:
                break
            D = G - J
            size = np.sqrt(np.einsum("ij,ij->i", D, D))
            error = 2.0 * enclosure.MODEL * (self._rows + np.sqrt(np.einsum("ij,ij->i", G, G)))
            rows = np.fmax(rows, (size - error) / away)
            Dv, v = D @ (v / norm(v)), D.T @ (z / norm(z))
            z = Dv if norm(Dv) > 0.0 else z
            if not 0.0 < norm(v) < math.inf:
                break
            whole = max(whole, (norm(D @ (v / norm(v))) - norm(error)) / away)  # at most ||D||
        return whole, rows

    def _scale(self) -> float:
        """The size of w, or of a step that would matter at w = 0."""
        return norm(self._w) or norm(self._problem.magnitudes(self._r)) / (self.norm_J or 1.0) or 1.0

    def _probe_length(self) -> float:
        if self._inverse is None:
            return BEND * self._scale()
        return max(2.0 * enclosure.newton_length(self._inverse, self._r, self.noise), BEND * self._scale())

    def tests(self, betas: Array) -> tuple[list[Point], Array]:
        """Points in random directions (fixed seed) where an error in J is most visible, and the tolerance of the test.

        The tolerance is several times the rounding errors of the model, including cancellation in J.
        """
        rounding = SLACK * (self.noise + self._coarse * enclosure.MODEL * betas * norm(self._w) * norm(self._w))
        lengths = np.fmin(np.sqrt(2.0 * rounding / betas), self._scale())
        lengths = np.maximum(np.quantile(lengths, [0.5] if self._large else [0.0, 0.5, 1.0]), 1e-12 * norm(self._w))
        directions = np.random.default_rng(3).standard_normal((3, self._w.size))
        return [self._point(v, length) for v, length in zip(directions, np.unique(lengths), strict=False)], rounding

    def probes(self) -> list[Point]:
        """Points along the Newton step and in random directions (fixed seed), to measure curvature."""
        lead = self._T.adjoint(self._r)
        if self._inverse is not None:
            lead = enclosure.newton_step(self._inverse, self._T, self._r)
        others = np.random.default_rng(0).standard_normal((PROBES, self._w.size))
        length = self._probe_length()
        return [self._point(v, length) for v in ((lead,) if self._large else (lead, *others)) if norm(v) > 0.0]

    def _point(self, v: Array, length: float) -> Point:
        """The point at this distance in the direction v, moved closer if it would leave the box."""
        u = self._problem.project(self._w + (length / norm(v)) * v)
        return u, self._problem.residual(u)
