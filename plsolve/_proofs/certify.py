"""Does F(w) = y have a solution near w? Proofs of existence and of absence from F and J at one point (theory 3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from plsolve._checks import Names, as_beta, warn
from plsolve._linalg import HUGE, UNIT, Array, norm
from plsolve._problem import Problem
from plsolve._proofs import enclosure
from plsolve._proofs.certificate import ESTIMATED, TOO_LARGE, UNPROVED, Certificate
from plsolve._record import Point
from plsolve._stopping import Ended, Status
from plsolve._tangent import Tangent, tangent
from plsolve.theory import certificates as theory

SAFETY = 10.0  # times the largest curvature found: the estimate of beta
PROBES = 2  # random directions in which curvature is measured
SEARCHED = 100_000  # entries of J up to which a given beta is tested by power iteration
LARGE = 1_000_000  # entries of J beyond which curvature is measured with few products
STEPS = 4  # of the power iteration, one Jacobian each
BEND = 1e-4  # length of a probe, relative to the size of w
CLEARLY = 1.0 + 1e-6  # times beta: more curvature than this contradicts beta and is not rounding
SLACK = 4.0  # times the bound of the rounding error
NEAR = 1e-4  # share of sigma_min(J) by which J may differ from the last J for this to be used
DOWN = 1.0 - 1e-12  # covers the rounding of a few scalar operations, as enclosure.UP does


def certify(
    F: Callable[..., Any],
    jac: Any,
    w: Any,
    y: Any = None,
    *,
    args: tuple[Any, ...] = (),
    beta: Any = None,
    bounds: Any = None,
) -> Certificate:
    """Prove that F(w) = y has a solution near w, or that it has none.

    Parameters
    ----------
    F : callable
        F, jac, y and args are as for `plsolve.solve`.
    jac : callable, True, None or {'2-point', '3-point', 'cs'}
        The Jacobian.
    w : array_like (m,)
        The point.
    y : array_like (n,), optional
        Target, zeros by default.
    args : tuple
        Passed on to F and jac.
    beta : float or array_like (n,), optional
        Lipschitz constant of jac on R^m (on the box, with bounds), ||J(u) - J(v)||_2 <= beta ||u - v||, or one for each
        row of J. If J has at most 100 000 entries, beta is tested at the cost of four more Jacobians. If beta is not
        given, it is estimated as 10 times the largest curvature of F along the Newton step and a few random directions
        (seeded, a handful of calls of F); this proves nothing.
    bounds : (lower, upper) or scipy.optimize.Bounds, optional
        F is never called outside; only a ball inside is rigorous.

    Returns
    -------
    Certificate
        Its ``str`` is a sentence.

    Raises
    ------
    TypeError, ValueError
        For bad input, and where F(w) or jac(w) is not finite or out of range: the message names the argument.

    Warns
    -----
    RuntimeWarning
        Where F contradicts ``beta`` or jac.

    Notes
    -----
    Existence (m >= n): with e0 = ||J^+ r||, s0 = sigma_min(J) and h = beta e0/s0 <= 1/2 a solution lies within
    2 e0/(1 + sqrt(1 - 2h)) of w (Newton-Kantorovich for the minimum-norm step: theory 3.1; Walker and Watson, SIAM J.
    Numer. Anal. 27, 1990); with one beta per equation h = omega e0, omega = SUM_i beta_i sqrt((K^{-1})_ii) or less, so
    that the scale of the equations does not matter (3.2). Absence: no solution where ||J|| R + beta R^2/2 < ||r||, for
    all equations together or for any one (3.5).

    ``rigorous`` means that rounding cannot invalidate the proof, under this model: F is computed to within
    ``8u (|F| + |y| + |J||w|)`` in every equation and J to within ``8u |J|`` in every entry, u = 1.1e-16 (a ``gram()``
    of a LinearOperator as accurately as a product of J with itself). s0 is bounded from below and ||J||, e0, ``t*``
    from above, with all errors of the computation included. A certificate is never rigorous if J comes from
    differences, if F or J has less than double precision, if beta is estimated, if F contradicts beta or J (tested at a
    few points, far enough for errors to exceed rounding; a RuntimeWarning says so), or if the ball leaves the bounds.

    Examples
    --------
    >>> from plsolve import certify
    >>> print(certify(lambda w: [w @ w], lambda w: 2 * w[None], [0.6, 0.81], [1.0], beta=2.0))
    A solution of F(w)=y lies within 0.008 of x (Newton-Kantorovich, h = 0.008; beta given, safety margin 62).
    """
    names = Names(w0="w")
    problem = Problem(F, jac, w, y, args=args, bounds=bounds, names=names)
    beta, point = as_beta(beta, problem.n), (problem.w0, problem.r0)
    with problem.at_work():
        try:
            T = problem.linearise(*point, True)
        except Ended as end:
            raise ValueError(f"There is no certificate at w:{end}") from None
        return certificate(problem, Local(problem, T, point), beta, (), 0.0)


def certificate_of_run(
    problem: Problem, jac: Callable[[], Any], point: Point, beta: Array | None, path: Sequence[Point], beta_seen: float
) -> Certificate:
    """The certificate at the last point of a run; jac() gives J there, and is called only if needed.

    With a given beta, the last linearisation can replace J at x if it was near (theory 3.9), and the factor of its
    kernel is available.
    """
    if beta is not None and problem.latest is not None:
        w, T = problem.latest
        base = [(u, r) for u, r in path if u is w]
        if base and (kernel := enclosure.kept_kernel(T)) is not None:
            at = Local(problem, tangent(T.J, np.zeros(0)), base[0], point, kernel)
            if at.change(theory.equations_beta(beta.tolist())) <= NEAR and at.newton(beta)[0] <= 0.5:
                return certificate(problem, at, beta, path, beta_seen)
    return certificate(problem, Local(problem, tangent(jac(), np.zeros(0)), point), beta, path, beta_seen)


def certificate(
    problem: Problem, at: Local, beta: Array | None, path: Sequence[Point], beta_seen: float
) -> Certificate:
    """The certificate from the numbers at a point.

    beta has one entry, or one per equation; path: points of the run (empty: probes are made); beta_seen: the largest
    2||r+ - r - J dw||/||dw||^2 of a step of the run, less rounding.
    """
    estimated, tested = beta is None, beta is not None and not problem.differenced
    seen, rows_bend = at.evidence(path, beta if tested else None)
    if tested and problem.n * problem.m <= SEARCHED:
        found, rows_found = at.search()
        seen, rows_bend = max(seen, found), np.maximum(rows_bend, rows_found)
    seen = max(seen, beta_seen)
    betas = np.array([SAFETY * seen]) if beta is None else beta
    whole = theory.equations_beta(betas.tolist())
    contradicted = tested and (seen > whole * CLEARLY or bool((rows_bend > betas * CLEARLY).any()))
    h, length, name = at.newton(betas)
    exists = h <= 0.5
    if exists:
        radius = theory.newton_radius(h, length) * enclosure.UP
    else:
        radius, name = 0.0 if estimated else at.absence(betas), "3.5"
    absent = not exists and radius > 0.0
    reason = UNPROVED if problem.n <= enclosure.MOST_ROWS else TOO_LARGE
    if exists or absent:
        reason = doubt(problem, at.x, radius, estimated, contradicted)
    if contradicted:
        warn(
            f"`beta` = {whole:.3g} is contradicted by F, or `jac` is wrong: no certificate is rigorous.",
            RuntimeWarning,
        )
    return Certificate(
        exists=exists,
        radius=radius,
        absent=absent,
        rigorous=not reason,
        h=h,
        margin=0.5 / h if h > 0.0 else theory.INFINITE,
        mu=at.mu,
        lipschitz=at.norm_J,
        beta=whole,
        theorem=name,
        estimated=estimated,
        gd_radius=at.descent_radius(whole),
        paper_radius=theory.paper_ball(at.norm_J, norm(at.r), at.mu),
        reason=reason,
    )


class Nearness:
    """The test of ``xtol``: theory 3.1 proves a solution within xtol max(1, ||w||) of w, beta given or estimated.

    The test costs a Jacobian and a factorisation. So it is made only where ||r||/||J||, a lower bound of the distance
    for linear F, is small enough, and after a failure only once ||r|| has halved.
    """

    def __init__(self, problem: Problem, beta: Array | None, xtol: float) -> None:
        self._problem, self._beta, self._xtol = problem, beta, xtol
        self._lipschitz, self._failed = theory.INFINITE, theory.INFINITE

    @property
    def learnt(self) -> tuple[float, float]:
        """What later tests depend on."""
        return self._lipschitz, self._failed

    def take(self, learnt: tuple[float, float]) -> None:
        """Go on with what was learnt in an earlier process."""
        self._lipschitz, self._failed = learnt

    def __call__(self, w: Array, r: Array, path: Sequence[Point], beta_seen: float) -> bool:
        problem, enough = self._problem, self._xtol * max(1.0, norm(w))
        if (
            problem.n > min(problem.m, enclosure.MOST_ROWS)
            or norm(r) <= problem.target
            or norm(r) > min(enough * self._lipschitz, 0.5 * self._failed)
        ):
            return False
        try:
            J = problem.linearise(w, r, True).J
        except Ended as end:
            if end.status != Status.STALLED:
                raise
            return False
        at = Local(problem, tangent(J, np.zeros(0)), (w, r))
        seen = max(at.evidence(path, self._beta)[0], beta_seen)
        betas = self._beta
        if betas is None or seen > theory.equations_beta(betas.tolist()) * CLEARLY:
            betas = np.array([SAFETY * seen])
        h, length, _ = at.newton(betas)
        self._lipschitz, self._failed = at.frobenius, norm(r)
        radius = theory.newton_radius(h, length)
        return radius <= enough and inside(problem, w, radius)


class Local:
    """Rounding-safe numbers at a point x, from J there or at a point nearby (theory 3.9).

    Attributes
    ----------
    x, r : ndarray
        The point and its residual.
    noise : ndarray (n,)
        Bounds of the errors of the residual at the point of J.
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
        self.frobenius = enclosure.norm_bound(kernel, self._rows, tight=False)
        self._inverse = enclosure.inverse(T, kernel) if kernel is not None and n <= m else None
        self.mu, self._sigma = (0.0, 0.0) if self._inverse is None else (self._inverse.mu, self._inverse.sigma)
        if kernel is None:
            self.mu, self.norm_J = enclosure.ends(T)
        else:
            self.norm_J = enclosure.top(kernel, self._rows)

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

    def descent_radius(self, beta: float) -> float:
        """R of theory 3.4 at x."""
        moved = beta * self.away
        size = (norm(self.r) + norm(self._noise_at_x(np.array([beta])))) * enclosure.UP
        sigma, lipschitz = self._sigma - moved, (self.frobenius + moved) * enclosure.UP
        return theory.descent_ball(beta, size, max(sigma * DOWN, 0.0), lipschitz)[0] * enclosure.UP

    def absence(self, betas: Array) -> float:
        """The radius without a solution around the point of J, from all equations together and from each (3.5)."""
        rest = np.abs(self._r) - self.noise
        lipschitz = enclosure.norm_bound(self._kernel, self._rows, tight=True)
        whole = theory.equations_beta(betas.tolist())
        radius = theory.absence_radius(norm(np.maximum(rest, 0.0)), lipschitz, whole)
        for i in np.flatnonzero(rest > 0.0):
            alone = theory.absence_radius(float(rest[i]), float(self._rows[i]), float(betas[i % betas.size]))
            radius = max(radius, alone)
        return radius * DOWN

    def evidence(self, path: Sequence[Point], betas: Array | None) -> tuple[float, Array]:
        """The curvature of F, of all equations together and of each.

        betas None: as an estimate of beta, it includes what rounding may hide. Otherwise it tests betas and J.
        """
        away = [(u, r) for u, r in path if norm(u - self._w) > 0.0]
        if self._large and away:
            away = [min(away, key=lambda point: norm(point[0] - self._w))]
        if betas is None:
            seen, rows, hidden = self.curvature(away if self._large and away else [*away, *self.probes()])
            return max(seen, hidden), rows
        seen, rows, _ = self.curvature(away or self.probes())
        tested, rows_tested, _ = self.curvature(*self.tests(betas))
        return max(seen, tested), np.maximum(rows, rows_tested)

    def curvature(self, points: Sequence[Point], rounding: Array | float = 0.0) -> tuple[float, Array, float]:
        """The largest 2||r(u) - r - J(u - w)||/||u - w||^2, of all equations together and of each, less rounding.

        The third number is the least curvature that rounding could hide. ``rounding`` is subtracted additionally.
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
            terms = self._problem.magnitudes(r) + self._rows * (norm(u) + (self._w.size + 8) * length)
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


def doubt(problem: Problem, w: Array, radius: float, estimated: bool, contradicted: bool) -> str:
    """The reason why the certificate is not a proof; empty if it is one."""
    if estimated:
        return ESTIMATED
    if contradicted:
        return "F contradicts beta or jac"
    if problem.differenced:
        return "the Jacobian is a finite difference"
    if problem.system.narrow:
        return "F or jac is not in double precision"
    return "" if inside(problem, w, radius) else "the ball leaves the bounds"


def inside(problem: Problem, w: Array, radius: float) -> bool:
    """Whether the ball lies in the box."""
    return not problem.bounded or float(min((w - problem.lower).min(), (problem.upper - w).min())) >= radius
