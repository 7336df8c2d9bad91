"""Systems F(w) = y whose F is a JAX function of a pytree of parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from plsolve._checks import as_flag
from plsolve._linalg import Array
from plsolve.models._jaxpoint import JaxPoint
from plsolve.models._jaxpr import Layers
from plsolve.models._jaxunknowns import Unknowns
from plsolve.models._operator import (
    FORMED,
    HELD,
    Indices,
    ModelJacobian,
    PickedJacobian,
    as_rows,
    as_weights,
    divided,
    grouped,
)

PASSES = 8  # backward passes at once: each has intermediate results of its own


class Term(NamedTuple):
    """Equations that come from examples: f(leaves, (fixed, x)) -> the outputs of one, and how many these are."""

    f: Callable[..., Any]
    outputs: int

    def all(self, leaves: Any, fixed: Any, X: Any) -> Any:
        """The outputs (N q,) of all examples."""
        return jax.vmap(lambda x: jnp.ravel(self.f(leaves, (fixed, x))))(X).ravel()

    def rows(self, of_some: Callable[..., Any], some: list[Any], fixed: Any, X: Any) -> Any:
        """Their rows of J (N q, k), for the leaves ``some``; of_some gives all leaves."""

        def of_one(x: Any) -> Any:
            back = jax.vjp(lambda some: jnp.ravel(self.f(of_some(some), (fixed, x))), some)[1]
            return jax.vmap(back)(jnp.eye(self.outputs, dtype=some[0].dtype))[0]

        return in_one(jax.vmap(of_one)(X), 2)


def in_one(rows: list[Any], axes: int) -> Any:
    """Rows of J, leaf by leaf, as one array (n, k); so many of their axes count equations."""
    return jnp.concatenate([row.reshape(math.prod(row.shape[:axes]), -1) for row in rows], axis=1)


class JaxSystem:
    """Residuals of any kind as a system F(w) = y: differential equations at points, several networks, constraints.

    Parameters
    ----------
    f : callable or sequence of pairs
        ``f(params) -> (n,)``, a JAX function; or terms ``(f, X)``, ``f(params, x)`` -> the residuals of one example or
        point x of X (an array or a pytree of arrays): F is all of them, one term after the other. Rows of J are much
        cheaper then.
    params : pytree
        Where w0 comes from. Its floating-point arrays are the unknowns.
    mask : pytree of bool, optional
        Of the form of ``params`` or of its upper part; what is False keeps its value.
    dtype : {'float64', 'float32'}
        The precision of f. With float32, `solve` judges the residual at float32's rounding level.

    Attributes
    ----------
    F, jac : callable
        F(w) (n,), and the Jacobian at w as a LinearOperator with products for several vectors and ``gram(d2=None)``,
        which accumulates K on the device from rows of J.
    w0 : ndarray (m,)
    n, m : int

    Notes
    -----
    Functions are compiled once for each shape, and kept.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, plsolve
    >>> jax.config.update("jax_enable_x64", True)
    >>> params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    >>> system = plsolve.models.JaxSystem(lambda p: p["a"] * jnp.exp(p["b"]) - 1.0, params)
    >>> sol = plsolve.solve(system.F, system.jac, system.w0)
    >>> sol.success, system.params(sol.x)["a"].shape
    (True, (2,))
    """

    _layers: Layers | None = None
    _formed = FORMED  # numbers of J that are held at once
    _held: Sequence[int] = ()  # the unknown leaves in no layer whose rows of J are held

    def __init__(self, f: Any, params: Any, *, mask: Any = None, dtype: str = "float64") -> None:
        self._start(params, mask, dtype)
        self._terms: list[Term] = []
        if callable(f):
            self._data: Any = ()
            self._compile(lambda unknown, fixed, _: jnp.ravel(f(self._unknowns.whole(unknown, fixed))))
            return
        if not isinstance(f, Sequence) or not all(
            isinstance(t, Sequence) and len(t) == 2 and callable(t[0]) for t in f
        ):
            raise TypeError(f"`f` must be callable or pairs (f, X), got {f!r}.")
        self._data = tuple(self._examples(X) for _, X in f)
        self._terms = [self._term(g, X) for (g, _), X in zip(f, self._data, strict=True)]
        self._compile(self._all_terms)

    def _all_terms(self, unknown: Any, fixed: Any, data: Any) -> Any:
        return jnp.concatenate([t.all(unknown, fixed, X) for t, X in zip(self._terms, data, strict=True)])

    def _start(self, params: Any, mask: Any, dtype: str) -> None:
        if dtype not in ("float64", "float32"):
            raise ValueError(f"`dtype` must be 'float64' or 'float32', got {dtype!r}.")
        if dtype == "float64" and not jax.config.jax_enable_x64:
            raise ValueError(
                "JAX computes in float32 until jax.config.update('jax_enable_x64', True) is called, before any array "
                "is made; dtype='float32' asks for a model in float32."
            )
        self._dtype = jnp.dtype(dtype)
        self._unknowns = Unknowns(params, mask, self._dtype)
        self.w0, self.m = self._unknowns.w0, self._unknowns.m
        self._others = list(range(len(self._unknowns.free)))  # the unknown leaves whose rows of J are not held
        self._shapes = [jax.ShapeDtypeStruct(shape, self._dtype) for shape in self._unknowns.shapes]

    def _examples(self, X: Any) -> Any:
        """Data as arrays of JAX's, floating-point ones in the precision of the model."""

        def as_array(x: Any) -> Any:
            x = jnp.asarray(x)
            return x.astype(self._dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x

        X = jax.tree.map(as_array, X)
        sizes = {jnp.shape(x)[:1] for x in jax.tree.leaves(X)}
        if len(sizes) != 1 or sizes & {(), (0,)}:
            raise ValueError("`X` must be an array, or a pytree of arrays, with one entry for each example.")
        return X

    def _term(self, f: Callable[..., Any], X: Any) -> Term:
        """The term of f(params, x)."""

        def of_one(unknown: Any, rest: Any) -> Any:
            return f(self._unknowns.whole(unknown, rest[0]), rest[1])

        return Term(f=of_one, outputs=math.prod(self._outputs_of(of_one, X)))

    def _outputs_of(self, f: Callable[..., Any], X: Any) -> tuple[int, ...]:
        """The shape of what f gives of one example."""
        shape: tuple[int, ...] = jax.eval_shape(f, self._shapes, (self._unknowns.fixed, first_of(X))).shape
        return shape

    def _compile(self, value: Callable[..., Any]) -> None:
        """The functions of w that are compiled when they are called first."""
        unknowns = self._unknowns

        def of_w(w: Any, fixed: Any, data: Any) -> Any:
            return value(unknowns.split(w), fixed, data)

        def product(w: Any, fixed: Any, data: Any, v: Any) -> Any:
            return jax.jvp(lambda w: of_w(w, fixed, data), (w,), (v,))[1]

        def adjoint(w: Any, fixed: Any, data: Any, z: Any) -> Any:
            return jax.vjp(lambda w: of_w(w, fixed, data), w)[1](z)[0]

        self._of_leaves = value
        self._value, self._product, self._adjoint = jax.jit(of_w), jax.jit(product), jax.jit(adjoint)
        self._products = jax.jit(jax.vmap(product, (None, None, None, 0)))
        self._adjoints = jax.jit(jax.vmap(adjoint, (None, None, None, 0)))
        self._rows = jax.jit(self._rows_of, static_argnames=("leaves", "term", "size"))
        self._parts = jax.jit(self._parts_of)
        out = jax.eval_shape(of_w, jax.ShapeDtypeStruct((self.m,), self._dtype), unknowns.fixed, self._data)
        if out.dtype != self._dtype:
            raise ValueError(f"`f` must return {self._dtype} here, got {out.dtype}: it computes in another precision.")
        self.n = out.size

    def __repr__(self) -> str:
        return f"{type(self).__name__}(n={self.n}, m={self.m})"

    def F(self, w: Array) -> npt.NDArray[Any]:
        """The value of the system at w.

        Parameters
        ----------
        w : array_like (m,)
            The unknowns.

        Returns
        -------
        ndarray (n,)
            F(w).
        """
        return np.array(self._value(self._device(w), self._unknowns.fixed, self._data))

    def jac(self, w: Array) -> ModelJacobian:
        """The Jacobian at w, as an operator that computes its own tangent kernel.

        Parameters
        ----------
        w : array_like (m,)
            The unknowns.

        Returns
        -------
        scipy.sparse.linalg.LinearOperator (n, m)
            J(w).
        """
        return ModelJacobian(JaxPoint(self, self._device(w), self._data, self.n))

    #: Neither writes into w, so that `solve` need not copy it.
    F.reads_only = jac.reads_only = True  # type: ignore[attr-defined]

    def params(self, w: Any) -> Any:
        """The parameters with the unknowns of w.

        Parameters
        ----------
        w : array_like (m,)
            The unknowns.

        Returns
        -------
        pytree
            Of the same structure as the parameters that were given.
        """
        return self._unknowns.whole(self._unknowns.split(self._device(w)), self._unknowns.fixed)

    def _device(self, w: Any) -> Any:
        """w, which may change later, as an array of JAX's."""
        return jnp.array(as_weights(w, self.m), self._dtype)

    def _parts_of(self, w: Any, fixed: Any, data: Any) -> Any:
        """What the layers are made of: inputs, sensitivities, and rows of J that are held."""
        if self._layers is None:
            return [], [], []
        leaves, layers = self._unknowns.split(w), self._layers
        return jax.vmap(lambda x: layers(leaves, (fixed, x), list(self._held)))(data[0])

    @cached_property
    def _groups(self) -> list[tuple[tuple[int, ...], int]]:
        """The unknown leaves whose rows of J are made together, and in how many chunks."""
        sizes = [math.prod(shape) for shape in self._unknowns.shapes]
        whole = self.n * sum(sizes[i] for i in self._others) <= self._formed
        return grouped(self._others, sizes, self.m, whole)

    def _rows_of(
        self, w: Any, fixed: Any, data: Any, start: Any, *, leaves: tuple[int, ...], term: int, size: int
    ) -> Any:
        """The rows of J for so many examples of the term, or of equations where there are no terms."""
        all_leaves = self._unknowns.split(w)
        some = [all_leaves[i] for i in leaves]

        def of_some(some: list[Any]) -> list[Any]:
            now = list(all_leaves)
            for i, value in zip(leaves, some, strict=True):
                now[i] = value
            return now

        if self._terms:
            X = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, start, size), data[term])
            return self._terms[term].rows(of_some, some, fixed, X)
        f, back = jax.vjp(lambda some: self._of_leaves(of_some(some), fixed, data), some)
        units = jax.nn.one_hot(start + jnp.arange(size), f.size, dtype=f.dtype)
        return in_one(jax.lax.map(lambda unit: back(unit)[0], units, batch_size=PASSES), 1)


