"""Settings for the whole suite: the same examples on every run, so that a failure can be repeated."""

from hypothesis import settings

settings.register_profile("plsolve", derandomize=True, deadline=None, database=None, max_examples=40)
settings.load_profile("plsolve")
