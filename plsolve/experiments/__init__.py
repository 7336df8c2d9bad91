"""The experiments of the papers: run ``python -m plsolve.experiments NAME --quick|--full``."""
