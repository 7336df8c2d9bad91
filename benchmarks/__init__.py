"""How fast, how far, how much: what asv tracks (the modules here), and what plsolve must reach (`checks`).

    asv run -E existing --set-commit-hash HEAD   # or: asv run
    python -m benchmarks.report                  # docs/benchmarks.md from the newest results
    python -m benchmarks.checks.NAME             # side by side with others; exit code 1 if a limit is missed

asv imports every module of this package to find benchmarks by their names; the modules here import plsolve only when
they run. `checks` is a folder without __init__.py, which asv does not enter.
"""
