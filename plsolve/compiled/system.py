"""The problem and the tangent as compiled code sees them, with the methods of the interpreted classes.

What is written once, in `plsolve.problem` and `plsolve.tangent`, is compiled from there; what calls the user's
functions is written here, since they are reached by address.
"""

from __future__ import annotations

import inspect
import math
import sys
from typing import Any, NamedTuple

import numpy as np
from numba import carray, types
from numba.core.typing.templates import _OverloadMethodTemplate, infer_getattr, make_overload_attribute_template
from numba.extending import (
    intrinsic,
    models,
    overload,
    overload_attribute,
    overload_method,
    register_jitable,
    register_model,
)

import plsolve.differences
import plsolve.linalg
import plsolve.loop
import plsolve.tangent
from plsolve.compiled import lapack
from plsolve.compiled.bridges import OK
from plsolve.compiled.callbacks import WORD, as_bits, as_number, call, generator, nanoseconds, pointer
from plsolve.compiled.states import members
from plsolve.compiled.units import unit, with_parameters
from plsolve.compiled.vectors import (
    BASE,
    MEMORY_WORDS,
    drop,
    hold,
    load,
    matrix,
    new,
    new_matrix,
    own,
    peek,
    poke,
    release,
    store,
    vector,
)
from plsolve.linalg import Array, Cholesky, Orthogonal
from plsolve.methods import box, ending, gauss_newton, gradient_descent, momentum, nearest, sgd, watchdog
from plsolve.problem import DIFFERENT, Problem
from plsolve.stopping import RUNNING
from plsolve.tangent import DenseInverse, DenseTangent, Tangent
from plsolve.theory import steps

FAILED_F, FAILED_JAC, FAILED_F_ROWS, FAILED_JAC_ROWS, FAILED_DIFFERENCES, LATE, NOT_FINITE = range(1, 8)


class ProblemType(types.Type):
    """`plsolve.problem.Problem` in compiled code: the address of a frame of 64-bit words, which are its attributes.

    So it is one number for those that are called with it: copying arrays and counting their owners would take longer
    than a small solve.
    """

    def __init__(self) -> None:
        super().__init__("plsolve.Problem")


PROBLEM = ProblemType()


@register_model(ProblemType)
class _ProblemModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, WORD)


@intrinsic
def problem_at(typingctx: Any, frame: Any) -> Any:
    """The problem with its frame at this address."""
    return PROBLEM(types.int64), lambda context, builder, signature, values: values[0]


@intrinsic
def frame_of(typingctx: Any, problem: Any) -> Any:
    """Where the problem's frame is."""
    return types.int64(PROBLEM), lambda context, builder, signature, values: values[0]


# The words of a frame: the run's memory (see `plsolve.compiled.vectors`), numbers, flags, reals, and arrays, which take
# two each, address and size.
NUMBERS = (
    "F",  # addresses of the callbacks; jac 0: differences; F_rows, jac_rows 0: all rows are evaluated, and some taken
    "jac",
    "F_rows",
    "jac_rows",
    "n",
    "m",
    "nfev",
    "njev",
    "nfev_jac",
    "failure",  # what failed
    "state_address",  # of the random numbers' generator
    "state",
    "next_uint64",
    "next_uint32",
    "next_double",
    "bit_generator",
    "known_w",  # where a point is at which J is known, and J
    "known_J",
    "handed",  # where a callback puts a Jacobian: its owner, and its numbers
    "handed_data",
    "numbers",  # where the run's vectors are counted from
)
FLAGS = (
    "bounded",
    "differenced",
    "central",  # differences are always central
    "refined",  # differences may become central
    "single",  # F returns float32
    "unasked",  # the scale comes from J where that and the unknowns are of very different size
)
REALS = ("size_y", "target", "least", "deadline")  # least: of ||r|| so far, at the point `best`
VECTORS = (
    "w0",
    "y",
    "r0",
    "lower",
    "upper",
    "scale",
    "largest",  # norms of the columns of J so far, for x_scale='jac'; else empty
    "failed_w",  # where it failed
    "best",
)
INDICES = (
    "args",  # the table of arguments
    "failed_rows",
    "everything",  # arange(n), or empty where no function wants it
)
PLACES = {name: MEMORY_WORDS + i for i, name in enumerate(NUMBERS + FLAGS + REALS)}
PLACES |= {name: MEMORY_WORDS + len(PLACES) + 2 * i for i, name in enumerate(VECTORS + INDICES)}
WORDS = MEMORY_WORDS + len(NUMBERS + FLAGS + REALS) + 2 * len(VECTORS + INDICES)


