"""What the pages share. Only `choice`, `words` and `paths` are free of Streamlit.

Whoever imports any of it first imports all of it. The server does (app.py), before it listens: tabs that open at once
would otherwise import the same modules from several ends, and Python ends such a deadlock by an ImportError or by
handing out a module that is half executed.
"""

import importlib
import pkgutil

for _module in pkgutil.walk_packages(__path__, f"{__name__}."):
    importlib.import_module(_module.name)
