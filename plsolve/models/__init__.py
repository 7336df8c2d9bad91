"""Models of JAX and PyTorch as systems F(w) = y: F, jac and w0 for `plsolve.solve`.

JAX and PyTorch are optional dependencies: ``pip install plsolve[jax]`` or ``pip install plsolve[torch]``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plsolve.models._jax import JaxModel, JaxSystem
    from plsolve.models._torch import TorchModel

__all__ = ["JaxModel", "JaxSystem", "TorchModel"]

_ROOMS = {"JaxModel": "jax", "JaxSystem": "jax", "TorchModel": "torch"}


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