def reader(name: str) -> Any:
    """The attribute of this name in compiled code."""
    place = 8 * PLACES[name]
    if name in NUMBERS:
        return lambda self: peek(frame_of(self) + place)
    if name in FLAGS:
        return lambda self: peek(frame_of(self) + place) != 0
    if name in REALS:
        return lambda self: as_number(peek(frame_of(self) + place))
    if name in VECTORS:
        return lambda self: placed(frame_of(self), place)
    return lambda self: carray(pointer(peek(frame_of(self) + place)), (peek(frame_of(self) + place + 8),), np.int64)


@register_jitable
def placed(frame: int, place: int) -> Any:
    """The vector whose place and size are in these words of the frame."""
    return vector(peek(frame + ORIGIN) + peek(frame + place), peek(frame + place + 8), frame)


SINGLE, DOUBLE = float(np.finfo(np.float32).eps), float(np.finfo(np.float64).eps)
NFEV, NJEV, NFEV_JAC, FAILURE, LEAST, HANDED, ARGS, KNOWN, ORIGIN = (
    8 * PLACES[k] for k in ("nfev", "njev", "nfev_jac", "failure", "least", "handed", "args", "known_w", "numbers")
)
GENERATOR, LARGEST, SCALE = PLACES["state_address"], 8 * PLACES["largest"], 8 * PLACES["scale"]


class CompiledTangent(NamedTuple):
    """`plsolve.tangent.DenseTangent` in compiled code."""

    J: Array
    scale: Array


def inverse(self: Any, free: Any, orthogonal: bool) -> DenseInverse:
    return plsolve.tangent.dense_inverse(self, free, orthogonal)


def moved(self: Any, w: Array, z: Array) -> Array:
    if self.scale.size:
        return w + self.raised(self.adjoint(z))
    return lapack.plus_product(w, self.J.T, z)  # in one go


def frobenius(self: Any) -> float:
    return plsolve.linalg.norm(self.J.ravel())


# -- what calls the user's functions -----------------------------------------------------------------------------------


@register_jitable
def add(problem: Any, place: int) -> None:
    """Count a call."""
    poke(frame_of(problem) + place, peek(frame_of(problem) + place) + 1)


@register_jitable
def fail(problem: Any, what: int, w: Any, rows: Any) -> None:
    """Note what failed first, and where; from then on nothing is called any more."""
    if problem.failure == 0:
        poke(frame_of(problem) + FAILURE, what)
        failed_w, failed_rows = problem.failed_w, problem.failed_rows
        for j in range(w.size):
            store(failed_w, j, load(w, j))
        for i in range(rows.size):
            failed_rows[i] = rows[i]


@register_jitable
def values(problem: Any, what: int, address: int, w: Any, rows: Any, size: int) -> Any:
    """F(w), or some of its rows; NaN after a failure."""
    frame = frame_of(problem)
    f = new(frame, size)
    if problem.failure != 0 or call(address, w.data, w.size, placed(frame, ARGS).data, rows, f.data, size) != OK:
        fail(problem, what, w, rows)
        for i in range(size):
            store(f, i, np.nan)
    return f


