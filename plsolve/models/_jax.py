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

from plsolve._checks import as_choice, as_flag
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

PASSES = 8  # number of simultaneous backward passes, each of which stores its own intermediate results


class Term(NamedTuple):
    """Equations given by examples: f(leaves, (fixed, x)) returns the outputs of one, ``outputs`` is their number."""

    f: Callable[..., Any]
    outputs: int

    def all(self, leaves: Any, fixed: Any, X: Any) -> Any:
        """The outputs (N q,) of all examples."""
        return jax.vmap(lambda x: jnp.ravel(self.f(leaves, (fixed, x))))(X).ravel()

    def rows(self, of_some: Callable[..., Any], some: list[Any], fixed: Any, X: Any) -> Any:
        """The rows of J (N q, k) of all examples, for the leaves ``some``; of_some completes these to all leaves."""

        def of_one(x: Any) -> Any:
            back = jax.vjp(lambda some: jnp.ravel(self.f(of_some(some), (fixed, x))), some)[1]
            return jax.vmap(back)(jnp.eye(self.outputs, dtype=some[0].dtype))[0]

        return in_one(jax.vmap(of_one)(X), 2)


def in_one(rows: list[Any], axes: int) -> Any:
    """Join rows of J, given leaf by leaf, to an array (n, k); the first ``axes`` axes of each leaf count equations."""
    return jnp.concatenate([row.reshape(math.prod(row.shape[:axes]), -1) for row in rows], axis=1)


