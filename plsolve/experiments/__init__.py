"""The papers' experiments: ``python -m plsolve.experiments NAME --quick|--full``."""
