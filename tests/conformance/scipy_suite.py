#!/usr/bin/env python3
"""Run scipy's own tests of least_squares, curve_fit and root against plsolve's drop-ins.

The tests are the ones that the installed scipy ships; nothing is copied. In each test module the
scipy function is replaced by plsolve's function of the same name before the tests run.

    python scipy_suite.py              # all that apply; the last line says 'N passed, M failed'
    python scipy_suite.py -k Loss -x   # any pytest options

`--engine scipy` runs them against scipy itself (a check of this script: nothing may fail).
Exit status 0 when no applicable test fails.
"""

import argparse
import importlib
import sys

import pytest

SUITES = {
    "least_squares": ("scipy.optimize.tests.test_least_squares", ("TestTRF", "TestDogbox", None)),
    "curve_fit": ("scipy.optimize.tests.test_minpack", ("TestCurveFit",)),
    "root": ("scipy.optimize.tests.test__root", ("TestRoot",)),
}

# Tests that ask for scipy's own inner workings or limits rather than for the documented behaviour.
NOT_APPLICABLE = {
    "TestTRF::test_lsmr_regularization": "an option of scipy's trf alone",
    "test_least_squares.py::test_gh_18793_and_19351": "checks trf's own scaling of the gradient",
    "test_least_squares.py::test_small_tolerances_for_lm": "a limit of MINPACK's lm",
    "TestCurveFit::test_data_point_number_validation": "plsolve accepts fewer data than parameters",
    "TestRoot::test_tol_parameter": "runs scipy's Broyden and Krylov methods by name",
    "TestRoot::test_tol_norm": "runs scipy's Broyden and Krylov methods by name",
    "TestRoot::test_gh_10370": "about scipy's Krylov method",
    "TestRoot::test_method_in_result": "runs scipy's Broyden and Krylov methods by name",
}


class SwapIn:
    """pytest plugin: put the engine's functions into scipy's test modules, keep only applicable tests."""

    def __init__(self, engine):
        self.engine, self.calls, self.left_out = engine, 0, 0

    def counted(self, name):
        function = getattr(self.engine, name)

        def call(*args, **kwargs):
            self.calls += 1
            return function(*args, **kwargs)

        return call

    def close_scipy_solvers(self):
        """No drop-in may hand its call to scipy's own solvers."""

        def refuse(*args, **kwargs):
            raise AssertionError("the call was handed to scipy's own solver")

        lsq = importlib.import_module("scipy.optimize._lsq.least_squares")
        minpack = importlib.import_module("scipy.optimize._minpack_py")._minpack
        for module, names in (
            (lsq, ("trf", "dogbox", "call_minpack")),
            (minpack, ("_lmdif", "_lmder", "_hybrd", "_hybrj")),
        ):
            for name in names:
                setattr(module, name, refuse)

    def pytest_collection_modifyitems(self, config, items):
        if self.engine.__name__ == "plsolve":
            self.close_scipy_solvers()
        for name, (module, _) in SUITES.items():
            function = self.counted(name)
            for place in (module, "scipy.optimize"):  # gh4555 calls it by its full name
                setattr(importlib.import_module(place), name, function)
        kept = []
        for item in items:
            owner = item.cls.__name__ if item.cls else None
            wanted = any(item.module.__name__ == module and owner in classes for module, classes in SUITES.values())
            if not wanted:
                continue
            if any(item.nodeid.split("[")[0].endswith(key) for key in NOT_APPLICABLE):
                self.left_out += 1
                continue
            kept.append(item)
        items[:] = kept

    def pytest_terminal_summary(self, terminalreporter):
        stats = terminalreporter.stats
        terminalreporter.write_line(
            f"{self.left_out} left out as not applicable; {self.calls} calls went through the drop-ins"
        )
        terminalreporter.write_line(
            f"conformance: {len(stats.get('passed', []))} passed, "
            f"{len(stats.get('failed', [])) + len(stats.get('error', []))} failed"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", default="plsolve", choices=["plsolve", "scipy"])
    options, pytest_args = parser.parse_known_args()
    engine = importlib.import_module("plsolve" if options.engine == "plsolve" else "scipy.optimize")
    targets = [importlib.import_module(module).__file__ for module, _ in SUITES.values()]
    return pytest.main(
        [
            "-q",
            "--no-header",
            "-p",
            "no:cacheprovider",
            "--import-mode=importlib",
            "-o",
            "filterwarnings=",
            *pytest_args,
            *targets,
        ],
        plugins=[SwapIn(engine)],
    )


if __name__ == "__main__":
    sys.exit(main())
