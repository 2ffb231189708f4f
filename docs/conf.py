"""The site: `make docs` builds it into docs/_build/html, with warnings as errors.

Pages under _generated/ follow from the code and are made at each build.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

project = "locedit"
author = "The locedit authors"
copyright = "The locedit authors. Apache License 2.0"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "site_build",
]
exclude_patterns = ["_build", "_generated"]
nitpicky = True
# Types of other packages, whose documentation is not at hand offline, and names in type hints that
# are no documented objects
nitpick_ignore_regex = [
    ("py:.*", r"(torch|numpy|np|pandas|pd|pyarrow|pa|collections|pathlib|typing|Tensor|nn)(\..*)?"),
    ("py:.*", r"(Any|Path|Callable|Sequence|Mapping|Iterable|Iterator|Literal)(\[.*)?"),
    ("py:.*", r"(EditFunction|LocalizerFunction|KeyMoments|Fact|Need|tuple\[str|optional)"),
    ("py:class", r"locedit\.localizers\.base\.NoSettings"),
]

myst_heading_anchors = 4
myst_enable_extensions = ["attrs_inline"]

smartquotes = False  # quotation marks are code as often as not

default_role = "literal"  # of docstrings, where `name` is a name
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True

# `make links`
linkcheck_timeout = 30
linkcheck_retries = 3

html_theme = "pydata_sphinx_theme"
html_title = "locedit"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": False,
    "navigation_with_keys": False,
    "header_links_before_dropdown": 7,
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars: dict[str, list[str]] = {
    "tutorial/index": [],
    "results": [],
    "from-the-published-code": [],
}
