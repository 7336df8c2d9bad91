"""A JAX model at a point: products with J, its layers, and rows of J in chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from plsolve._linalg import Array
from plsolve.models._operator import Block, Layer, Rows

if TYPE_CHECKING:
    from plsolve.models._jax import JaxSystem


class JaxPoint:
    """A model at w: the JAX version of `plsolve.models._operator.Point`."""

    def __init__(self, model: JaxSystem, w: Any, data: Any, n: int) -> None:
        self._model, self._w, self._given = model, w, (model._unknowns.fixed, data)
        self.n, self.m = n, model.m
        self.near = w.dtype == jnp.float32 or w.device.platform == "cpu"
        self._starts: dict[tuple[int, ...], list[tuple[int, int, int]]] = {}
        self.blocks = [self._block(leaves, count, data) for leaves, count in model._groups]
        self._only: Any = None  # the rows of J if there is only one block with one chunk

    def _block(self, leaves: tuple[int, ...], count: int, data: Any) -> Block:
        """The unknowns of these leaves; their rows of J are divided into about ``count`` chunks, within each term.

        For each chunk, its term, first example and number of examples (without terms, equations) are recorded.
        """
        model, offset, chunks = self._model, 0, []
        starts = self._starts[leaves] = []
        sizes = [(first_size(X), term.outputs) for term, X in zip(model._terms, data, strict=True)] or [(self.n, 1)]
        for term, (size, q) in enumerate(sizes):
            step = size if count == 1 else min(size, -(-self.n // (q * count)))
            for start in range(0, size, step):
                here = min(step, size - start)
                starts.append((term, start, here))
                chunks.append(slice(offset + q * start, offset + q * (start + here)))
            offset += q * size
        return Block(leaves=leaves, where=[model._unknowns.slices[i] for i in leaves], chunks=chunks)

    def products(self, V: Array) -> Array:
        if V.shape[1] == 1:
            return self.host(self._model._product(self._w, *self._given, self._array(V[:, 0])))[:, None]
        return self.host(self._model._products(self._w, *self._given, self._array(V.T))).T

    def adjoints(self, Z: Array) -> Array:
        if Z.shape[1] == 1:
            return self.host(self._model._adjoint(self._w, *self._given, self._array(Z[:, 0])))[:, None]
        return self.host(self._model._adjoints(self._w, *self._given, self._array(Z.T))).T

    def _array(self, x: Array) -> Any:
        return jnp.asarray(x, self._w.dtype)

    def parts(self) -> list[Layer | Rows]:
        A, D, J = self._model._parts(self._w, *self._given)
        if self.near:
            A, D, J = jax.tree.map(self.host, (A, D, J))
        layers, unknowns = self._model._layers, self._model._unknowns
        parts = [] if layers is None else layers.parts
        own = {p.leaf: d for p, d in zip(parts, D, strict=True)}
        made: list[Layer | Rows] = [
            Layer(
                A=a,
                D=own[p.leaf if p.shares < 0 else p.shares],
                where=unknowns.slices[p.leaf],
                shape=unknowns.shapes[p.leaf],
                axes=(*p.contracted, *p.free),
            )
            for p, a in zip(parts, A, strict=True)
        ]
        return made + [Rows(J=j, where=unknowns.slices[i]) for i, j in zip(self._model._held, J, strict=True)]

    def rows(self, block: Block, chunk: int) -> Any:
        if self._only is not None:
            return self._only
        term, start, size = self._starts[block.leaves][chunk]
        J = self._model._rows(self._w, *self._given, start, leaves=block.leaves, term=term, size=size)
        J = self.host(J) if self.near else J
        if len(self.blocks) == len(block.chunks) == 1:
            self._only = J
        return J

    def like(self, x: Array) -> Any:
        return x if self.near else self._array(x)

    def host(self, array: Any) -> Array:
        return np.asarray(array, np.float64)


def first_size(X: Any) -> int:
    """The number of examples."""
    return len(jax.tree.leaves(X)[0])
