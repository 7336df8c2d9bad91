"""Where everything stands in a system (see `plsolve._compiled.kernel`): whole numbers, numbers, rows of vectors."""

from plsolve.methods.tuning import TUNING

(
    EQUATIONS, UNKNOWNS, WIDTH, HEIGHT, F, JAC, ARGS, ROWS, COUNT, CLOCK, BOUNDED, DIFFERENCED, CENTRAL, COARSE,
    SCALING, NFEV, NJEV, NFEV_JAC, FAILED, NIT, STATUS, ORTHOGONAL, PRECISE, CRAWL, CHOLESKY, STAYS, BOXED,
    BEST, PLAN, ROOT, PHASE, LEFT, SLOW, TIRED, OWN, GRANT, KICKS, KEPT_STATUS, KEPT_CRAWL, CUT, WITHIN_BOUNDS,
    DIFFERENCES, LOGGED, REFINED, REFLECTED, RESCALE,
) = range(46)  # fmt: skip
(
    SIZE, SIZE_Y, TARGET, LEAST, TOP, DEADLINE, BETA, RADIUS, STEP, PL, BEND, LENGTH, POTENTIAL, MARK, LEVEL, FORCE,
    KEPT_SIZE, KEPT_RADIUS, GAIN, REACH, SHARE, REACHED, ENOUGH, SIZE0, TOL, SURE, JUDGED, PRECISION,
    STEEP, WAY,
) = range(30)  # fmt: skip
(
    Y, R, R_BEST, R_KEPT, JGN, U, JP, REST, Z, JS, A, B,  # of n numbers
    W, W0, W_BEST, W_KEPT, W_FAILED, W_J, LOWER, UPPER, SCALE, LARGEST, GIVEN, D, GN, P, G, T, E, PLAIN, FREE, LOW,
    HIGH, GOAL, NOW,  # of m
    TRIAL,
) = range(36)  # fmt: skip
TRIAL_R = TRIAL + 3  # three of each
CHORD = TRIAL_R + 3
ROWS_OF_V = CHORD + TUNING.chord_steps + 1  # and 3 k more
