"""The page of the public API, written from the docstrings: `python -m docs.build_api FOLDER`.

FOLDER/qroar_core.html has every name of `qroar_core.__all__` under the name that people import, with the methods and
fields it inherits inside this package. A warning of pdoc, as of a type that cannot be resolved, ends the build.
"""

from __future__ import annotations

import inspect
import sys
import warnings
from pathlib import Path
from typing import get_type_hints

from pdoc import render
from pdoc.doc import Class, Doc, Module, Variable
from pdoc.doc_types import empty
from pydantic_core import PydanticUndefined

import qroar_core
from docs.tables import diagnostics_table


def public() -> Module:
    """The package as pdoc sees it, with classes that are public under another name than their own."""
    there = {
        name: getattr(qroar_core, name) for name in qroar_core.__all__
    }  # imports each: pdoc would take it for none
    page = Module(qroar_core)
    page.__dict__["members"] = members = {name: _member(page, name, found) for name, found in there.items()}
    page.__dict__["own_members"] = list(members.values())
    return page


def _member(page: Module, name: str, found: object) -> Doc:
    if not inspect.isclass(found):
        return page.members[name]
    shown = Class(page.modulename, name, found, (found.__module__, found.__qualname__))
    ours = [one for one in shown.members.values() if one.taken_from[0].partition(".")[0] == page.modulename]
    types = get_type_hints(found)  # plain: what checks a field, and pydantic's word for no default, say nothing here
    for one in ours:
        if isinstance(one, Variable):
            one.annotation = types.get(one.name, one.annotation)
            one.default_value = empty if one.default_value is PydanticUndefined else one.default_value
    # set here, else only a heading would stay of what a base class has
    shown.__dict__["own_members"] = [one for one in ours if not (isinstance(one, Variable) and one.is_classvar)]
    if name == "Diagnosis":
        shown.__dict__["docstring"] = f"{shown.docstring}\n\n{diagnostics_table()}"
    return shown


def build(folder: Path) -> Path:
    """Write the page; returns its path."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        render.configure(docformat="google", show_source=False, search=False)
        page = public()
        html = render.html_module(page, all_modules={page.modulename: page})
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{page.modulename}.html"
    path.write_text(html, encoding="utf-8")
    return path


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("docs.build_api: names one folder to write to; give it, as in: python -m docs.build_api site")
    build(Path(sys.argv[1]))
