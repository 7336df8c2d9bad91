"""Models of JAX as systems F(w) = y: F, jac and w0 for `plsolve.solve`.

They need its package, which is an extra: ``pip install plsolve[jax]``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plsolve.models._jax import JaxModel, JaxSystem

__all__ = ["JaxModel", "JaxSystem"]

_ROOMS = {"JaxModel": "jax", "JaxSystem": "jax"}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'plsolve.models' has no attribute {name!r}")
    package = _ROOMS[name]
    try:
        import_module(package)
    except ImportError as error:
        raise ImportError(f"{name} needs {package}: python -m pip install 'plsolve[{package}]'") from error
    value = globals()[name] = getattr(import_module(f"plsolve.models._{package}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
