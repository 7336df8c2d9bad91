"""The problem and the tangent as compiled code sees them, with the methods of the interpreted classes.

What is written once, in `plsolve.problem` and `plsolve.tangent`, is compiled from there; what calls the user's
functions is written here, since they are reached by address.
"""

from __future__ import annotations

import inspect
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
from plsolve.compiled import lapack  # noqa: F401  # what the linear algebra stands on
from plsolve.compiled.callbacks import OK, WORD, as_bits, as_number, call, generator, nanoseconds, pointer, take
from plsolve.compiled.units import unit, with_parameters
from plsolve.linalg import Array, Cholesky, Orthogonal
from plsolve.methods import ending, gauss_newton, gradient_descent, momentum, nearest, sgd
from plsolve.problem import Problem
from plsolve.stopping import RUNNING
from plsolve.tangent import DenseInverse, DenseTangent, Tangent
from plsolve.theory import steps

FAILED_F, FAILED_JAC, FAILED_F_ROWS, FAILED_JAC_ROWS, FAILED_DIFFERENCES, LATE = range(1, 7)


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


# The words of a frame. An array takes two, its address and its size.
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
)
FLAGS = (
    "bounded",
    "differenced",
    "central",  # differences are always central
    "refined",  # differences may become central
    "single",  # F returns float32
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
PLACES = {name: i for i, name in enumerate(NUMBERS + FLAGS + REALS)}
PLACES |= {name: len(PLACES) + 2 * i for i, name in enumerate(VECTORS + INDICES)}
WORDS = len(PLACES) + len(VECTORS + INDICES)


def reader(name: str) -> Any:
    """The attribute of this name in compiled code."""
    i = PLACES[name]
    if name in NUMBERS:
        return lambda self: words(self)[i]
    if name in FLAGS:
        return lambda self: words(self)[i] != 0
    if name in REALS:
        return lambda self: as_number(words(self)[i])
    dtype = np.float64 if name in VECTORS else np.int64
    return lambda self: carray(pointer(words(self)[i]), (words(self)[i + 1],), dtype)


@register_jitable
def words(problem: Any) -> Any:
    return carray(pointer(frame_of(problem)), (WORDS,), np.int64)


SINGLE, DOUBLE = float(np.finfo(np.float32).eps), float(np.finfo(np.float64).eps)
NFEV, NJEV, NFEV_JAC, FAILURE, TARGET, LEAST = (
    PLACES[k] for k in ("nfev", "njev", "nfev_jac", "failure", "target", "least")
)
GENERATOR = PLACES["state_address"]
FIRST_ARRAY = len(NUMBERS + FLAGS + REALS)


@register_jitable
def build_frame(numbers: Any, reals: Any, vectors: Any, indices: Any) -> Any:
    """The frame of these numbers and flags, reals, vectors and index arrays, which must outlive it."""
    frame = np.empty(WORDS, np.int64)
    for i in range(numbers.size):
        frame[i] = numbers[i]
    for i in range(len(reals)):
        frame[numbers.size + i] = as_bits(reals[i])
    place = FIRST_ARRAY
    for vector in vectors:
        frame[place], frame[place + 1] = vector.ctypes.data, vector.size
        place += 2
    for index in indices:
        frame[place], frame[place + 1] = index.ctypes.data, index.size
        place += 2
    return frame


class CompiledTangent(NamedTuple):
    """`plsolve.tangent.DenseTangent` in compiled code."""

    J: Array
    scale: Array


def inverse(self: Any, free: Any, orthogonal: bool) -> DenseInverse:
    return plsolve.tangent.dense_inverse(self, free, orthogonal)


def frobenius(self: Any) -> float:
    return plsolve.linalg.norm(self.J.ravel())


# -- what calls the user's functions -----------------------------------------------------------------------------------


@register_jitable
def add(problem: Any, place: int) -> None:
    """Count a call."""
    words(problem)[place] += 1


@register_jitable
def fail(problem: Any, what: int, w: Array, rows: Any) -> None:
    """Note what failed first, and where; from then on nothing is called any more."""
    if problem.failure == 0:
        words(problem)[FAILURE] = what
        failed_w, failed_rows = problem.failed_w, problem.failed_rows
        for j in range(w.size):
            failed_w[j] = w[j]
        for i in range(rows.size):
            failed_rows[i] = rows[i]


@register_jitable
def values(problem: Any, what: int, address: int, w: Array, rows: Any, size: int) -> Array:
    """F(w), or some of its rows; NaN after a failure."""
    f = np.empty(size)
    if problem.failure != 0 or call(address, w.copy(), problem.args, rows, f, size) != OK:
        fail(problem, what, w, rows)
        f.fill(np.nan)
    return f


@register_jitable
def matrix(problem: Any, what: int, address: int, w: Array, rows: Any, size: int) -> Array:
    """J(w), or some of its rows; NaN after a failure."""
    owner = np.empty(2, np.int64)
    if problem.failure != 0 or call(address, w.copy(), problem.args, rows, owner, size) != OK:
        fail(problem, what, w, rows)
        return np.full((size, w.size), np.nan)
    return take(owner, size, w.size)


def rng(self: Any) -> Any:
    return generator(words(self)[GENERATOR:])


def residual(self: Any, w: Array) -> Array:
    add(self, NFEV)
    r = values(self, FAILED_F, self.F, w, self.everything, self.n) - self.y
    size = plsolve.linalg.norm(r)
    if size < self.least:
        words(self)[LEAST] = as_bits(size)
        best = self.best
        for j in range(w.size):
            best[j] = w[j]
    return r


def late(self: Any) -> Any:
    return plsolve.loop.clock() >= self.deadline


def residual_rows(self: Any, w: Array, rows: Any) -> Array:
    if self.F_rows == 0:
        return self.residual(w)[rows]
    add(self, NFEV)
    return values(self, FAILED_F_ROWS, self.F_rows, w, rows, rows.size) - self.y[rows]


def difference_residual(self: Any, w: Array) -> Array:
    if self.late():
        fail(self, LATE, w, self.everything)
    add(self, NFEV_JAC)
    return values(self, FAILED_DIFFERENCES, self.F, w, self.everything, self.n) - self.y


def jacobian(self: Any, w: Array, r: Array, precise: bool) -> Array:
    if self.jac != 0:
        return matrix(self, FAILED_JAC, self.jac, w, self.everything, self.n)
    central = self.central or (self.refined and precise)
    size, precision = np.abs(r) + np.abs(self.y), SINGLE if self.single else DOUBLE
    return plsolve.differences.jacobian(self, w, r, size, central, precision)


@register_jitable
def finite(J: Any) -> bool:
    total = 0.0
    for i in range(J.shape[0]):
        for j in range(J.shape[1]):
            total += 0.0 * J[i, j]
    return total == 0.0


def linearise(self: Any, w: Array, r: Array, precise: bool) -> CompiledTangent:
    if self.known_w == w.ctypes.data and not (precise and self.differenced):
        return CompiledTangent(carray(pointer(self.known_J), (self.n, self.m), np.float64).copy(), self.scale)
    add(self, NJEV)
    J = self.jacobian(w, r, precise)
    if not finite(J):
        fail(self, FAILED_JAC, w, self.everything)
    scale, largest = self.scale, self.largest
    for j in range(largest.size):
        size = plsolve.linalg.norm(J[:, j].copy())
        if largest[j] == 0.0 and size == 0.0:
            size = 1.0
        largest[j] = max(largest[j], size)
        scale[j] = 1.0 / largest[j]
    return CompiledTangent(J, scale)


def linearise_rows(self: Any, w: Array, rows: Any) -> CompiledTangent:
    add(self, NJEV)
    if self.jac_rows != 0:
        return CompiledTangent(matrix(self, FAILED_JAC_ROWS, self.jac_rows, w, rows, rows.size), self.scale)
    r = self.residual(w) if self.differenced else self.y
    return CompiledTangent(self.jacobian(w, r, False)[rows], self.scale)


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
        size = plsolve.linalg.norm(s.r)
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


def fields(s: Any) -> Any:
    """The fields of a NamedTuple as a plain tuple, which goes to Python ten times faster."""


@overload(fields, strict=False)
def _fields(s: Any) -> Any:
    return eval(f"lambda s: ({', '.join('s.' + name for name in s.fields)},)")


def functions_of(module: Any) -> list[Any]:
    return [f for f in vars(module).values() if inspect.isfunction(f) and f.__module__ == module.__name__]


for small in (
    plsolve.loop.advance,
    plsolve.loop.residual_norm,
    plsolve.loop.distance,
    plsolve.linalg.magnitude,
    plsolve.tangent.count,
    plsolve.differences.moved,
    plsolve.differences.chord,
    plsolve.differences.parabola,
):
    register_jitable(small)
for large in (
    plsolve.linalg.cholesky,
    plsolve.linalg.orthogonal,
    plsolve.tangent.dense_inverse,
    plsolve.differences.jacobian,
    plsolve.differences.column,
):
    unit(large)
for function in functions_of(steps):
    register_jitable(function)
for module in (ending, gauss_newton, gradient_descent, momentum, nearest, sgd):
    for function in functions_of(module):
        unit(function)
for name in PLACES:
    overload_attribute(ProblemType, name, strict=False)(eval("lambda self: read", {"read": reader(name)}))
overload_attribute(ProblemType, "failed", strict=False)(lambda self: lambda self: self.failure != 0)
overload_attribute(ProblemType, "spent", strict=False)(lambda self: lambda self: False)  # calls are not limited here
overload_attribute(ProblemType, "flat", strict=False)(lambda self: lambda self: 0.0)
overload_attribute(ProblemType, "rng", strict=False)(lambda self: rng)
for method in (
    residual_rows,
    difference_residual,
    jacobian,
    linearise_rows,
    late,
    Problem.project,
    Problem.move,
    Problem.magnitudes,
):
    compile_method(method)
for large_method in (residual, linearise, Problem.rounding_level):
    compile_method(large_method, unit(large_method))
compile_methods(
    {
        CompiledTangent: {
            **methods_of(Tangent),
            **methods_of(DenseTangent),
            "inverse": inverse,
            "frobenius": frobenius,
        },
        DenseInverse: {name: unit(f) for name, f in methods_of(DenseInverse).items()},
        Cholesky: methods_of(Cholesky),
        Orthogonal: methods_of(Orthogonal),
    }
)
