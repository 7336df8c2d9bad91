"""The record of a certificate, and its text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context

#: Reasons that need no repetition, since the text of the certificate says them anyway.
ESTIMATED, UNPROVED = "beta is estimated", "nothing is proved"
TOO_LARGE = "there are too many equations for a bound on K^-1"


def rounded(radius: float, rounding: str) -> str:
    """Two digits of a radius, rounded in the direction that keeps the statement about it true."""
    return f"{float(Context(2, rounding).create_decimal_from_float(radius)):.2g}"


@dataclass(frozen=True)
class Certificate:
    """What is known about solutions of F(w) = y near one point.

    Attributes
    ----------
    exists : bool
        A solution lies within ``radius`` (theory 3.1, or 3.2 with one beta per equation).
    radius : float
        The distance within which a solution exists; if ``exists`` is False, the radius of the largest ball proved to
        contain no solution (3.5), 0 if there is none.
    absent : bool
        No solution lies within ``radius``.
    rigorous : bool
        Whether this is a proof, rounding included: beta was given and F does not contradict it, J is not a finite
        difference, the ball lies in the box, and ``mu`` and the Newton step are bounded under the rounding model of
        `plsolve.certify`.
    h : float
        beta e0/s0 (3.1; omega e0 in 3.2), e0 = ||J^+ r||, s0 = sigma_min(J), both bounded on the safe side of rounding.
    margin : float
        1/(2h), the factor by which beta could be larger without changing the conclusion.
    jac_margin : float
        How wrong J may be at the point, as ||J - DF||, for a solution still to be proved within twice the radius, or
        none within half of it (3.10); 0 where that is not proved.
    mu, lipschitz : float
        lambda_min(K) and ||J|| at the point; in a `Result`, with a given beta, to 1e-4 of sigma_min(J) (3.9).
    beta : float
        The Lipschitz constant of J that was used; with one per equation, the root of the sum of their squares.
    theorem : str
        The number of the statement that was applied.
    estimated : bool
        Whether beta was estimated, as 10 times the largest curvature of F found.
    gd_radius : float
        Gradient descent converges to a solution within this distance (3.4); inf if that is not proved.
    paper_radius : float
        2 ||J|| ||r||/mu, the ball of the PL* theorem, for reference (1.1).
    reason : str
        Why the certificate is not rigorous.
    """

    exists: bool
    radius: float
    absent: bool
    rigorous: bool
    h: float
    margin: float
    mu: float
    lipschitz: float
    beta: float
    theorem: str
    jac_margin: float = 0.0
    estimated: bool = False
    gd_radius: float = math.inf
    paper_radius: float = math.inf
    reason: str = ""

    def __str__(self) -> str:
        about = "beta estimated" if self.estimated else "beta taken as given"
        if self.reason and self.reason not in (ESTIMATED, UNPROVED):
            about += f", not rigorous: {self.reason}"
        if self.exists:
            name = "Newton-Kantorovich" + (" per equation" if self.theorem == "3.2" else "")
            radius, twice = (rounded(R, ROUND_CEILING) for R in (self.radius, 2.0 * self.radius))
            about += f", safety margin {self.margin:.2g}"
            if not self.estimated:
                about += f"; within {twice} if jac(x) is wrong by up to {rounded(self.jac_margin, ROUND_FLOOR)}"
            return f"A solution of F(w)=y lies within {radius} of x ({name}, h = {self.h:.2g}; {about})."
        if self.absent:
            radius, half = (rounded(R, ROUND_FLOOR) for R in (self.radius, 0.5 * self.radius))
            about += f"; none within {half} if jac(x) is wrong by up to {rounded(self.jac_margin, ROUND_FLOOR)}"
            return f"No solution of F(w)=y lies within {radius} of x (theory {self.theorem}; {about})."
        if self.reason == TOO_LARGE:
            return f"No solution of F(w)=y is proved near x: {TOO_LARGE}."
        return f"No solution of F(w)=y is proved near x (h = {self.h:.2g} is not below 1/2; {about})."
