"""How the site is built: CONTRIBUTING.md says by which command."""

import plsolve

project = "plsolve"
copyright = "plsolve developers"  # noqa: A001 (Sphinx's name for it)
version = release = plsolve.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # brings MathJax along: mathematics without internet
    "numpydoc",
    "myst_parser",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3  # page.md#section works as it does where the repository is browsed

numpydoc_show_class_members = False  # the template of a class lists them
autodoc_typehints = "none"  # the docstrings name the types

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": "/plot_",
    "ignore_pattern": "with_others",  # needs packages of its own
    "abort_on_example_error": True,
    "show_memory": False,
    "min_reported_time": 1e9,
}

html_theme = "pydata_sphinx_theme"
html_title = "plsolve"
html_static_path = ["_static"]
html_theme_options = {
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
}
