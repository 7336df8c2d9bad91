"""Does F(w) = y have a solution near w? Proofs of existence and of absence from F and J at one point (theory 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from plsolve._checks import Names, as_beta, warn
from plsolve._linalg import Array, norm
from plsolve._problem import Problem
from plsolve._proofs import enclosure
from plsolve._proofs.certificate import ESTIMATED, TOO_LARGE, UNPROVED, Certificate
from plsolve._proofs.local import DOWN, Local
from plsolve._record import Point
from plsolve._stopping import Ended, Status
from plsolve._tangent import tangent
from plsolve.theory import certificates as theory

SAFETY = 10.0  # times the largest curvature found: the estimate of beta
SEARCHED = 100_000  # entries of J up to which a given beta is tested by power iteration
CLEARLY = 1.0 + 1e-6  # times beta: more curvature than this contradicts beta and is not rounding
WRONG = "F contradicts beta or jac"
INCONSISTENT = "the operator's products with J^T, or its gram(), contradict its products with J"
NEAR = 1e-4  # share of sigma_min(J) by which J may differ from the last J for this to be used


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

    The proof rests on beta, jac and that model, which such tests cannot prove. ``margin`` and ``jac_margin`` say how
    wrong beta and J may be for the conclusion to stay (3.10).

    Examples
    --------
    >>> from plsolve import certify
    >>> print(certify(lambda w: [w @ w], lambda w: 2 * w[None], [0.6, 0.81], [1.0], beta=2.0))
    A solution of F(w)=y lies within 0.0081 of x (Newton-Kantorovich, h = 0.0079; beta taken as given, safety margin 63;
    within 0.017 if jac(x) is wrong by up to 0.99).
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
    contradiction = contradicted(at, betas, seen, rows_bend) if tested else ""
    h, length, name = at.newton(betas)
    exists = h <= 0.5
    if exists:
        radius = theory.newton_radius(h, length) * enclosure.UP
        jac_margin = theory.newton_jac_margin(h, length, at.sigma(whole), at.more_noise) * DOWN
        if not inside(problem, at.x, 2.0 * radius):
            jac_margin = 0.0
    else:
        (radius, jac_margin), name = (0.0, 0.0) if estimated else at.absence(betas), "3.5"
    absent = not exists and radius > 0.0
    reason = UNPROVED if problem.n <= enclosure.MOST_ROWS else TOO_LARGE
    if exists or absent:
        reason = doubt(problem, at.x, radius, estimated, contradiction)
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
        jac_margin=jac_margin if exists or absent else 0.0,
        estimated=estimated,
        gd_radius=at.descent_radius(whole),
        paper_radius=theory.paper_ball(at.norm_J, norm(at.r), at.mu),
        reason=reason,
    )


def contradicted(at: Local, betas: Array, seen: float, rows_bend: Array) -> str:
    """What F or J contradicts, with a warning; empty if nothing."""
    whole = theory.equations_beta(betas.tolist())
    if not at.products_agree():
        warn(f"`jac` is wrong: {INCONSISTENT}, so that no certificate is rigorous.", RuntimeWarning)
        return INCONSISTENT
    if seen > whole * CLEARLY or bool((rows_bend > betas * CLEARLY).any()):
        what = f"`beta` = {whole:.3g} is contradicted by F, or `jac` is wrong"
        warn(f"{what}: no certificate is rigorous.", RuntimeWarning)
        return WRONG
    return ""


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


def doubt(problem: Problem, w: Array, radius: float, estimated: bool, contradiction: str) -> str:
    """The reason why the certificate is not a proof; empty if it is one."""
    if estimated:
        return ESTIMATED
    if contradiction:
        return contradiction
    if problem.differenced:
        return "the Jacobian is a finite difference"
    if problem.system.narrow:
        return "F or jac is not in double precision"
    return "" if inside(problem, w, radius) else "the ball leaves the bounds"


def inside(problem: Problem, w: Array, radius: float) -> bool:
    """Whether the ball lies in the box."""
    return not problem.bounded or float(min((w - problem.lower).min(), (problem.upper - w).min())) >= radius
