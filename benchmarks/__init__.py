"""How fast, how far, how much: what asv tracks (the modules here), and what plsolve must reach (`checks`).

    asv machine --yes                            # once on a machine
    asv run -E existing --set-commit-hash HEAD   # or: asv run
    python -m benchmarks.report                  # docs/benchmarks.md from the newest results
    python -m benchmarks.checks.NAME             # side by side with others; exit code 1 if a limit is missed

asv imports every module of this package to find benchmarks by their names; the modules here import plsolve only when
they run. `checks` and `report` have no __init__.py, so that asv does not enter them. BLAS has one thread, unless the
environment says otherwise: asv loads this file as a plugin, before it starts the processes of the benchmarks.
"""

import os

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
