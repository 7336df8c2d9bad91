"""Settings for the whole suite: the same examples on every run, so that a failure can be repeated."""

from importlib.util import find_spec

from hypothesis import settings

collect_ignore_glob = [] if find_spec("numba") else ["test_compiled*"]

settings.register_profile("plsolve", derandomize=True, deadline=None, database=None, max_examples=40)
settings.load_profile("plsolve")
