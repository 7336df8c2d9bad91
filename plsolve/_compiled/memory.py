"""The memory of a system: the record of its numbers, the rows of V, which are vectors, and J, in one array.

See `plsolve._compiled.kernel`.
"""

from __future__ import annotations

import ctypes
from typing import Any, ClassVar

import numpy as np
from numba import from_dtype, types
from numba.extending import intrinsic, register_jitable

from plsolve._compiled.words import WORD, lent
from plsolve._linalg import Array
from plsolve.methods.tuning import TUNING

WHOLES = """
    n m width height F jac args rows count now bounded differenced central coarse scaling nfev njev nfev_jac
    error nit status orthogonal precise stagnant cholesky inconsistent boxed best plan root phase left slow failed own
    allowance kicks kept_status kept_stagnant kept_orthogonal kept_precise cut within_bounds differences logged refined
    reflected rescale
"""
REALS = """
    size size_y target least top deadline beta radius step pl beta_seen length predicted mark level kept_size
    kept_radius gain natural share reached enough size0 tol sure judged precision steep near
"""


class State(ctypes.Structure):
    """The numbers of a system and its run, without vectors."""

    _fields_: ClassVar = [
        *((name, ctypes.c_int64) for name in WHOLES.split()),
        *((name, ctypes.c_double) for name in REALS.split()),
    ]


WORDS = ctypes.sizeof(State) // 8
CLOCK = State.now.offset  # where the clock writes

# rows of V
(
    Y, R, R_BEST, R_KEPT, JGN, U, JP, REST, Z, JS, A, B, C,  # of n numbers
    W, W0, W_BEST, W_KEPT, W_FAILED, W_J, LOWER, UPPER, SCALE, WEIGHT, LARGEST, GIVEN, D, GN, P, G, T, E, PLAIN, FREE,
    LOW, HIGH, GOAL, NOW,  # of m
    TRIAL,
) = range(38)  # fmt: skip
TRIAL_R = TRIAL + 3  # three of each
CHORD = TRIAL_R + 3
ROWS_OF_V = CHORD + TUNING.chord_steps + 1  # and 2 k more

NUMBERS = from_dtype(np.dtype(State))
MATRIX = types.Array(types.float64, 2, "C")


@intrinsic
def state(typingctx: Any, S: Any) -> Any:
    """The record of the system at this address."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], context.get_value_type(NUMBERS))

    return NUMBERS(types.int64), codegen


@intrinsic
def system(typingctx: Any, S: Any) -> Any:
    """The record, V and J of the system at this address, as views that do not own their memory."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        start = builder.inttoptr(values[0], WORD.as_pointer())
        n, m, width, height = (builder.load(builder.gep(start, [WORD(i)])) for i in range(4))
        place = builder.add(values[0], WORD(8 * WORDS))
        V = lent(context, builder, MATRIX, place, [height, width])
        place = builder.add(place, builder.mul(builder.mul(height, width), WORD(8)))
        found = [
            builder.inttoptr(values[0], context.get_value_type(NUMBERS)),
            V,
            lent(context, builder, MATRIX, place, [n, m]),
        ]
        return context.make_tuple(builder, signature.return_type, found)

    return types.Tuple((NUMBERS, MATRIX, MATRIX))(types.int64), codegen


@register_jitable
def blank(n: int, m: int) -> Array:
    """The memory of a system without bounds, all scales 1."""
    width, height = max(n, m), ROWS_OF_V + 2 * min(n, m)
    memory = np.zeros(WORDS + width * height + n * m)
    sizes = memory[:4].view(np.int64)
    sizes[0], sizes[1], sizes[2], sizes[3] = n, m, width, height
    for row, value in ((SCALE, 1.0), (WEIGHT, 1.0), (LOWER, -np.inf), (UPPER, np.inf)):
        begin = WORDS + row * width
        memory[begin : begin + width] = value
    return memory


class System:
    """A system from Python."""

    def __init__(self, memory: Array, n: int, m: int) -> None:
        end = memory.size - n * m
        self.memory, self.state = memory, State.from_buffer(memory.data)
        self.address = ctypes.addressof(self.state)
        self.V, self.J = memory[WORDS:end].reshape(-1, max(n, m)), memory[end:].reshape(n, m)

    def vector(self, row: int) -> Array:
        """A copy of a vector of n numbers, or of m."""
        n, m = self.J.shape
        return self.V[row, : m if W <= row < TRIAL_R else n].copy()
