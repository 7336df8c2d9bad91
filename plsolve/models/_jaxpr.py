"""Find the linear layers of a JAX function in its jaxpr: the places where it multiplies by its parameters.

A parameter belongs to a linear layer if it is only multiplied by values that are not parameters, or added to them as a
bias. It then enters f only through z = a W or z = z' + b, and df/dW is the sum of a (x) df/dz over its uses. One
forward and one backward pass give a and df/dz for all examples: f is evaluated with a zero, called a tap, added to
every z, and differentiated with respect to the taps.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, DropVar, Jaxpr, Literal

from plsolve.models._operator import ROOM

_INLINED = {"jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2"}


class Leaf(NamedTuple):
    """A parameter, perhaps with its axes permuted or broadcast along new leading axes."""

    number: int
    axes: tuple[int, ...]  # the axis of the parameter that each (trailing) axis here is
    broadcast: bool


class Tracked(NamedTuple):
    """A parameter tracked through the jaxpr, with its value and the factor that it has been multiplied by."""

    at: Leaf
    value: Any
    factor: Any = 1.0


class Use(NamedTuple):
    """One product or sum with a parameter; ``contracted`` are the axes of the parameter that a is contracted with."""

    leaf: int
    contracted: tuple[int, ...]
    free: tuple[int, ...]
    first: bool  # whether the parameter is the first factor, so that its free axes come first in z
    shape: tuple[int, ...]  # of z
    after: int  # the use whose z is used here alone, so that both have the same sensitivity; otherwise -1


class Walk:
    """One evaluation of a jaxpr with taps on the uses of the parameters ``kept``; None: only list all uses."""

    def __init__(self, kept: frozenset[int] | None, taps: list[Any] | None = None) -> None:
        self._kept, self._taps = kept, taps
        self.uses: list[Use] = []
        self.inputs: list[Any] = []  # a of each use, (U, fan-in)
        self.others: set[int] = set()  # parameters that are also used in other ways
        self._sources: dict[Any, int] = {}  # the use that computes a variable, if that variable is used once

    def run(self, closed: ClosedJaxpr, args: list[Any]) -> list[Any]:
        """The results, which are arrays or tracked parameters."""
        jaxpr: Jaxpr = closed.jaxpr
        env: dict[Any, Any] = dict(zip(jaxpr.constvars, closed.consts, strict=True))
        env |= dict(zip(jaxpr.invars, args, strict=True))
        goes = Counter(v for eqn in jaxpr.eqns for v in eqn.invars if not isinstance(v, Literal))
        goes.update(v for v in jaxpr.outvars if not isinstance(v, Literal))
        for eqn in jaxpr.eqns:
            args = [v.val if isinstance(v, Literal) else env[v] for v in eqn.invars]
            before = len(self.uses)
            self._sources.pop(eqn.outvars[0] if eqn.outvars else None, None)
            env |= dict(zip(eqn.outvars, self._equation(eqn, args), strict=True))
            if len(self.uses) > before and goes[eqn.outvars[0]] == 1 and eqn.primitive.name == "dot_general":
                self._sources[eqn.outvars[0]] = before
        return [v.val if isinstance(v, Literal) else env[v] for v in jaxpr.outvars]

    def _equation(self, eqn: Any, args: list[Any]) -> list[Any]:
        name, leaves = eqn.primitive.name, [a for a in args if isinstance(a, Tracked)]
        if all(isinstance(v, DropVar) for v in eqn.outvars):
            return self._bind(eqn, args)
        if name in _INLINED:
            inner = eqn.params["jaxpr"]
            return self.run(inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ()), args)
        if len(leaves) == 1:
            (leaf,) = leaves
            if name == "transpose" and not leaf.at.broadcast:
                at = leaf.at._replace(axes=tuple(leaf.at.axes[i] for i in eqn.params["permutation"]))
                return [leaf._replace(at=at, value=self._bind(eqn, args)[0])]
            if name == "broadcast_in_dim" and only_leads(eqn, leaf):
                return [leaf._replace(at=leaf.at._replace(broadcast=True), value=self._bind(eqn, args)[0])]
            if name in ("mul", "div") and is_scaled(eqn, args, leaf):
                factor = 1.0 if self._taps is None else factor_of(eqn, args, leaf)
                return [leaf._replace(value=self._bind(eqn, args)[0], factor=leaf.factor * factor)]
            tapped = self._kept is None or leaf.at.number in self._kept
            use = use_of(eqn, args, leaf, self._sources) if tapped else None
            if use is not None:
                return [self._tapped(use, eqn, args, leaf)]
        self.others |= {leaf.at.number for leaf in leaves}
        return self._bind(eqn, args)

    def _bind(self, eqn: Any, args: list[Any]) -> list[Any]:
        if self._taps is None:
            return [v.aval for v in eqn.outvars]
        values = [a.value if isinstance(a, Tracked) else a for a in args]
        out = eqn.primitive.bind(*values, **eqn.primitive.get_bind_params(eqn.params))
        return list(out) if eqn.primitive.multiple_results else [out]

    def _tapped(self, use: Use, eqn: Any, args: list[Any], leaf: Tracked) -> Any:
        self.uses.append(use)
        out = self._bind(eqn, args)[0]
        if self._taps is None:
            return out
        self.inputs.append(input_of(use, eqn, args, leaf))
        return out + self._taps[len(self.uses) - 1]


def only_leads(eqn: Any, leaf: Tracked) -> bool:
    """Whether a broadcast only adds leading axes."""
    shape, kept = eqn.params["shape"], eqn.params["broadcast_dimensions"]
    ndim = len(leaf.at.axes)
    trailing = tuple(range(len(shape) - ndim, len(shape)))
    return tuple(kept) == trailing and tuple(shape[len(shape) - ndim :]) == tuple(eqn.invars[0].aval.shape)


def is_scaled(eqn: Any, args: list[Any], leaf: Tracked) -> bool:
    """Whether the leaf is multiplied or divided by a number."""
    if args[0] is leaf:
        return not eqn.invars[1].aval.shape
    return eqn.primitive.name == "mul" and not eqn.invars[0].aval.shape


def factor_of(eqn: Any, args: list[Any], leaf: Tracked) -> Any:
    """The number that the leaf is multiplied by, see `is_scaled`."""
    other = args[1] if args[0] is leaf else args[0]
    return 1.0 / other if eqn.primitive.name == "div" else other


def use_of(eqn: Any, args: list[Any], leaf: Tracked, sources: dict[Any, int]) -> Use | None:
    """The use of the leaf by this equation, or None if it cannot be tapped."""
    position = next(i for i, a in enumerate(args) if a is leaf)
    out, axes = eqn.outvars[0].aval, leaf.at.axes
    if eqn.primitive.name in ("add", "add_any"):
        other = eqn.invars[1 - position].aval
        if other.shape != out.shape or len(axes) > len(out.shape):
            return None
        if not leaf.at.broadcast and len(axes) < len(out.shape):
            return None
        after = -1 if isinstance(eqn.invars[1 - position], Literal) else sources.get(eqn.invars[1 - position], -1)
        return Use(leaf=leaf.at.number, contracted=(), free=axes, first=False, shape=out.shape, after=after)
    if eqn.primitive.name != "dot_general" or leaf.at.broadcast:
        return None
    contracted, batch = eqn.params["dimension_numbers"]
    if batch[0] or eqn.invars[0].aval.dtype != eqn.invars[1].aval.dtype:
        return None
    mine = tuple(contracted[position])
    free = tuple(axes[i] for i in range(len(axes)) if i not in mine)
    chosen = tuple(axes[i] for i in mine)
    return Use(leaf=leaf.at.number, contracted=chosen, free=free, first=position == 0, shape=out.shape, after=-1)


def input_of(use: Use, eqn: Any, args: list[Any], leaf: Tracked) -> Any:
    """A (U, fan-in): the values that the parameter is multiplied by; ones for a bias."""
    if eqn.primitive.name != "dot_general":
        repeats = math.prod(use.shape[: len(use.shape) - len(use.free)])
        return jnp.full((repeats, 1), leaf.factor, eqn.outvars[0].aval.dtype)
    position = 1 if use.first else 0
    other, axes = args[position], eqn.params["dimension_numbers"][0][position]
    rest = [i for i in range(other.ndim) if i not in axes]
    fan_in = math.prod(other.shape[i] for i in axes)
    return leaf.factor * jnp.transpose(other, (*rest, *axes)).reshape(-1, fan_in)


class Part(NamedTuple):
    """A parameter in a linear layer, with its contracted and free axes and its uses."""

    leaf: int
    contracted: tuple[int, ...]
    free: tuple[int, ...]
    uses: tuple[int, ...]
    shares: int  # the parameter that has the same sensitivities; -1: none


class Layers:
    """The linear layers of ``f(leaves, rest)``, which returns the q outputs for one example.

    Attributes
    ----------
    parts : list of Part
        The parameters whose inputs and sensitivities need less memory than their rows of J.
    others : list of int
        All other parameters.
    """

    def __init__(self, f: Callable[..., Any], leaves: list[Any], rest: Any) -> None:
        self._closed, out = jax.make_jaxpr(f, return_shape=True)(leaves, rest)
        self._ranks, self._dtype = [len(v.shape) for v in leaves], out.dtype
        look = Walk(None)
        results = look.run(self._closed, self._arguments(leaves, jax.tree.leaves(rest)))
        others = look.others | {r.at.number for r in results if isinstance(r, Tracked)}
        found: dict[int, list[Use]] = {}
        for use in look.uses:
            found.setdefault(use.leaf, []).append(use)
        self._kept = frozenset(
            i for i, uses in found.items() if i not in others and worth(uses, leaves[i].shape, out.size)
        )
        self.others = [i for i in range(len(leaves)) if i not in self._kept]
        again = Walk(self._kept)
        again.run(self._closed, self._arguments(leaves, jax.tree.leaves(rest)))
        self._uses = again.uses
        self.parts = [self._part(leaf, found[leaf][0]) for leaf in sorted(self._kept)]

    def _part(self, leaf: int, first: Use) -> Part:
        uses = tuple(i for i, use in enumerate(self._uses) if use.leaf == leaf)
        after = self._uses[uses[0]].after if len(uses) == 1 else -1
        alone = after >= 0 and sum(use.leaf == self._uses[after].leaf for use in self._uses) == 1
        shares = self._uses[after].leaf if alone else -1
        return Part(leaf=leaf, contracted=first.contracted, free=first.free, uses=uses, shares=shares)

    def _arguments(self, leaves: list[Any], rest: list[Any]) -> list[Any]:
        named = [
            Tracked(Leaf(number=i, axes=tuple(range(rank)), broadcast=False), value)
            for i, (rank, value) in enumerate(zip(self._ranks, leaves, strict=True))
        ]
        return [*named, *rest]

    def __call__(self, leaves: list[Any], rest: Any, held: list[int]) -> tuple[list[Any], list[Any], list[Any]]:
        """A (U, fan-in) and D (q, U, fan-out) of each part (None: shared), and df/dp (q, ...) of those ``held``."""

        def tapped(taps: list[Any], some: list[Any]) -> Any:
            now = list(leaves)
            for i, value in zip(held, some, strict=True):
                now[i] = value
            walk = Walk(self._kept, taps)
            (out,) = walk.run(self._closed, self._arguments(now, jax.tree.leaves(rest)))
            return jnp.ravel(out.value if isinstance(out, Tracked) else out), walk.inputs

        taps = [jnp.zeros(use.shape, self._dtype) for use in self._uses]
        f, back, inputs = jax.vjp(tapped, taps, [leaves[i] for i in held], has_aux=True)
        slopes, rows = jax.vmap(back)(jnp.eye(f.size, dtype=f.dtype))
        A, D = [], []
        for part in self.parts:
            some, others = [], []
            for i in part.uses:
                a, d = inputs[i], sensitivities(self._uses[i], slopes[i])
                if self._uses[i].contracted != part.contracted:  # the other axes: `worth` allows it for one output
                    a, d = d[0], a[None]
                some.append(a)
                others.append(d)
            A.append(jnp.concatenate(some))
            D.append(None if part.shares >= 0 else jnp.concatenate(others, axis=1))
        return A, D, rows


def worth(uses: list[Use], shape: tuple[int, ...], q: int) -> bool:
    """Whether all uses are alike, and inputs and sensitivities need less memory than rows of J."""
    first = uses[0]
    ways = {(use.contracted, use.free) for use in uses}
    if not ways <= {(first.contracted, first.free), *([(first.free, first.contracted)] if q == 1 else [])}:
        return False
    fan_in, fan_out = (math.prod(shape[i] for i in axes) for axes in (first.contracted, first.free))
    repeats = sum(math.prod(use.shape) // math.prod(shape[i] for i in use.free) for use in uses)
    return repeats * (fan_in + q * fan_out) <= ROOM * q * fan_in * fan_out


def sensitivities(use: Use, slope: Any) -> Any:
    """Reshape df/dz to (q, U, fan-out)."""
    q, k = len(slope), len(use.free)
    if use.first:
        return slope.reshape(q, math.prod(use.shape[:k]), -1).swapaxes(1, 2)
    return slope.reshape(q, -1, math.prod(use.shape[len(use.shape) - k :]))
