"""Sphinx configuration: `make docs` builds the pages into docs/_build/html."""

import sys
from pathlib import Path

from regraft import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "Regraft"
author = "The Regraft contributors"
project_copyright = "The Regraft contributors; Apache-2.0"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "architecture",
    "commands_reference",
    "config_reference",
]
exclude_patterns = ["_build"]
default_role = "code"  # backticks in docstrings
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = f"Regraft {__version__}"
html_copy_source = False
html_show_sourcelink = False