@register_jitable
def entries(problem: Any, what: int, address: int, w: Any, rows: Any, size: int) -> Any:
    """J(w), or some of its rows; NaN after a failure."""
    frame = frame_of(problem)
    there = frame + HANDED
    if problem.failure != 0 or call(address, w.data, w.size, placed(frame, ARGS).data, rows, there, size) != OK:
        fail(problem, what, w, rows)
        J = new_matrix(frame, size, w.size)
        for i in range(size * w.size):
            store(J, i, np.nan)
        return J
    J = matrix(peek(there + 8), size, w.size, frame)
    if not own(frame, peek(there)):
        K = new_matrix(frame, size, w.size)
        for i in range(size * w.size):
            store(K, i, load(J, i))
        drop(peek(there))
        return K
    return J


@register_jitable
def minus(f: Any, y: Any) -> Any:
    """f - y in the place of f."""
    for i in range(f.size):
        store(f, i, load(f, i) - load(y, i))
    return f


def rng(self: Any) -> Any:
    return generator(carray(pointer(frame_of(self)), (WORDS,), np.int64)[GENERATOR:])


def residual(self: Any, w: Array) -> Array:
    if self.failure == 0:
        add(self, NFEV)
    r = minus(values(self, FAILED_F, self.F, w, self.everything, self.n), self.y)
    size = plsolve.linalg.norm(r)
    if size < self.least:
        poke(frame_of(self) + LEAST, as_bits(size))
        best = self.best
        for j in range(w.size):
            store(best, j, load(w, j))
    return r


def late(self: Any) -> Any:
    return self.deadline < math.inf and plsolve.loop.clock() >= self.deadline


def residual_rows(self: Any, w: Array, rows: Any) -> Array:
    if self.F_rows == 0:
        return self.residual(w)[rows]
    add(self, NFEV)
    return minus(values(self, FAILED_F_ROWS, self.F_rows, w, rows, rows.size), self.y[rows])


def difference_residual(self: Any, w: Array) -> Array:
    if self.late():
        fail(self, LATE, w, self.everything)
    add(self, NFEV_JAC)
    return minus(values(self, FAILED_DIFFERENCES, self.F, w, self.everything, self.n), self.y)


def jacobian(self: Any, w: Array, r: Array, precise: bool) -> Array:
    if self.jac != 0:
        return entries(self, FAILED_JAC, self.jac, w, self.everything, self.n)
    central = self.central or (self.refined and precise)
    size, precision = np.abs(r) + np.abs(self.y), SINGLE if self.single else DOUBLE
    return plsolve.differences.jacobian(self, w, r, size, central, precision)


def linearise(self: Any, w: Array, r: Array, precise: bool) -> CompiledTangent:
    if self.known_w == w.data and not (precise and self.differenced):
        return CompiledTangent(matrix(self.known_J, self.n, self.m, frame_of(self)), self.scale)
    add(self, NJEV)
    J = self.jacobian(w, r, precise)
    if not plsolve.linalg.finite(J):
        fail(self, NOT_FINITE, w, self.everything)
    if peek(frame_of(self) + LARGEST + 8) != 0:
        rescale(self, J)
    return CompiledTangent(J, self.scale)


def rescale(problem: Any, J: Any) -> None:
    """x_scale='jac': the inverse of the largest norm that each column of J has had (`Problem._update_scale`)."""
    scale, largest, column = problem.scale, problem.largest, new(frame_of(problem), problem.n)
    for j in range(largest.size):
        for i in range(column.size):
            store(column, i, load(J, i * largest.size + j))
        size = plsolve.linalg.norm(column)
        if load(largest, j) == 0.0 and size == 0.0:
            size = 1.0
        store(largest, j, max(load(largest, j), size))
    least, scaled = 1.0, True
    if problem.unasked:
        least, sizes = largest.min(), np.abs(problem.w0)
        scaled = -(-largest).min() > DIFFERENT * least and not sizes.min() > -(-sizes).min() / DIFFERENT
    for j in range(largest.size):
        store(scale, j, least * (1.0 / load(largest, j)))
    poke(frame_of(problem) + SCALE + 8, largest.size if scaled else 0)


