"""Systems larger than one process: the unknowns, columns of J, are divided among the ranks of an MPI communicator.

Every rank runs the same program and holds all of w. Of J, rank k holds only the columns J_k of its own unknowns. Then::

    J v = SUM_k J_k v_k,        J^T z = (J_k^T z)_k,        K = J J^T = SUM_k J_k J_k^T,

so that K takes one sum of n^2 numbers over the ranks, J v one sum of n numbers, and J^T z gathers m numbers. Sums
are computed on one rank and sent to all others, so that all ranks have identical values and take the same decisions.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import issparse
from scipy.sparse.linalg import LinearOperator

from plsolve import _clock
from plsolve._checkpoint import EVERY, Shared
from plsolve._checkpoint import SHARED as SHARED_FILE
from plsolve._checks import as_count, as_float, as_matrix, warn
from plsolve._linalg import Array
from plsolve._record import takes_whole
from plsolve._result import Result
from plsolve._solver import solve
from plsolve._tangent import tangent

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

    _Operator = LinearOperator[np.float64]
else:
    _Operator = LinearOperator

__all__ = ["Columns"]

_OF_FIRST = {
    "rng": None,
    "progress": False,
    "max_time": None,
    "checkpoint": None,
    "resume": False,
    "checkpoint_every": EVERY,
}  # arguments whose values on rank 0 are used on all ranks, and their defaults


class Columns:
    """The unknowns of a system divided among the ranks of a communicator.

    Parameters
    ----------
    m : int
        Number of unknowns.
    comm : mpi4py.MPI.Comm
        For example ``MPI.COMM_WORLD``. Start the program with ``mpiexec -n 4 python -m mpi4py program.py``: otherwise
        an exception on one rank leaves the others waiting forever.

    Attributes
    ----------
    mine : slice
        The unknowns of this rank.

    Notes
    -----
    All ranks must compute identical results, so use the same library versions, the same kind of processor and the same
    number of threads on each. What a `plsolve.Result` computes on request (its certificate, for example) needs
    J, so all ranks must request it.

    Examples
    --------
    >>> from plsolve.distributed import Columns  # doctest: +SKIP
    >>> part = Columns(m, MPI.COMM_WORLD)  # doctest: +SKIP
    >>> A = np.load("columns.npy", mmap_mode="r")[:, part.mine]  # doctest: +SKIP
    >>> F = lambda w: np.sinh(part.total(A @ w[part.mine]))  # doctest: +SKIP
    """

    def __init__(self, m: int, comm: Comm) -> None:
        try:
            from mpi4py import MPI
        except ImportError as error:
            raise ImportError("Columns needs mpi4py: python -m pip install 'plsolve[mpi]'") from error
        if not isinstance(comm, MPI.Comm):
            raise TypeError(f"`comm` must be a communicator of mpi4py, got {type(comm).__name__}.")
        self._sum = MPI.SUM
        self.m, self._comm = as_count(m, "m", 1), comm
        if comm.size > m:
            raise ValueError(f"`m` must be at least the number of ranks, {comm.size}, got {m}.")
        ends = [m * k // comm.size for k in range(comm.size + 1)]
        self._counts = [end - start for start, end in pairwise(ends)]
        self.mine = slice(ends[comm.rank], ends[comm.rank + 1])
        if comm.size > 1 and "mpi4py.run" not in sys.modules:
            warn(
                "Start the program with `python -m mpi4py`: otherwise an exception on one rank leaves "
                "the others waiting."
            )

    def __repr__(self) -> str:
        rank, size = self._comm.rank, self._comm.size
        return f"Columns(m={self.m}, unknowns {self.mine.start} to {self.mine.stop - 1} on rank {rank} of {size})"

    def total(self, x: Any) -> Array:
        """Sum over all ranks, with identical results on each.

        Parameters
        ----------
        x : float or array_like
            The term of this rank, of the same shape on all ranks.

        Returns
        -------
        ndarray
            The sum, of the same shape.
        """
        mine = np.ascontiguousarray(as_float(x, "x"))
        out = np.empty_like(mine)
        self._comm.Reduce(mine, out, op=self._sum, root=0)
        self._comm.Bcast(out, root=0)
        return out

    def whole(self, x: Any) -> Array:
        """Gather a vector of which each rank holds its own part.

        Parameters
        ----------
        x : array_like (m_k,)
            The entries ``mine`` of this rank.

        Returns
        -------
        ndarray (m,)
            The whole vector, on every rank.
        """
        mine, out = np.ascontiguousarray(as_float(x, "x")), np.empty(self.m)
        if mine.shape != (self.mine.stop - self.mine.start,):
            raise ValueError(f"`x` must have shape ({self.mine.stop - self.mine.start},), got {mine.shape}.")
        self._comm.Allgatherv(mine, [out, self._counts])
        return out

    def jacobian(self, local_J: Any) -> ColumnsJacobian:
        """Make the operator for the whole J from the columns of this rank.

        Parameters
        ----------
        local_J : array_like, sparse or LinearOperator (n, m_k)
            The columns of the unknowns ``mine``.

        Returns
        -------
        scipy.sparse.linalg.LinearOperator (n, m)
            The whole J. Its products and its ``gram()`` are computed on all ranks together.
        """
        mine = self.mine.stop - self.mine.start
        if not (isinstance(local_J, LinearOperator) or issparse(local_J)):
            local_J = as_float(local_J, "local_J")
        if local_J.dtype is not None and np.dtype(local_J.dtype).kind not in "fiub":
            raise TypeError(f"`local_J` must be real numbers, got dtype {local_J.dtype}.")
        if len(local_J.shape) != 2 or local_J.shape[1] != mine:
            raise ValueError(f"`local_J` must have shape (n, {mine}), got {local_J.shape}.")
        return ColumnsJacobian(self, as_matrix(local_J, None, mine))

    def solve(self, F: Callable[..., Any], jac: Any, w0: Any, y: Any = None, **as_solve: Any) -> Result:
        """Call `plsolve.solve` on all ranks together, with all of its arguments.

        The clock, callback, progress bar, log and random numbers of rank 0 are used, and it alone reads and writes the
        file of ``checkpoint``. If the callback raises StopIteration there, all ranks stop.

        Parameters
        ----------
        F, jac : callable
            As for `plsolve.solve`; jac returns the operator made by `jacobian`.
        w0, y : array_like (m,), (n,)
            Start and target, the same on all ranks.
        **as_solve
            The other arguments of `plsolve.solve`.

        Returns
        -------
        Result
            The result, which is the same on all ranks.
        """
        callback = as_solve.pop("callback", None)
        whole = self._comm.bcast(None if callback is None else takes_whole(callback))
        if whole is not None:
            as_solve["callback"] = self._on_first(callback, whole)
        if as_solve.get("rng") is None:
            as_solve["rng"] = np.random.SeedSequence().entropy
        as_solve |= {name: self._comm.bcast(as_solve.get(name, default)) for name, default in _OF_FIRST.items()}
        with self._one_voice():
            return solve(F, jac, w0, y, **as_solve)

    def _on_first(self, callback: Any, whole: bool) -> Callable[..., Any]:
        """Call back on rank 0, whose decision applies to all ranks; ``whole``: with an intermediate result."""

        def stops(*args: Any, **keywords: Any) -> None:
            stop = False
            if self._comm.rank == 0:
                try:
                    callback(*args, **keywords)
                except StopIteration:
                    stop = True
            if self._comm.bcast(stop):
                raise StopIteration

        def of_all(intermediate_result: Any) -> None:
            stops(intermediate_result=intermediate_result)

        return of_all if whole else lambda w: stops(w)

    def _by_first(self, function: Callable[[], Any]) -> Any:
        """The value of the function on rank 0, which alone calls it."""
        return self._comm.bcast(function() if self._comm.rank == 0 else None)

    @contextmanager
    def _one_voice(self) -> Iterator[None]:
        """In this context all ranks use the clock and the file of rank 0, which alone writes to the log and stderr."""
        log = logging.getLogger("plsolve")
        token = _clock.SHARED.set(lambda: float(self._comm.bcast(time.monotonic())))
        silent = self._comm.rank > 0
        file = SHARED_FILE.set(Shared(first=self._by_first, writes=not silent))
        try:
            if not silent:
                yield
                return
            log.addFilter(nothing)
            with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
                yield
        finally:
            _clock.SHARED.reset(token)
            SHARED_FILE.reset(file)
            log.removeFilter(nothing)


def nothing(record: logging.LogRecord) -> bool:
    """A logging filter that rejects every record."""
    return False


class ColumnsJacobian(_Operator):
    """The whole Jacobian as an operator: each rank holds its own columns of it."""

    def __init__(self, part: Columns, local_J: Any) -> None:
        self._part, self._local = part, tangent(local_J, np.zeros(0))
        super().__init__(np.float64, (local_J.shape[0], part.m))  # type: ignore[call-arg]

    def _matvec(self, v: Array) -> Array:
        return self._part.total(self._local.apply(v.ravel()[self._part.mine]))

    def _rmatvec(self, z: Array) -> Array:
        return self._part.whole(self._local.adjoint(z.ravel()))

    def _matmat(self, V: Array) -> Array:
        return self._part.total(self._local.apply(V[self._part.mine]))

    def _rmatmat(self, Z: Array) -> Array:
        return np.stack([self._rmatvec(z) for z in Z.T], axis=1)

    def gram(self, d2: Array | None = None) -> Array:
        """The kernel K = J J^T (n, n), or J diag(d2) J^T with weights d2 >= 0 (m,)."""
        d = np.zeros(0) if d2 is None else np.sqrt(d2[self._part.mine])
        return self._part.total(tangent(self._local.J, d).gram())
