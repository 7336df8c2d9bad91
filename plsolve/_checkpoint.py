"""Checkpoints: the file from which a run goes on in another process, as if it had never been stopped.

Between two steps a run stands at a *place*: the state of the method, the best state of its stage, and what problem and
record have learnt on the way. States are not changed by later steps, so that keeping a place costs some references. The
last place is written every few seconds, at the end, and when an exception ends the run. J is never written: the next
step evaluates it again, at the same point.

The file also says to which run it belongs: the sizes, check sums of w0 and y, the method and its options. One that
belongs to another run is refused and left as it is.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import Any, NamedTuple, get_type_hints
from zlib import crc32

import numpy as np

from plsolve import _archive as archive
from plsolve._checks import as_flag, as_tolerance, shown, warn
from plsolve._choice import no_step
from plsolve._linalg import Array, norm
from plsolve._loop import Place, Stopped
from plsolve._pictures.progress import LOG
from plsolve._problem import Problem, Progress
from plsolve._record import Mark, Record, Seen
from plsolve._state import Start
from plsolve._stopping import RUNNING, Status
from plsolve.methods import nearest
from plsolve.methods.method import Stage

FORMAT = 1  # of the file
EVERY = 5.0  # seconds between two writes, at least
AGAIN = 1e-3  # seconds between two places that are kept: keeping one takes about 1 % of that
SHARE = 100.0  # time between two writes by the time that one takes, at least
SPEED = 3e8  # bytes per second, until a write has shown how long it takes
ALIKE = 1e-6  # relative difference that rounding in F, noise or prior explains
NEAREST, OVER = -1, -2  # instead of the number of a stage: the way to the nearest solution; the run is over
GOES_ON = Status.MAX_ITER, Status.MAX_TIME, Status.CALLBACK  # the run can go on after these
F_AT_START = "||F(w0)||"
IN_RUN = {
    "method",
    "reason",
    "compiled",
    "stage",
    "status",
    "message",
    "least",
    "s",
    "best",
    "before",
    "progress",
    "seen",
}
NONE: Mapping[str, Any] = {}

Found = tuple[dict[str, Any], archive.Arrays]  # the run in the file of an earlier one, and its arrays


class Shared(NamedTuple):
    """How several processes share one file."""

    first: Callable[[Callable[[], Any]], Any]  # gives all of them the value of a function on the first
    writes: bool  # whether this process writes


ALONE = Shared(first=lambda function: function(), writes=True)
SHARED: ContextVar[Shared] = ContextVar("checkpoint", default=ALONE)


class Kept(NamedTuple):
    """A place of a stage, and what has been learnt until there."""

    stage: int
    status: int
    message: str
    before: Any
    s: Any
    best: Any
    least: float
    progress: Progress
    mark: Mark


class Checkpoint:
    """The file of a run, and the place that is to be written next; without a path it does nothing.

    Attributes
    ----------
    reason : str
        Why the method was chosen, if an earlier run has chosen it.
    stage : int
        The number of the stage, NEAREST or OVER.
    status, message : int, str
        How the stages have ended, if they have.
    """

    reason = message = _path = ""
    stage, status = 0, RUNNING
    _also = NONE
    _before: Any = None
    _found: Found | None = None
    _kept: Kept | None = None
    _written: Kept | None = None
    _next, _due, _warned = 0.0, 0.0, False

    def __init__(self, path: Any, resume: Any = False, every: Any = EVERY, also: Mapping[str, Any] = NONE) -> None:
        if path is None and resume is False and every is EVERY:
            return  # the usual case, which costs a small system no time
        self._every, self._resume = as_tolerance(every, "checkpoint_every"), as_flag(resume, "resume")
        if path is not None:
            self._path, self._also = as_path(path), also
        elif self._resume:
            raise ValueError("`resume` needs a `checkpoint` from which to go on.")

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if not self._path:
            return
        self._problem.run.keeper = None
        if error is not None:
            with suppress(Warning):  # turned into an error, it would replace the one that ends the run
                self.write()

    # -- the earlier run -----------------------------------------------------------------------------------------------

    def open(self, problem: Problem, record: Record, asked: Mapping[str, Any]) -> str:
        """Find the file; returns the method of the run in it, or else the one that is asked for.

        asked: the arguments that tell this run from others, the method among them.
        """
        method: str = asked["method"]
        if not self._path:
            return method
        self._problem, self._record, self._shared = problem, record, SHARED.get()
        self._method, self._identity = method, identity(problem, {**asked, **self._also})
        content = self._shared.first(self._read)
        if isinstance(content, Exception):
            raise content
        if content is not None:
            self._found = self._fitting(content)
            self._method, self.reason = str(self._found[0]["method"]), str(self._found[0]["reason"])
        return self._method

    def _read(self) -> bytes | Exception | None:
        """The bytes of the file, None where the run is to begin anew, or the error if neither is possible."""
        try:
            check_place(self._path)
            if not self._resume:
                return None
            with open(self._path, "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None
        except ValueError as error:
            return error
        except OSError as error:
            return ValueError(f"`checkpoint`: {self._path} cannot be read: {error}")

    def _fitting(self, content: bytes) -> Found:
        """What the file holds, if it belongs to this run."""
        ours, different = self._identity, []
        try:
            header, arrays = archive.parsed(content)
            form, theirs, run = header["format"], dict(header["identity"]), dict(header["run"])
            if form == FORMAT:
                if IN_RUN - run.keys():
                    raise ValueError(f"{', '.join(sorted(IN_RUN - run.keys()))} not found")
                different = [name for name in ours if not alike(theirs.get(name), ours[name], self._slack(name))]
        except archive.DAMAGE as error:
            raise self._refused(f"is damaged, or no checkpoint of plsolve ({type(error).__name__}: {error})") from None
        if form != FORMAT:
            raise self._refused(f"has the format {form!r}; this version of plsolve reads the format {FORMAT}")
        if different:
            pairs = (unlike(name, ours[name], theirs.get(name)) for name in different)
            raise self._refused(f"belongs to another run: {'; '.join(pairs)}")
        known = {"w0": self._problem.w0, "r0": self._problem.r0}
        return run, arrays | known

    def _refused(self, why: str) -> ValueError:
        return ValueError(f"`checkpoint`: {self._path} {why}. The file was left as it was.")

    def _slack(self, name: str) -> float:
        """How much a number of the identity may differ from that of the file."""
        return max(ALIKE, 1e4 * self._problem.system.precision) * self._problem.size0 if name == F_AT_START else 0.0

    def resumed(self, stages: Sequence[Stage], native: Any, limit: int) -> Stopped | None:
        """Begin to keep the places of this run; returns the one where an earlier run has stopped, if there is one."""
        if not self._path:
            return None
        size = 16.0 * self._problem.m  # bytes of two points
        self._compiled = native is not None
        self._due = time.monotonic() + max(self._every, (SHARE - 1.0) * size / SPEED)
        found, self._found = self._found, None
        if found is None:
            self._problem.run.keeper = None if stages[0].step is no_step else self
            return None
        run, over = found[0], found[0]["stage"] == OVER
        if stages[0].step is no_step:  # there was no time for the first step, but the best point is known
            return self._ended(found, over)
        if run["compiled"] != self._compiled and not over:
            raise self._refused(f"belongs to another run: {unlike('compiled', self._compiled, run['compiled'])}")
        with self._problem.at_work():
            classes = [Start, nearest.State, *(class_of(stage, self._problem, limit) for stage in stages)]
        classes.append(getattr(native, "kept", Start))
        s, best, before = (self._decoded(found, name, classes=tuple(classes)) for name in ("s", "best", "before"))
        s, best = (x.limited(limit) if hasattr(x, "limited") else x for x in (s, best))
        self._go_on(found, s)
        self.begin(run["stage"], before, run["status"], run["message"])
        self._kept = self._written = self._place(s, best, run["least"])
        self._problem.run.keeper = self
        LOG.info("The run goes on from iteration %d in %s", self._record.last, self._path)
        return Stopped(stage=self.stage, before=before, place=Place(s=s, best=best, least=run["least"]))

    def _ended(self, found: Found, over: bool) -> Stopped | None:
        """The end of the earlier run, None if it would have gone on."""
        run, arrays = found
        self._go_on(found, None)
        if not over:
            return None
        self.begin(OVER, None, run["status"], run["message"])
        w, r, nit = (archive.decoded(run["s"]["fields"][name], Any, arrays) for name in ("w", "r", "nit"))
        s = Start(w, r, nit=nit)
        return Stopped(stage=OVER, before=None, place=Place(s=s, best=s, least=norm(r)))

    def _go_on(self, found: Found, s: Any) -> None:
        """Pass on to problem and record what they had learnt."""
        progress, seen = self._decoded(found, "progress", Progress), self._decoded(found, "seen", Seen)
        self._record.go_on(seen)
        with self._problem.at_work():
            self._problem.go_on(progress, s)

    def _decoded(self, found: Found, name: str, hint: Any = Any, classes: tuple[type, ...] = ()) -> Any:
        """An entry of the run in the file."""
        run, arrays = found
        try:
            return archive.decoded(run[name], hint, arrays, classes)
        except archive.DifferentClassError as error:
            raise self._refused(f"was written by another version of plsolve: it has {error}") from None

    # -- the places of this run ----------------------------------------------------------------------------------------

    def begin(self, stage: int, before: Any, status: int = RUNNING, message: str = "") -> None:
        """A stage begins; before: the best state of those before; status, message: how they have ended, if so."""
        self.stage, self._before, self.status, self.message = stage, before, status, message

    def keep(self, s: Any, best: Any, least: float, last: bool = False) -> None:
        """The run can go on from s; best, least: the best state of the stage, and its measure; last: it ends here.

        Of steps that follow each other at once only some are kept, but all at which an epoch of sgd begins: it
        overwrites ``met``, which is the same after the steps of one epoch were made again.
        """
        now = time.monotonic()
        if getattr(s, "cut", False) or not (last or now >= min(self._next, self._due) or getattr(s, "noted", False)):
            return
        place = self._place(s, best, least)
        if self._kept is None:
            self._try(place)
        self._kept, self._next = place, now + AGAIN
        if self.due():
            self.write()

    def within(self, s: Any) -> None:
        """The run can go on from s within a step; the best state is still that of the last call of `keep`."""
        if self._kept is not None:
            self.keep(s, self._kept.best, self._kept.least)

    def due(self) -> bool:
        """Whether it is time to write."""
        return time.monotonic() >= self._due

    def end(self, s: Any, ended: int, status: int, message: str) -> None:
        """Write the end: ``ended`` is why the last steps have ended, s, status and message are those of the run."""
        if not self._path:
            return
        if ended not in GOES_ON:
            self.begin(OVER, None, int(status), message)
            self._kept = self._place(s, s, norm(s.r))
        self.write()

    def write(self) -> None:
        """Write the last place, unless that was done; where it fails, say so once, and try again later."""
        if self._kept is None or self._kept is self._written or not self._shared.writes:
            return
        begun = time.monotonic()
        try:
            archive.write(self._path, *self._content_of(self._kept))
            self._written = self._kept
        except (OSError, TypeError, MemoryError) as error:
            LOG.warning("The checkpoint %s could not be written: %s", self._path, error)
            if not self._warned:
                self._warned = True
                warn(f"The checkpoint {self._path} could not be written ({error}); the run goes on and will try again.")
        finally:
            now = time.monotonic()
            self._due = now + max(self._every, (SHARE - 1.0) * (now - begun))

    def _place(self, s: Any, best: Any, least: float) -> Kept:
        return Kept(
            stage=self.stage,
            status=self.status,
            message=self.message,
            before=self._before,
            s=s,
            best=best,
            least=least,
            progress=self._problem.progress(s.w),
            mark=self._record.mark(),
        )

    def _content_of(self, kept: Kept) -> tuple[dict[str, Any], archive.Arrays]:
        """The header and the arrays of the file."""
        arrays: archive.Arrays = {}
        problem, seen = self._problem, self._record.seen(kept.mark)
        encoded = partial(archive.encoded, arrays=arrays, names={id(problem.w0): "w0", id(problem.r0): "r0"})
        run = {
            "method": self._method,
            "reason": self.reason,
            "compiled": self._compiled,
            "stage": kept.stage,
            "status": kept.status,
            "message": kept.message,
            "least": float(kept.least),
            "s": encoded(kept.s, "state"),
            "best": encoded(kept.best, "best"),
            "before": encoded(kept.before, "before"),
            "progress": encoded(kept.progress, "progress"),
            "seen": encoded(seen, "seen"),
        }
        return {"format": FORMAT, "identity": self._identity, "run": run}, arrays

    def _try(self, place: Kept) -> None:
        """Raise TypeError if the state of the method cannot be stored."""
        try:
            header, arrays = self._content_of(place)
            archive.decoded(header["run"]["s"], Any, {**arrays, "w0": None, "r0": None}, (type(place.s),))
        except (TypeError, archive.DifferentClassError) as error:
            raise TypeError(
                f"`checkpoint` is not possible with the method {self._method!r}: {error}. Fields of a state may be "
                "numbers, text, arrays of numbers, None, and named tuples, dataclasses, tuples and dicts of these."
            ) from None


# -- to which run a file belongs ---------------------------------------------------------------------------------------


def identity(problem: Problem, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What tells this run from others, as it will be read from a file."""
    system, metric = problem.system, problem.metric
    jac = system.functions()[1]
    found = {
        "n": problem.n,
        "m": problem.m,
        "w0": problem.w0,
        "y": system.y,
        F_AT_START: norm(problem.r0 + system.y),
        "jac": "a function" if callable(jac) else jac,
        "bounds": [problem.lower, problem.upper],
        "x_scale": "jac" if metric.by_columns else metric.scale,
        **asked,
    }
    same: dict[str, Any] = json.loads(json.dumps({name: plain(value) for name, value in found.items()}))
    return same


