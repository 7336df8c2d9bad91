"""The tuning constants of Gauss-Newton, each with its meaning and its source.

Lengths are measured in the metric of the step, gn is the Gauss-Newton step -J^+ r, and a gain is the ratio of actual to
predicted reduction of ||r||^2. A comment that begins with "of ..." names the quantity that the constant multiplies.
*Usual* marks a value from the textbooks (Conn, Gould, Toint, Trust-Region Methods, 2000). *Measured* marks a value
chosen by counting Jacobians and calls of F on the problems named. *Alike* marks a range of values that did equally
well. The tables are in docs/checks.md.
"""

from __future__ import annotations

from typing import NamedTuple


class Tuning(NamedTuple):
    """Constants that both the interpreted methods and the compiled kernel use."""

    # -- the first radius
    first_probe: float = 0.5  # of ||gn||: length of the first probe of F along gn; on arms, 1 ends farther from w0
    shortest_probe: float = 1e-8  # of ||gn||: a shorter probe is lost in rounding errors of F
    first_fraction: float = 0.25  # of ||gn||: first radius unless the whole gn is tried; measured on arms and networks
    first_size: float = 50.0  # of ||w||: limit of the first radius, unless the natural radius is larger (MINPACK: 100)
    first_size_square: float = 3.0  # `first_size` for n = m, where solutions are points; CUTEst's square systems
    first_visible: float = 5e-7  # n >= m: least relative reduction of the loss in the first radius; tiny starts

    # -- trial steps
    sufficient_gain: float = 1e-4  # least gain of an accepted step; usual
    poor_gain: float = 0.25  # the radius shrinks below this gain; usual
    good_gain: float = 0.75  # the radius grows above this gain; usual
    excellent_gain: float = 0.9  # n >= m: above this gain it grows by `excellent_growth`; measured on fits
    excellent_growth: float = 2.5  # n >= m: factor by which the radius grows
    overshoot_gain: float = 0.3  # below this gain, the first accepted step is tried again, shorter; globalisation study
    exact_gain: float = 0.01  # |gain - 1| up to which a dogleg with bounds defines a natural radius, too; measured
    lengthen_gain: float = 0.9  # a step accepted after a rejected one is lengthened if its gain is above this,
    lengthen_left: float = 0.9  # more than this fraction of ||r|| remains, and
    lengthen_ratio: float = 4.0  # the rejected step was this many times as long; HEART6, CUTEst's systems
    dogleg_below: float = 0.3  # of ||gn||: a shorter step is a dogleg, a longer one is along gn; measured on far starts
    dogleg_below_own_kernel: float = 0.02  # `dogleg_below` if J^T z costs as much as J and K; a wide network
    dogleg_below_curved: float = 0.1  # `dogleg_below` for n >= m, where minimising in the ball is better
    dogleg_steps: int = 5  # conjugate gradient iterations of a dogleg; measured on ill-conditioned systems
    dogleg_rounding: float = 1e-10  # of its first gradient: smaller gradients are rounding errors
    stagnation: float = 1e-3  # of ||r||: a dogleg step that reduces it by less makes no progress
    stagnation_steps: int = 7  # number of consecutive steps without progress that ends the run
    inconsistent: float = 0.01  # of ||r||: if gn leaves more, J p = -r is inconsistent; globalisation study
    inconsistent_curved: float = 0.5  # `inconsistent` for n >= m, where r need not vanish: gn is not tried
    lost_digits: float = 1e-6  # of ||r||: if a solve with K leaves more, Cholesky is too inexact; globalisation study

    # -- chord steps
    chord_steps: int = 10  # number of good-Broyden updates kept; globalisation study
    chord_contraction: float = 0.5  # largest ratio of successive chord step lengths; theta of Deuflhard's NLEQ-ERR
    chord_contraction_own_kernel: float = 0.05  # `chord_contraction` if J and K cost less than a chord step
    chord_rows: int = 8  # with fewer equations, J costs no more than the calls of F for chord steps; measured

    # -- bounds
    box_promise: float = 0.5  # of ||r||^2: a bounded step that predicts more but leaves much of r is shortened
    box_share: float = 0.5  # of the distance to the bounds: length of such a step; measured on joint limits
    active_set_steps: int = 50  # largest number of factorisations for one step
    active_set_solved: float = 1e-9  # of ||r||: with a smaller linear residual, J p = -r counts as solved
    active_set_rounding: float = 1e-12  # relative growth of the reduction; less is rounding error
    bound_share: float = 0.5  # n >= m, of the distance to a bound not known to be active; measured on bounded fits
    bound_releases: int = 10  # n >= m: largest number of changes of the active set
    bound_linear: float = 0.1  # n >= m, of ||J p||: if F deviates less from its linear model, the bound is trusted
    bound_close: float = 1e-8  # n >= m: unknowns closer to a bound are scaled as if at this distance

    # -- the curvature of the residual (n >= m)
    curved_unknowns: int = 1024  # limit of m: eigenvalues of a matrix of this size take a second or two
    curved_entries: int = 1 << 20  # limit of n m for a sparse or operator J, which is converted to a dense one
    curved_switch: float = 1.5  # ratio of prediction errors from which the better model replaces the other
    natural_growth: float = 2.0  # of the natural radius, after a step that was not along gn
    correction_length: float = 0.5  # of the step: longest second-order correction (Transtrum, Sethna: 3/8)
    correction_gain: float = 0.5  # of the step's predicted reduction: least one of the correction
    cholesky_condition: float = 1e-4  # of J: reciprocal condition number that suffices for Cholesky of J^T J
    regular_condition: float = 1e-11  # reciprocal condition number from which R of J = Q R counts as invertible
    sound_pivots: float = 1e-2  # ratio of smallest to largest pivot that suffices for Cholesky of the Hessian
    difference_noise: float = 1e-6  # of ||r||^2: a smaller reduction makes the run change to central differences
    restart_left: float = 0.1  # of ||r(w0)||: if a stage leaves more, the next starts at w0; CUTEst's square systems
    last_step: float = 1e-9  # of each unknown: a shorter last step is omitted

    # -- the watchdog: see `watchdog`; study of far starts and docs/checks.md
    decrease: float = 0.7  # of the mark, the last ||r|| that was low enough: ||r|| must fall to this; 0.5 to 0.9 alike
    patience: int = 8  # number of steps within which it must fall; 7 to 16 alike
    patience_hand_over: int = 2  # `patience` if another method follows; CUTEst's square systems
    patience_long: int = 15  # `patience` after a failed phase, or below `phase_steepness`; 10 to 30 alike
    phase_steepness: float = 1.0  # `gauss_newton.steepness` above which `patience` is enough; measured on arms
    phase_steps: int = 30  # number of undamped steps in one phase; 20 to 100 alike
    phase_longest: float = 5.0  # of ||w - w0||: longest undamped step; 1 to no limit alike, 5 ends nearer to w0
    phase_shortest: float = 1e-3  # of ||w - w0||: undamped steps and kicks are not shortened below this
    phase_converged: float = 0.25  # of ||r||: if an undamped step leaves less, the phase converges; 0 to 0.5 alike
    steep: float = 0.3  # `gauss_newton.steepness` below which a point is close to a minimum; docs/checks.md
    allowance: int = 2  # Jacobians of phases and kicks per monotone step near a minimum; 3 wastes too many
    allowance_steep: int = 8  # `allowance` where the residual is steep; with 2, 18 of 900 far starts fail
    recovery: float = 0.5  # of ||r|| where monotone steps first stagnated: below it they progress again
    kick_steps: int = 30  # number of steps after one kick; 20 to 45 alike
    kick_distance: float = 2.0  # length of a kick, as a multiple of ||w - w0||; measured on arms
    kick_draws: int = 5  # random points per kick, of which the best is taken to save Jacobians; 3 to 8 alike on arms
    kick_return: float = 0.25  # of ||r|| and of its change by the kick: closer residuals count as fallen back
    same_point: float = 1e-6  # relative difference of ||r||: less is rounding, and the search for other minima ends
    better_minimum: float = 0.1  # of ||r|| at a minimum: a minimum lower by less counts as in the same valley


TUNING = Tuning()
