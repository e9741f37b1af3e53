"""How the manual is built. It needs no network: there is no intersphinx."""

from __future__ import annotations

import configparser
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE / "_ext"))

_setup = configparser.ConfigParser()
_setup.read(HERE.parent / "setup.cfg", encoding="utf-8")

project = "polysync"
author = "The polysync developers"
copyright = f"2026, {author}"  # noqa: A001 - the name that Sphinx reads
release = _setup["metadata"]["version"]
version = release.rpartition(".")[0]

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "statediagram",
    "statetable",
    "toplevel",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"polysync {release}"
html_show_sphinx = False

nitpicky = True
# A single backtick links when there is exactly one thing of that name, and is plain
# code otherwise. Explicit roles (:class:, :meth:, …) have to resolve.
default_role = "any"
suppress_warnings = ["ref.any"]

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_class_signature = "separated"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# Types of the standard library and of dependencies, which another manual documents,
# and the package's own private ones.
nitpick_ignore_regex = [
    (r"py:.*", r"(builtins|collections|concurrent|contextlib|datetime|enum)\b.*"),
    (r"py:.*", r"(logging|os|pathlib|ssl|threading|types|typing|uuid)\b.*"),
    (r"py:.*", r"(attr|attrs|cattrs|urllib3|websocket|aiohttp|flask|django)\b.*"),
    (r"py:.*", r"(pytest|ipywidgets|opentelemetry)\b.*"),
    (r"py:.*", r"(.*\.)?_[A-Za-z]\w*"),
    (r"py:.*", r"polysync\.(protocol|runtime)\..*"),
]