unit(rescale)


def linearise_rows(self: Any, w: Array, rows: Any) -> CompiledTangent:
    add(self, NJEV)
    if self.jac_rows != 0:
        return CompiledTangent(entries(self, FAILED_JAC_ROWS, self.jac_rows, w, rows, rows.size), self.scale)
    r = self.residual(w) if self.differenced else self.y
    whole = self.jacobian(w, r, False)
    J = new_matrix(frame_of(self), rows.size, self.m)
    for k in range(rows.size):
        for j in range(self.m):
            store(J, k * self.m + j, load(whole, rows[k] * self.m + j))
    return CompiledTangent(J, self.scale)


# -- sharing -----------------------------------------------------------------------------------------------------------


def compile_method(method: Any, body: Any = None) -> None:
    """Give the problem a method in compiled code; body: what to do instead of compiling it where it is called."""
    choose = with_parameters(inspect.signature(method), lambda *args: body or method)
    overload_method(ProblemType, method.__name__, strict=False)(choose)


class Method(_OverloadMethodTemplate):
    """A method of some NamedTuples; other NamedTuples, the user's too, are not touched."""

    def _resolve(self, kind: Any, name: str) -> Any:
        if name != self._attr or kind.instance_class not in self.metadata["functions"]:
            return None
        return super()._resolve(kind, name)


def compile_methods(table: dict[type, dict[str, Any]]) -> None:
    """Give NamedTuples methods in compiled code: class -> name -> function."""
    for name in {name: None for methods in table.values() for name in methods}:
        functions = {shape: methods[name] for shape, methods in table.items() if name in methods}
        choose = chooser(functions)
        for kind in (types.NamedTuple, types.NamedUniTuple):
            infer_getattr(make_overload_attribute_template(kind, name, choose, base=Method, functions=functions))
        overload(choose, strict=False)(choose)


def chooser(functions: dict[type, Any]) -> Any:
    def choose(self: Any, *args: Any) -> Any:
        return functions.get(self.instance_class)

    choose.__signature__ = inspect.signature(next(iter(functions.values())))  # type: ignore[attr-defined]
    return choose


def methods_of(shape: type, *names: str) -> dict[str, Any]:
    """Methods of a class by name; all of its own where no names are given."""
    if names:
        return {name: inspect.getattr_static(shape, name) for name in names}
    return {name: f for name, f in vars(shape).items() if inspect.isfunction(f) and not name.startswith("_")}


@overload(int, strict=False)
def status_number(status: Any) -> Any:
    return (lambda status: status.value) if isinstance(status, types.IntEnumMember) else None


@overload(plsolve.loop.clock, strict=False)
def clock() -> Any:
    return lambda: nanoseconds() * 1e-9


@overload(plsolve.loop.note, strict=False)
def note(log: Any, row: Any, s: Any) -> Any:
    def noted(log: Any, row: Any, s: Any) -> Any:
        size = lapack.dnrm2((s.r.size, s.r, 1))  # to the last bit what the interpreted loop writes
        log[row, 0], log[row, 1], log[row, 2] = s.nit, 0.5 * size * size, s.step
        log[row, 3], log[row, 4] = s.pl, s.bend
        return RUNNING

    return noted if isinstance(log, types.Array) else lambda log, row, s: RUNNING


@overload(plsolve.loop.room, strict=False)
def room(log: Any) -> Any:
    return (lambda log: log.shape[0]) if isinstance(log, types.Array) else lambda log: sys.maxsize


@overload(plsolve.differences.difference, strict=False)
def difference(f: Any, r: Any) -> Any:
    return lambda f, r: f - r


