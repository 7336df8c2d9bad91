"""Wide networks as systems F(w) = y, with the tangent kernel from layer products instead of the Jacobian."""

from plsolve.networks._jacobian import NetworkJacobian
from plsolve.networks._network import WideNetwork

__all__ = ["NetworkJacobian", "WideNetwork"]
