"""The result of `solve`: everything that costs a Jacobian is computed on first access."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Sequence
from decimal import ROUND_FLOOR
from typing import Any

import numpy as np
from scipy.optimize import OptimizeResult
from scipy.sparse.linalg import LinearOperator

from plsolve._checks import as_choice
from plsolve._differences import disagreement
from plsolve._history import History
from plsolve._inference.noise import as_noise
from plsolve._inference.posterior import posterior
from plsolve._inference.prior import as_prior
from plsolve._inference.report import report
from plsolve._inference.uncertainty import Uncertainty
from plsolve._kernel import TangentKernel
from plsolve._linalg import Array
from plsolve._pictures import plotting
from plsolve._pictures.landscape import landscape
from plsolve._problem import Problem
from plsolve._proofs.certificate import Certificate, rounded
from plsolve._proofs.certify import certificate_of_run
from plsolve._record import Record
from plsolve._stopping import Ended
from plsolve._tangent import LinearSolver, tangent

BY_ROWS = " No certificate: it needs J as a whole, which sgd reads by rows; `certify` makes one from F and jac."


class NoJacobianError(ValueError):
    """The Jacobian at x is not finite, or is out of range."""


class Result(OptimizeResult):
    """A `scipy.optimize.OptimizeResult` that computes some entries on first access.

    These are ``jac``, ``grad``, ``optimality``, ``kernel`` and ``certificate``. The result holds a Jacobian only after
    ``jac`` was read (``del sol.jac`` releases it), or where the run has left one at x, or where a certificate with a
    given beta needs it. Copies can still compute entries; a pickled result keeps only those computed before.

    Attributes
    ----------
    x : ndarray (m,)
        The best point seen.
    success : bool
        Whether the system is solved, that is, ``status`` is positive.
    status : Status
        How the run ended.
    message : str
        How the run ended, in words.
    fun : ndarray (n,)
        F(x) - y.
    cost : float
        1/2 ||fun||^2.
    jac : ndarray, sparse or LinearOperator (n, m)
        The Jacobian at x.
    grad : ndarray (m,)
        J^T fun.
    optimality : float
        The largest absolute value in ``grad``; with bounds, in x - P(x - grad), P the projection on the box.
    kernel : TangentKernel
        K = J J^T at x, with its spectrum.
    certificate : Certificate or None
        Whether a solution near x is proved, see `plsolve.certify`. If beta was not given, it is estimated from the
        points of the run. If it was given, no Jacobian at x is needed where the last one is near (theory 3.9). None
        with ``certify=False``; also, as the message says then, where jac is not finite at x or sgd does not form J.
    nit, nfev, njev, nfev_jac : int
        Iterations, calls of F, evaluations of the Jacobian, and calls of F for differences. Computations on first
        access of an entry are not counted.
    method, method_reason : str
        The method, and why it was chosen.
    forecast : float
        Forecast of the iterations left (theory 4.3), where gd or sgd was stopped by ``max_iter`` or ``max_time``. 0
        where the system is solved, NaN where there is no forecast.
    history : History
        The loss and other numbers of each iteration.
    """

    _lazy = ("history", "jac", "grad", "optimality", "kernel", "certificate")

    def __init__(
        self,
        fields: dict[str, Any],
        problem: Problem | None = None,
        record: Record | None = None,
        beta: Array | None = None,
        assumed: tuple[Any, Any] | None = None,
    ) -> None:
        self.update(fields)
        # setattr would make them entries of the dict; assumed: noise and prior of a fit by `infer`
        vars(self).update(_problem=problem, _record=record, _beta=beta, _assumed=assumed)
        if problem is not None:
            shown = "jac" in fields or "certificate" in fields
            if shown or (beta is None and not problem.is_linearised(fields["x"])):
                problem.forget()

    def __missing__(self, name: str) -> Any:
        if name not in self:
            raise KeyError(self._absence(name))
        with self._problem.at_work():
            self[name] = getattr(self, f"_{name}")(self._problem)
        return self[name]

    def _history(self, problem: Problem) -> History:
        history: History = self._record.history()
        return history

    def _jac(self, problem: Problem) -> Any:
        try:
            return problem.linearise(problem.remembered(self.x), self.fun, True).J
        except Ended as end:
            raise NoJacobianError(f"There is no Jacobian at x:{end}") from None
        finally:
            problem.forget()

    def _kernel(self, problem: Problem) -> TangentKernel:
        return TangentKernel(tangent(self["jac"], np.zeros(0)))

    def _grad(self, problem: Problem) -> Array:
        return tangent(self["jac"], np.zeros(0)).adjoint(self.fun)

    def _optimality(self, problem: Problem) -> float:
        moved = self.x - problem.project(self.x - self.grad) if problem.bounded else self.grad
        return float(np.max(np.abs(moved)))

    def _certificate(self, problem: Problem) -> Certificate | None:
        """The certificate at x; None, with the reason in the message, where there is no Jacobian."""
        run: Record = self._record
        if problem.system.by_rows:
            self["message"] += BY_ROWS
            return None
        try:
            point = self.x, self.fun
            return certificate_of_run(problem, lambda: self["jac"], point, self._beta, run.path, run.beta_seen)
        except NoJacobianError as error:
            self["message"] += f" No certificate: {error}"
            return None
        finally:
            problem.forget()

    def uncertainty(self, noise: Any = None, prior: Any = None) -> Uncertainty:
        """The uncertainty of x, given noisy data and a prior, by linearisation at x.

        Parameters
        ----------
        noise : float, array_like (n,) or (n, n)
            Standard deviation of the data y, one for each of them, or their covariance. The default for a fit by
            `infer` is the noise of the fit.
        prior : float, array_like (m,) or (m, m), sparse or LinearOperator, optional
            Standard deviations of the parameters about w0 before the data were known, or their covariance; see `infer`.
            1 by default; for a fit by `infer`, the prior of the fit.

        Returns
        -------
        Uncertainty
            Standard deviations, covariances, predictions and samples, each computed by a method.

        Raises
        ------
        ValueError
            Where the noise is not known, or has another shape.
        """
        assumed = self._assumed or (None, None)
        noise, prior = assumed[0] if noise is None else noise, assumed[1] if prior is None else prior
        if noise is None:
            raise ValueError("`noise` must be given: the standard deviation of the data.")
        problem, J = self._problem, self["jac"]
        n, m = J.shape
        R, C = as_noise(noise, n), as_prior(prior, m)

        def residual(w: Array) -> tuple[Array, Array]:
            with problem.at_work():
                w = problem.project(w)
                return w, problem.residual(w)

        return Uncertainty(
            self["x"],
            self["fun"],
            J,
            R,
            C,
            posterior(J, R, C, LinearSolver()),
            residual=None if problem is None else residual,
            solved=self._assumed is None,
        )

    def report(self, names: Sequence[str] | None = None, noise: Any = None, prior: Any = None) -> str:
        """A summary in plain text: how the run ended, and which parameters the data determine, and how well.

        Parameters
        ----------
        names : sequence of str, optional
            Names of the parameters.
        noise, prior : float, array_like, sparse or LinearOperator, optional
            As for `uncertainty`. If the noise is not given and the result is not a fit by `infer`, the report has no
            uncertainty for n <= m; for n > m the noise is estimated from the residual, as usual for least squares.

        Returns
        -------
        str
            The summary, of several lines. If the system is not solved, it says whether jac agrees with differences of
            F, which takes three calls of F.

        Raises
        ------
        ValueError
            If there is not one name for each parameter, or for the reasons of `uncertainty`.
        """
        known = noise is not None or self._assumed is not None
        u = self.uncertainty(noise, prior) if known else None
        return report(self, u, names, None if self["success"] else self._disagreement())

    def _disagreement(self) -> tuple[float, int] | None:
        """How far jac is from differences of F at x, and the equation where most; None where they are not compared."""
        problem = self._problem
        if problem is None or problem.differenced or problem.system.by_rows:
            return None
        with problem.at_work():
            w = problem.remembered(self["x"])
            r = problem.residual(w)
            try:
                J = problem.linearise(w, r, True)
                terms, eps = problem.magnitudes(r), problem.system.precision
                return disagreement(problem.residual, J.apply, w, terms, problem.box, eps)
            except Ended:  # there is no J at x
                return None
            finally:
                problem.forget()

    def plot(self, what: str = "run", ax: Any = None) -> Any:
        """Draw the run, the spectrum of the kernel, the landscape, or the uncertainty.

        Parameters
        ----------
        what : {'run', 'spectrum', 'landscape', 'uncertainty'}
            'run': the loss and its guaranteed bound against iterations; below, the step sizes and the PL ratio, where
            the method computes them. 'spectrum': the eigenvalues of K at x. 'landscape': the loss in the plane through
            w0, x and a tangent to the solution set, with the region where PL* holds; and the loss on the line from w0
            to x, with the smallest eigenvalue of its Hessian near x. This takes up to some hundred evaluations of F and
            jac, which an unpickled Result does not have. 'uncertainty': for a fit by `infer`, the standard deviations
            of the parameters before and after the data, and the misfit of the data; for other results see
            `Uncertainty.plot`.
        ax : matplotlib.axes.Axes, optional
            Where to draw; the step sizes, the line from w0 to x and the misfit are drawn in new figures only.

        Returns
        -------
        matplotlib.axes.Axes
            The axes with the plot.

        Raises
        ------
        TypeError, ValueError
            For another ``ax`` or ``what``, or the landscape of an unpickled Result.
        ImportError
            Without matplotlib, the extra 'plot'.
        """
        return PICTURES[as_choice(what, "what", tuple(PICTURES))](self, plotting.as_axes(ax))

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(self._absence(name))
        return self[name]

    def _absence(self, name: str) -> str:
        """The message where there is no such entry."""
        return f"{name}: it was not computed before this Result was pickled" if name in self._lazy else name

    def __contains__(self, name: object) -> bool:
        return dict.__contains__(self, name) or (name in self._lazy and self._problem is not None)

    def get(self, name: str, default: Any = None) -> Any:
        """The entry, computed if necessary, or the default.

        Parameters
        ----------
        name : str
            The name of the entry.
        default : object
            The value to return if there is no such entry.

        Returns
        -------
        object
            The entry or the default.
        """
        return self[name] if name in self else default  # noqa: SIM401 - this is that function

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *(name for name in self._lazy if name in self)})

    def __copy__(self) -> Result:
        return Result(dict(self), self._problem, self._record, self._beta, self._assumed)

    def __deepcopy__(self, memo: dict[int, Any]) -> Result:
        return Result(copy.deepcopy(dict(self), memo), self._problem, self._record, self._beta, self._assumed)

    def __reduce__(self) -> tuple[Any, ...]:
        if "history" in self:
            self["history"]
        fields = dict(self)
        if isinstance(fields.get("jac"), LinearOperator):
            try:
                pickle.dumps(fields["jac"])
            except Exception:  # noqa: BLE001 - closures raise what they like; the rest of the result is worth keeping
                del fields["jac"]
        return Result, (fields, None, None, None, self._assumed)


def add_absence(sol: Result, problem: Problem) -> None:
    """Add to the message that there is no solution near x, where that is proved."""
    certificate = sol["certificate"]
    sol.update(problem.system.counts)
    if certificate is not None and certificate.absent and certificate.rigorous:
        sol["message"] += f" No solution within {rounded(certificate.radius, ROUND_FLOOR)} of x (theory 3.5)."


def draw_run(sol: Result, ax: Any) -> Any:
    return plotting.run(sol["history"], f"{sol['method']}: {sol['status'].name}", ax)


def draw_landscape(sol: Result, ax: Any) -> Any:
    """The loss in the plane through w0, x and a tangent to the solution set, evaluated anew."""
    problem = sol._problem
    if problem is None:
        raise ValueError("The landscape needs F and jac, which an unpickled Result does not have.")
    plotting.pyplot()  # raises before the work if matplotlib is not installed
    try:
        with problem.at_work():
            land = landscape(problem, sol["x"], sol["kernel"].mu)
    finally:
        problem.forget()
    return plotting.landscape(land, ax)


PICTURES: dict[str, Callable[[Result, Any], Any]] = {
    "run": draw_run,
    "spectrum": lambda sol, ax: sol["kernel"].plot(ax),
    "landscape": draw_landscape,
    "uncertainty": lambda sol, ax: sol.uncertainty().plot(ax),
}