class JaxSystem:
    """A system F(w) = y of any residuals in JAX: differential equations at points, several networks, constraints.

    Parameters
    ----------
    f : callable or sequence of pairs
        Either a JAX function ``f(params) -> (n,)``, or a list of terms ``(f, X)``, where ``f(params, x)`` returns the
        residuals of one example or point x of X (an array or a pytree of arrays). F then returns the residuals of all
        terms, one after the other. With terms, rows of J are much cheaper.
    params : pytree
        The initial parameters, which give w0. The floating-point arrays among them are the unknowns.
    mask : pytree of bool, optional
        A pytree with the structure of ``params`` or of its upper levels. Parameters marked False are fixed.
    dtype : {'float64', 'float32'}
        The precision of f. With float32, `plsolve.solve` judges the residual by float32's rounding level.

    Attributes
    ----------
    F, jac : callable
        F(w) (n,), and the Jacobian at w as a LinearOperator. It multiplies several vectors at once, and its
        ``gram(d2=None)`` accumulates K on the device from rows of J.
    w0 : ndarray (m,)
        The initial unknowns.
    n, m : int
        The numbers of equations and of unknowns.

    Notes
    -----
    Functions are compiled once for each shape of their arguments.

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
    _formed = FORMED  # number of entries of J that may be held at once
    _held: Sequence[int] = ()  # the unknown leaves outside layers whose rows of J are held

    def __init__(self, f: Any, params: Any, *, mask: Any = None, dtype: str = "float64") -> None:
        self._start(params, mask, dtype)
        self._terms: list[Term] = []
        if callable(f):
            self._data: Any = ()
            self._compile(lambda unknown, fixed, _: jnp.ravel(f(self._unknowns.whole(unknown, fixed))))
            return
        if (
            not isinstance(f, Sequence)
            or not f
            or not all(isinstance(t, Sequence) and len(t) == 2 and callable(t[0]) for t in f)
        ):
            raise TypeError(f"`f` must be callable, or a sequence of pairs (f, X), got {f!r}.")
        self._data = tuple(self._examples(X, "f") for _, X in f)
        self._terms = [self._term(g, X) for (g, _), X in zip(f, self._data, strict=True)]
        self._compile(self._all_terms)

    def _all_terms(self, unknown: Any, fixed: Any, data: Any) -> Any:
        return jnp.concatenate([t.all(unknown, fixed, X) for t, X in zip(self._terms, data, strict=True)])

    def _start(self, params: Any, mask: Any, dtype: str) -> None:
        dtype = as_choice(dtype, "dtype", ("float64", "float32"))
        if dtype == "float64" and not jax.config.jax_enable_x64:
            raise ValueError(
                "JAX computes in float32 by default: call jax.config.update('jax_enable_x64', True) before any array "
                "is made, or pass dtype='float32' for a model in float32."
            )
        self._dtype = jnp.dtype(dtype)
        self._unknowns = Unknowns(params, mask, self._dtype)
        self.w0, self.m = self._unknowns.w0, self._unknowns.m
        self._others = list(range(len(self._unknowns.free)))  # the unknown leaves whose rows of J are not held
        self._shapes = [jax.ShapeDtypeStruct(shape, self._dtype) for shape in self._unknowns.shapes]

    def _examples(self, X: Any, name: str = "X") -> Any:
        """Convert data to JAX arrays, floating-point data to the precision of the model."""

        def as_array(x: Any) -> Any:
            x = jnp.asarray(x)
            return x.astype(self._dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x

        what = "`X`" if name == "X" else f"`{name}`: X of a term"
        try:
            X = jax.tree.map(as_array, X)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{what} cannot be converted to arrays of numbers: {error}") from error
        sizes = {jnp.shape(x)[:1] for x in jax.tree.leaves(X)}
        if len(sizes) != 1 or sizes & {(), (0,)}:
            raise ValueError(
                f"{what} must be an array, or a pytree of arrays, with one entry for each example; a list of numbers "
                "or of lists is a pytree, not an array: pass numpy.array(X)."
            )
        return X

    def _term(self, f: Callable[..., Any], X: Any) -> Term:
        """The term whose residuals at x are f(params, x)."""

        def of_one(unknown: Any, rest: Any) -> Any:
            return f(self._unknowns.whole(unknown, rest[0]), rest[1])

        return Term(f=of_one, outputs=math.prod(self._outputs_of(of_one, X)))

    def _outputs_of(self, f: Callable[..., Any], X: Any) -> tuple[int, ...]:
        """The shape of the output of f for one example."""
        shape: tuple[int, ...] = jax.eval_shape(f, self._shapes, (self._unknowns.fixed, first_of(X))).shape
        return shape

    def _compile(self, value: Callable[..., Any]) -> None:
        """Define the functions of w, which JAX compiles when they are first called."""
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
            raise ValueError(f"`f` must return {self._dtype}, the precision of the model, got {out.dtype}.")
        self.n = out.size

    def __repr__(self) -> str:
        return f"{type(self).__name__}(n={self.n}, m={self.m})"

    def F(self, w: Array) -> npt.NDArray[Any]:
        """Evaluate the system at w.

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
        """Return the Jacobian at w as an operator that can compute its tangent kernel.

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

    #: Neither function writes into w, so that `solve` need not copy it.
    F.reads_only = jac.reads_only = True  # type: ignore[attr-defined]

    def params(self, w: Any) -> Any:
        """Return the parameters, with the unknowns taken from w.

        Parameters
        ----------
        w : array_like (m,)
            The unknowns.

        Returns
        -------
        pytree
            The parameters, in the structure of the initial ones.
        """
        return self._unknowns.whole(self._unknowns.split(self._device(w)), self._unknowns.fixed)

    def _device(self, w: Any) -> Any:
        """Copy w, which the caller may change later, to a JAX array."""
        return jnp.array(as_weights(w, self.m), self._dtype)

    def _parts_of(self, w: Any, fixed: Any, data: Any) -> Any:
        """The inputs and sensitivities of the layers, and the rows of J that are held."""
        if self._layers is None:
            return [], [], []
        leaves, layers = self._unknowns.split(w), self._layers
        return jax.vmap(lambda x: layers(leaves, (fixed, x), list(self._held)))(data[0])

    @cached_property
    def _groups(self) -> list[tuple[tuple[int, ...], int]]:
        """Groups of unknown leaves whose rows of J are computed together, each with its number of chunks."""
        sizes = [math.prod(shape) for shape in self._unknowns.shapes]
        whole = self.n * sum(sizes[i] for i in self._others) <= self._formed
        return grouped(self._others, sizes, self.m, whole)

    def _rows_of(
        self, w: Any, fixed: Any, data: Any, start: Any, *, leaves: tuple[int, ...], term: int, size: int
    ) -> Any:
        """The rows of J for ``size`` examples of the term from ``start`` on; without terms, for as many equations."""
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
    """A JAX network as a system F(w) = y: its outputs at the data, with the tangent kernel computed by layers.

    Parameters
    ----------
    f : callable
        ``f(params, x)`` returns the output for one example, a number or an array (q,). With ``batch``,
        ``f(params, X)`` returns (N,) or (N, q), and no output may depend on another example.
    params : pytree
        The initial parameters, which give w0. The floating-point arrays among them are the unknowns.
    X : array_like or pytree of arrays
        The N examples, along the first axis.
    batch : bool
        Whether f is a function of all examples at once.
    mask : pytree of bool, optional
        Which of the parameters are unknowns, as for `JaxSystem`.
    dtype : {'float64', 'float32'}
        The precision of f, as for `JaxSystem`.

    Attributes
    ----------
    F, jac : callable
        F(w) (n,), where n = N q, and the Jacobian at w as a LinearOperator, which multiplies several vectors at once
        and has ``gram(d2=None)``. Both accept ``rows``, indices of equations, for sgd.
    w0 : ndarray (m,)
        The initial unknowns.
    n, m : int
        The numbers of equations and of unknowns.

    Notes
    -----
    The jaxpr of f shows which parameters are only multiplied by activations or added to them (``x @ W + b``). Each of
    them contributes (A A^T) o (D D^T) to K, with activations A and sensitivities D from one forward and one backward
    pass. The contributions of the others (scales of a layer norm, convolutions) are computed from rows of J. The whole
    J is never formed.

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
        """Evaluate the outputs at the examples.

        Parameters
        ----------
        w : array_like (m,)
            The unknowns.
        rows : ndarray of int (k,), optional
            Indices of the equations to evaluate; all by default.

        Returns
        -------
        ndarray (n,) or (k,)
            F(w), or its entries ``rows``.
        """
        if rows is None:
            return super().F(w)
        places, data, _ = self._some(rows)
        f: npt.NDArray[Any] = np.asarray(self._value(self._device(w), self._unknowns.fixed, data))
        return f[places]

    def jac(self, w: Array, rows: Any = None) -> ModelJacobian | PickedJacobian:  # type: ignore[override]
        """Return the Jacobian at w as an operator that can compute its tangent kernel.

        Parameters
        ----------
        w : array_like (m,)
            The unknowns.
        rows : ndarray of int (k,), optional
            Indices of the equations to evaluate; all by default.

        Returns
        -------
        scipy.sparse.linalg.LinearOperator (n, m) or (k, m)
            J(w), or its rows ``rows``.
        """
        if rows is None:
            return super().jac(w)
        places, data, n = self._some(rows)
        return PickedJacobian(ModelJacobian(JaxPoint(self, self._device(w), data, n)), places)

    F.reads_only = jac.reads_only = True  # type: ignore[attr-defined]

    def predict(self, w: Any, X: Any) -> npt.NDArray[Any]:
        """Evaluate the outputs at other examples.

        Parameters
        ----------
        w : array_like (m,)
            The unknowns.
        X : array_like or pytree of arrays (N, ...)
            The examples.

        Returns
        -------
        ndarray (N,) or (N, q)
            One output for each example, or q outputs.
        """
        out = self._value(self._device(w), self._unknowns.fixed, (self._examples(X),))
        return np.array(out).reshape(-1, *self._shape)

    def _some(self, rows: Any) -> tuple[Indices, Any, int]:
        """The examples that contain the equations ``rows``: positions of these among all of theirs, data, their number.

        Examples are repeated up to a power of two, so that only a few sizes are compiled.
        """
        wanted, places = as_rows(rows, self.n, self._q)
        size = 1 << (max(wanted.size, 1) - 1).bit_length()
        padded = np.concatenate([wanted, np.zeros(size - wanted.size, np.int64)])
        return places, jax.tree.map(lambda x: x[padded], self._data), size * self._q


def first_of(X: Any) -> Any:
    """The first example of X."""
    return jax.tree.map(lambda x: x[0], X)
