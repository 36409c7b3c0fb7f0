"""What the pages share. Only `choice`, `words` and `paths` are free of Streamlit.

Whoever imports any of it first imports all of it, and everybody else waits on this package's own lock. Two tabs that
open a new server at once would otherwise import the same modules from two ends, and Python ends such a deadlock by
handing out a module that is half executed: ImportError.
"""

import importlib
import pkgutil

for _module in pkgutil.walk_packages(__path__, f"{__name__}."):
    importlib.import_module(_module.name)