def plain(value: Any) -> Any:
    """The value in terms of JSON; of an array its size, norm and check sum."""
    if isinstance(value, np.ndarray):
        if value.size == 0:
            return None
        sum_of_bytes = crc32(np.ascontiguousarray(value).view(np.uint8).data)
        return f"{value.size} numbers of norm {norm(value.ravel()):.4g}, check sum {sum_of_bytes:08x}"
    if isinstance(value, Mapping):
        return {str(name): plain(value[name]) for name in sorted(value)}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return value if value is None or isinstance(value, (bool, int, float, str)) else repr(value)


def alike(theirs: Any, ours: Any, slack: float) -> bool:
    """Whether two values of an identity are the same, numbers up to rounding."""
    if isinstance(theirs, float) and isinstance(ours, float):
        return abs(theirs - ours) <= max(slack, ALIKE * abs(ours))
    if isinstance(theirs, dict) and isinstance(ours, dict):
        return theirs.keys() == ours.keys() and all(alike(theirs[name], ours[name], slack) for name in ours)
    return bool(theirs == ours)


def unlike(name: str, ours: Any, theirs: Any) -> str:
    """How the two values of an identity differ, for a message."""
    return f"{name} is {shown(ours)} in this call, {shown(theirs)} in the file"


def class_of(stage: Stage, problem: Problem, limit: int) -> Any:
    """The class of a stage's states, by the annotation of its step, or else by its first state."""
    init: Callable[..., Any] = stage.init
    step = stage.step
    try:
        kind = get_type_hints(step.func if isinstance(step, partial) else step).get("return")
    except (NameError, TypeError):
        kind = None
    return kind if archive.field_names(kind) else type(init(limit, problem, before=None))


# -- arguments ---------------------------------------------------------------------------------------------------------


def as_path(path: Any) -> str:
    """The absolute path as a text, for a run that changes the working directory; a link leads to the file it names."""
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(text, str):
        raise TypeError(f"`checkpoint` must be the path of a file, got {shown(path)}.")
    if not text or "\0" in text:
        raise ValueError(f"`checkpoint` must be the path of a file, got {shown(path)}.")
    return os.path.realpath(text)


def check_place(path: str) -> None:
    """Raise unless a file may stand at this path."""
    if os.path.exists(path) and not os.path.isfile(path):
        kind = "a folder" if os.path.isdir(path) else "a device or a pipe"
        raise ValueError(f"`checkpoint` must be the path of a file, but {path} is {kind}.")
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise ValueError(f"`checkpoint`: there is no folder {folder}.")


def check_number(product: Callable[[Array], Array], size: int) -> dict[str, float]:
    """What tells one linear map from another: the norm of its product with a fixed vector."""
    return {"check number": norm(product(np.cos(np.arange(1.0, size + 1.0))))}
