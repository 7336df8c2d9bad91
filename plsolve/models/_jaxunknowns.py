"""The unknowns of a JAX model: leaves of its pytree of parameters, concatenated in w."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from plsolve._linalg import Array


def spread(mask: Any, params: Any) -> list[bool]:
    """The mask of every leaf of params, from one of their structure or of its upper levels."""
    if not all(isinstance(kept, bool) or str(getattr(kept, "dtype", "")) == "bool" for kept in jax.tree.leaves(mask)):
        raise TypeError("`mask` must be a pytree of True and False.")
    try:
        whole = jax.tree.map(lambda kept, below: jax.tree.map(lambda _: bool(kept), below), mask, params)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`mask` must have the structure of `params`, or of its upper levels: {error}") from error
    leaves: list[bool] = jax.tree.leaves(whole)
    return leaves


class Unknowns:
    """The leaves of a pytree that are unknowns, and their places in w."""

    def __init__(self, params: Any, mask: Any, dtype: Any) -> None:
        self.leaves, self.tree = jax.tree.flatten(params)
        masks = [True] * len(self.leaves)
        if mask is not None:
            masks = spread(mask, params)
        floating = [hasattr(v, "dtype") and jnp.issubdtype(v.dtype, jnp.floating) for v in self.leaves]
        self.free = [i for i, (number, kept) in enumerate(zip(floating, masks, strict=True)) if number and kept]
        if not self.free:
            raise ValueError("`params` must contain a floating-point array that is not fixed by `mask`.")
        self.shapes = [jnp.shape(self.leaves[i]) for i in self.free]
        ends = np.cumsum([0, *(int(np.prod(shape)) for shape in self.shapes)]).tolist()
        self.slices = [slice(start, end) for start, end in pairwise(ends)]
        self.m, self.dtype = ends[-1], dtype
        self.w0: Array = np.concatenate([np.asarray(self.leaves[i], np.float64).ravel() for i in self.free])
        self.arrays = [i for i, v in enumerate(self.leaves) if hasattr(v, "dtype") and i not in self.free]
        self.fixed = [
            jnp.asarray(self.leaves[i], dtype if floating[i] else None) for i in self.arrays
        ]  # passed to compiled functions as arguments, not as constants

    def split(self, w: Any) -> list[Any]:
        """The unknown leaves in w (m,)."""
        return [w[where].reshape(shape) for where, shape in zip(self.slices, self.shapes, strict=True)]

    def whole(self, unknown: Sequence[Any], fixed: Sequence[Any]) -> Any:
        """The pytree with these unknown and fixed leaves."""
        leaves = list(self.leaves)
        for i, value in [*zip(self.free, unknown, strict=True), *zip(self.arrays, fixed, strict=True)]:
            leaves[i] = value
        return jax.tree.unflatten(self.tree, leaves)
