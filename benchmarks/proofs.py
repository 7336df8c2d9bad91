"""What certificates and forecasts cost, and how often they say something."""

from time import perf_counter
from typing import ClassVar

import numpy as np

from benchmarks.units import counted_in

SYSTEMS = 300


class Certificates:
    """Of a two-layer tanh network through random points: (points, width)."""

    version = "1"
    timeout = 300
    rounds, repeat, warmup_time = 1, (1, 5, 2.0), 0.0
    params: ClassVar = [[(60, 100), (442, 1000)]]
    param_names: ClassVar = ["points, width"]

    def setup(self, shape: tuple[int, int]) -> None:
        from plsolve import solve, testing

        if not hasattr(self, "p"):
            n, width = shape
            rng = np.random.default_rng(0)
            self.p = testing.first_layer_tanh(rng.standard_normal((n, 10)), rng.standard_normal(n), width)
            self.x = solve(self.p.F, self.p.jac, self.p.w0, self.p.y).x

    def time_certify(self, shape: tuple[int, int]) -> None:
        from plsolve import certify

        certify(self.p.F, self.p.jac, self.x, self.p.y, beta=self.p.beta)

    @counted_in("ratio")
    def track_price(self, shape: tuple[int, int]) -> float:
        """The certificate of a run over one Gauss-Newton iteration."""
        from plsolve import solve

        ratios = []
        for _ in range(5):
            start = perf_counter()
            sol = solve(self.p.F, self.p.jac, self.p.w0, self.p.y, method="gauss-newton", beta=self.p.beta)
            iteration = (perf_counter() - start) / sol.nit
            start = perf_counter()
            assert sol.certificate is not None
            ratios.append((perf_counter() - start) / iteration)
        return min(ratios)


class Certified:
    """Random systems, solvable or not, near singular, badly scaled: see `checks.certificates`."""

    version = "1"
    timeout = 300
    unit = "ratio"

    def track_share_of_solved_runs(self) -> float:
        from benchmarks.checks import certificates

        return certificates.runs(SYSTEMS, 0)[1]

    def track_false(self) -> float:
        """False or doubtful certificates among four betas for each system."""
        from benchmarks.checks import certificates

        return float(len(certificates.hunt(SYSTEMS, 0)[1]))


class Forecasts:
    """After a tenth of the iterations of gd, its momenta and sgd."""

    version = "1"
    timeout = 300
    unit = "ratio"

    def track_share_within_a_factor_of_two(self) -> float:
        from benchmarks.checks import pl_star

        return pl_star.forecast_share(pl_star.known_runs([1e1, 1e2, 1e3]))[0]


class OneForecast:
    """The spectrum that the residual sees, by Lanczos, at n equations and ten times the unknowns."""

    version = "1"
    rounds, repeat, warmup_time = 1, (1, 5, 2.0), 0.0
    params: ClassVar = [[50, 200, 800]]
    param_names: ClassVar = ["n"]

    def setup(self, n: int) -> None:
        from plsolve.testing import prescribed_spectrum

        if not hasattr(self, "p"):
            self.p = prescribed_spectrum(5, 50, 1e4)
            self.time_one_iteration_with_forecast(n)  # imports what the first needs
            self.p = prescribed_spectrum(n, 10 * n, 1e4)

    def time_one_iteration_with_forecast(self, n: int) -> None:
        from plsolve import solve

        p = self.p
        solve(p.F, p.jac, p.w0, p.y, method="gd", max_iter=1, options={"lipschitz": p.lipschitz}, certify=False)