@overload(plsolve.tangent.tangent, strict=False)
def tangent(J: Any, scale: Any) -> Any:
    return lambda J, scale: CompiledTangent(J, scale)


@overload(plsolve.loop.settle, strict=False)
def settle(problem: Any, s: Any, best: Any) -> Any:
    held = [
        f"    kept = hold(frame, {name}.data, kept)"
        for state in ("s", "best")
        for name, kind in members(s.instance_class, state)
        if kind is np.ndarray
    ]
    lines = [
        "def settled(problem, s, best):",
        "    frame = frame_of(problem)",
        "    kept = peek(frame + base)",
        *held,
        "    release(frame, kept)",
        "    poke(frame + known, 0)",  # another point may come to lie there
    ]
    scope: dict[str, Any] = {f.__name__: f for f in (hold, release)}
    scope |= {"frame_of": frame_of, "peek": peek, "poke": poke, "base": 8 * BASE, "known": KNOWN}
    exec("\n".join(lines), scope)
    return scope["settled"]


def functions_of(module: Any) -> list[Any]:
    return [f for f in vars(module).values() if inspect.isfunction(f) and f.__module__ == module.__name__]


# What every iteration runs becomes part of the step: handing a model on takes longer than its use.
HOT = {
    getattr(gauss_newton, name)
    for name in ("newton", "refined", "search", "path", "attempt", "next_radius", "inside", "toward")
}
inlined = register_jitable(forceinline=True)

for small in (
    plsolve.loop.advance,
    plsolve.loop.exceeded,
    plsolve.loop.residual_norm,
    plsolve.loop.latest,
    plsolve.linalg.cholesky,
    plsolve.tangent.count,
    plsolve.tangent.dense_inverse,
    plsolve.differences.moved,
    plsolve.differences.chord,
    plsolve.differences.parabola,
):
    register_jitable(small)
for large in (
    plsolve.linalg.orthogonal,
    plsolve.differences.jacobian,
    plsolve.differences.column,
):
    unit(large)
for function in functions_of(steps):
    register_jitable(function)
for module in (box, ending, gauss_newton, gradient_descent, momentum, nearest, sgd, watchdog):
    for function in functions_of(module):
        (inlined if function in HOT else unit)(function)
for name in PLACES:
    overload_attribute(ProblemType, name, strict=False)(eval("lambda self: read", {"read": reader(name)}))
overload_attribute(ProblemType, "failed", strict=False)(lambda self: lambda self: self.failure != 0)
overload_attribute(ProblemType, "spent", strict=False)(lambda self: lambda self: False)  # calls are not limited here
overload_attribute(ProblemType, "flat", strict=False)(lambda self: lambda self: 0.0)
overload_attribute(ProblemType, "rng", strict=False)(lambda self: rng)
for method in (
    residual,
    residual_rows,
    difference_residual,
    jacobian,
    linearise,
    linearise_rows,
    late,
    Problem.project,
    Problem.move,
    Problem.magnitudes,
):
    compile_method(method)
compile_method(Problem.rounding_level, unit(Problem.rounding_level))
compile_methods(
    {
        CompiledTangent: {
            **methods_of(Tangent),
            **methods_of(DenseTangent),
            "inverse": inverse,
            "moved": moved,
            "frobenius": frobenius,
        },
        DenseInverse: methods_of(DenseInverse),
        Cholesky: methods_of(Cholesky),
        Orthogonal: {name: unit(f) for name, f in methods_of(Orthogonal).items()},
    }
)


def watched_step(problem: Any, s: Any) -> Any:
    """A step of `watchdog`, back from a phase that met a J that is not finite: `loop.kept` in compiled code."""
    new = watchdog.step(problem, s)
    if problem.failure == NOT_FINITE and s.watch.phase != watchdog.MONOTONE:
        poke(frame_of(problem) + FAILURE, 0)
        return watchdog.retreated(s)
    return new


register_jitable(watched_step)
