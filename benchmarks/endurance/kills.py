"""`kill -9` at random moments of diagnosis, search, evaluation and export, of the command line and of the server.

After each kill every file is absent or complete, and reads back. The next start goes on: it makes no finished stage
again, removes what was half-written, and ends at the numbers of a run that nothing killed. Of a search with --storage
at most one candidate is lost. A search without it, those of the dashboard among them, keeps nothing until its end.
"""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path

from benchmarks.endurance.chromium import chromium
from benchmarks.endurance.killed_commands import Killing
from benchmarks.endurance.killed_server import KillingServer
from benchmarks.endurance.tally import BrokenPromise, report
from qroar_core.number_of import number_of

PART = "endurance.kills"
KILLS = 50  # half of them of the command line


def main(minutes: float | None = None, kills: int = KILLS, seed: int = 0) -> None:
    """One row for every place of a kill. After so many minutes no new one is begun; half are the command line's."""
    began, rng = time.monotonic(), random.Random(seed)
    home = Path(tempfile.mkdtemp(prefix="qroar-kills-"))
    seconds = float("inf") if minutes is None else 60 * minutes
    commands = Killing(home / "commands", rng)
    done = commands.kill((kills + 1) // 2, began + seconds / 2)
    with chromium() as browser:
        server = KillingServer(home / "server", rng, browser)
        try:
            done += server.kill(kills // 2, began + seconds)
        finally:
            server.close()
    rows = [row for row in (*commands.tallies(), *server.tallies()) if row.count]
    print(f"{number_of(done, 'kill')} in {time.monotonic() - began:.0f} s, seed {seed}. Files: {home}\n")
    report(PART, rows)
    if done < kills and minutes is None:
        raise BrokenPromise(f"only {done} of {kills} kills", where=PART, do="look at the rows above")