class JaxModel(JaxSystem):
    """A network of one example as a system F(w) = y: its outputs at the data, with the tangent kernel by layers.

    Parameters
    ----------
    f : callable
        ``f(params, x)`` -> outputs of one example: a number or (q,). With ``batch`` f(params, X) -> (N,) or (N, q),
        where no example may depend on another.
    params : pytree
        Where w0 comes from. Its floating-point arrays are the unknowns.
    X : array_like or pytree of arrays
        The N examples, along the first axis.
    batch : bool
        Whether f is a function of all examples at once.
    mask : pytree of bool, optional
        Which of the parameters are unknowns, as for `JaxSystem`.
    dtype : {'float64', 'float32'}
        What f is computed in, as for `JaxSystem`.

    Attributes
    ----------
    F, jac : callable
        F(w) (n,), n = N q, and the Jacobian at w as a LinearOperator with products for several vectors and
        ``gram(d2=None)``. Both take ``rows`` (numbers of equations), for sgd.
    w0 : ndarray (m,)
    n, m : int

    Notes
    -----
    Parameters that are only multiplied by activations, or added to them (``x @ W + b``), are found in the jaxpr of f: K
    is the sum over them of (A A^T) o (D D^T), activations and sensitivities by one forward and one backward pass. J is
    never formed. The others (scales of a layer norm, convolutions) contribute by rows of J.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, plsolve
    >>> jax.config.update("jax_enable_x64", True)
    >>> keys = jax.random.split(jax.random.key(0), 2)
    >>> params = {"W": jax.random.normal(keys[0], (1, 50)), "v": jax.random.normal(keys[1], (50,)) / 7}
    >>> X = jnp.linspace(-1, 1, 5)[:, None]
    >>> model = plsolve.models.JaxModel(lambda p, x: jnp.tanh(x @ p["W"]) @ p["v"], params, X)
    >>> sol = plsolve.solve(model.F, model.jac, model.w0, jnp.sin(3 * X[:, 0]))
    >>> sol.success
    True
    """

    _formed = HELD

    def __init__(
        self,
        f: Callable[..., Any],
        params: Any,
        X: Any,
        *,
        batch: bool = False,
        mask: Any = None,
        dtype: str = "float64",
    ) -> None:
        if not callable(f):
            raise TypeError(f"`f` must be callable, got {type(f).__name__}.")
        self._start(params, mask, dtype)
        self._data = (self._examples(X),)
        if as_flag(batch, "batch"):
            batched = f

            def f(params: Any, x: Any) -> Any:
                return batched(params, jax.tree.map(lambda a: a[None], x))[0]

        self._terms = [self._term(f, self._data[0])]
        ((self._one, self._q),) = self._terms
        self._shape = self._outputs_of(self._one, self._data[0])
        self._compile(self._all_terms)
        self._layers = Layers(self._one, self._shapes, (self._unknowns.fixed, first_of(self._data[0])))
        self._held, self._others = divided(self._layers.others, self._unknowns.shapes, self.n, self.m)

    def F(self, w: Array, rows: Any = None) -> npt.NDArray[Any]:
        """The outputs at the examples.

        Parameters
        ----------
        w : array_like (m,)
            The unknowns.
        rows : ndarray of int (k,), optional
            Numbers of the equations to evaluate, all by default.

        Returns
        -------
        ndarray (n,) or (k,)
            F(w), or these entries of it.
        """
        if rows is None:
            return super().F(w)
        places, data, _ = self._some(rows)
        f: npt.NDArray[Any] = np.asarray(self._value(self._device(w), self._unknowns.fixed, data))
        return f[places]

    def jac(self, w: Array, rows: Any = None) -> ModelJacobian | PickedJacobian:  # type: ignore[override]
        """The Jacobian at w, as an operator that computes its own tangent kernel.

        Parameters
        ----------
        w : array_like (m,)
            The unknowns.
        rows : ndarray of int (k,), optional
            Numbers of the equations to evaluate, all by default.

        Returns
        -------
        scipy.sparse.linalg.LinearOperator (n, m) or (k, m)
            J(w), or these rows of it.
        """
        if rows is None:
            return super().jac(w)
        places, data, n = self._some(rows)
        return PickedJacobian(ModelJacobian(JaxPoint(self, self._device(w), data, n)), places)

    F.reads_only = jac.reads_only = True  # type: ignore[attr-defined]

    def predict(self, w: Any, X: Any) -> npt.NDArray[Any]:
        """The outputs at other examples.

        Parameters
        ----------
        w : array_like (m,)
            The unknowns.
        X : array_like or pytree of arrays (N, ...)
            The examples.

        Returns
        -------
        ndarray (N,) or (N, q)
            One number for each example, or q of them.
        """
        out = self._value(self._device(w), self._unknowns.fixed, (self._examples(X),))
        return np.array(out).reshape(-1, *self._shape)

    def _some(self, rows: Any) -> tuple[Indices, Any, int]:
        """Their places among the equations of some examples, these, and how many equations they have.

        Examples are repeated up to a power of two, so that few sizes are compiled.
        """
        wanted, places = as_rows(rows, self.n, self._q)
        size = 1 << (max(wanted.size, 1) - 1).bit_length()
        padded = np.concatenate([wanted, np.zeros(size - wanted.size, np.int64)])
        return places, jax.tree.map(lambda x: x[padded], self._data), size * self._q


def first_of(X: Any) -> Any:
    """The first example of X."""
    return jax.tree.map(lambda x: x[0], X)
