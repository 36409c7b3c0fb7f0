"""Runs: what was found before, by the dashboard or the command line, opened and compared."""

from pages.forms.open_run import to_opened
from pages.state import session
from pages.views import glossary
from pages.views.no_model import no_model
from pages.views.require import require_setting
from pages.views.runs import opened, show_runs
from pages.views.status_bar import status_bar

to_opened()
glossary.title("Runs")
loaded, setting = session.model(), None
if loaded is not None:
    setting = require_setting(loaded)
    status_bar(loaded, setting)
    opened(loaded, setting)
elif session.choice().model:
    no_model(session.choice())
show_runs(loaded, setting)
