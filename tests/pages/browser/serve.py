"""Streamlit as a person starts it, with one line in $QROAR_JOBS for every background job that really runs.

While $QROAR_HOLD exists, a search stands still at the candidate whose number is in it, until it is cancelled: however
slow the machine draws, the page is looked at while the search runs. While $QROAR_PAUSE exists, every run of a page
rests at its title for as many seconds as it says, so that the next message finds it there. While $QROAR_LINGER exists,
every run lingers so long behind its last line, where Streamlit cannot end it any more.
"""

import os
import time
from pathlib import Path

import streamlit as st
from streamlit.runtime.scriptrunner.script_runner import ScriptRunner
from streamlit.web.cli import main

from qroar_core.jobs import Manager

LOOK = 0.05  # seconds
run, hold, pause = Manager._run, Path(os.environ["QROAR_HOLD"]), Path(os.environ["QROAR_PAUSE"])
finished, linger = ScriptRunner._on_script_finished, Path(os.environ["QROAR_LINGER"])


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


def resting(*args, **options):
    if pause.exists():
        time.sleep(float(pause.read_text()))
    return title(*args, **options)


def lingering(self, *args, **options):
    finished(self, *args, **options)
    if linger.exists():
        time.sleep(float(linger.read_text()))


Manager._run = counted
ScriptRunner._on_script_finished = lingering
title, st.title = st.title, resting
main()
