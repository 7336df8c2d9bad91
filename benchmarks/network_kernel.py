"""The tangent kernel of a network: from products of layers, and from J formed in the best way we know."""

from typing import Any, ClassVar

import numpy as np

POINTS, INPUTS = 442, 10


class Kernel:
    """One hidden layer of tanh at 442 points."""

    version = "1"
    timeout = 120
    rounds, repeat, warmup_time = 1, (1, 10, 2.0), 0.0
    params: ClassVar = [["layer products", "J formed"], [100, 300, 1000]]
    param_names: ClassVar = ["way", "width"]

    def setup(self, way: str, width: int) -> None:
        from plsolve.networks import WideNetwork
        from plsolve.testing import two_layer_tanh

        if hasattr(self, "points"):
            return
        X = np.random.default_rng(0).standard_normal((POINTS, INPUTS))
        if way == "J formed":
            p = two_layer_tanh(X, np.zeros(POINTS), width)
            self.jac, w = p.jac, p.w0
        else:
            net = WideNetwork(X, (width,))
            self.jac, w = net.jac, net.init(0)
        self.points = [w, w + 1e-3]  # in turns: a network remembers its last point
        self.kernel()

    def kernel(self) -> Any:
        self.points.reverse()
        J = self.jac(self.points[0])
        return J.gram() if hasattr(J, "gram") else J @ J.T

    def time_kernel(self, way: str, width: int) -> None:
        self.kernel()

    def peakmem_kernel(self, way: str, width: int) -> None:
        self.kernel()
