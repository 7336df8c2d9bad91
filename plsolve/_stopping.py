"""Why a run ended: the statuses with their messages, and the tolerances that decide.

"Stopped" is not "solved": RESIDUAL, DISTANCE, EPSILON and, in `infer`, CONVERGED are success; only they are positive.
"""

from enum import IntEnum


class Ended(Exception):  # noqa: N818 - it is no error
    """Raised inside a step to end the run with a status; the loop catches it, so that users never see it."""

    def __init__(self, status: int, reason: str = "") -> None:
        super().__init__(reason)
        self.status = status


#: The ``status`` of a state while the run goes on.
RUNNING = -100


#: The status where F or jac raised an exception or were not finite at the start, for batches and for calls from the
#: user's compiled code, where no exception is passed on.
FAILED = -5


class Status(IntEnum):
    """How a run ended; positive exactly when the system counts as solved.

    Attributes
    ----------
    RESIDUAL : int
        1: the residual is within ``tol``, or at the rounding level of F.
    DISTANCE : int
        2: a solution is proved to lie within ``xtol``.
    EPSILON : int
        3: the loss is at or below ``eps``.
    CONVERGED : int
        4: `plsolve.infer` has found the most probable parameters.
    MAX_ITER : int
        0: ``max_iter`` iterations, or the allowed number of calls of F, were made.
    MAX_TIME : int
        -1: ``max_time`` seconds have passed.
    CALLBACK : int
        -2: ``callback`` raised StopIteration.
    STALLED : int
        -3: no step reduces the residual noticeably any further.
    STATIONARY : int
        -4: the gradient of the loss is zero, but the residual is not.
    """

    RESIDUAL = 1
    DISTANCE = 2
    EPSILON = 3
    CONVERGED = 4
    MAX_ITER = 0
    MAX_TIME = -1
    CALLBACK = -2
    STALLED = -3
    STATIONARY = -4


STATUSES = {int(status): status for status in Status}

MESSAGES = {
    Status.RESIDUAL: "Solved: the residual is within `tol`.",
    Status.DISTANCE: "Solved: a solution is proved to lie within `xtol`.",
    Status.EPSILON: "Solved up to noise: the loss is at or below `eps`.",
    Status.CONVERGED: "Converged: the most probable parameters, to within `tol` standard deviations or to rounding.",
    Status.MAX_ITER: "Not solved: `max_iter` iterations were made.",
    Status.MAX_TIME: "Not solved: `max_time` seconds have passed.",
    Status.CALLBACK: "Stopped by `callback`.",
    Status.STALLED: "Not solved: no step reduces the residual noticeably any further.",
    Status.STATIONARY: "Not solved: the gradient of the loss is zero but the residual is not "
    "(PL* fails here, or there is no solution near).",
}

OUT_OF_RANGE = " The square of ||F - y|| overflows or vanishes: rescale F."
JACOBIAN_OUT_OF_RANGE = " The squares of the entries of jac overflow: rescale F or the unknowns."
JACOBIAN_NOT_FINITE = " jac is not finite at a point that the run has reached."
AT_ROUNDING_LEVEL = "Solved: the residual is at the rounding level of F"
