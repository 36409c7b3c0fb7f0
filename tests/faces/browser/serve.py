"""Streamlit as a person starts it, with one line in $QROAR_JOBS for every background job that really runs.

While $QROAR_HOLD exists, a search stands still at the candidate whose number is in it, until it is cancelled: however
slow the machine draws, the page is looked at while the search runs.
"""

import os
from pathlib import Path

from streamlit.web.cli import main

from qroar_core.jobs import Manager

LOOK = 0.05  # seconds
run, hold = Manager._run, Path(os.environ["QROAR_HOLD"])


def counted(self, job, call):
    with open(os.environ["QROAR_JOBS"], "a") as out:
        out.write(f"{job.label}\n")

    def held(results, on_step):
        def step(now):
            on_step(now)
            while now.detail is not None and hold.exists() and now.done >= int(hold.read_text()):
                if job.cancel.wait(LOOK):
                    return

        return call(results, step)

    return run(self, job, held)


Manager._run = counted
main()
