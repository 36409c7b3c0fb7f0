"""The command line in a process that ends itself by `kill -9` while it writes.

    python -m benchmarks.endurance.victim FOLDER AT LATER -- run demo --out FOLDER/run

Python says when it is about to open a file for writing, to move or to remove one. At the AT-th such event below FOLDER
the process is killed, or LATER milliseconds after it, when the file is half written. AT 0 kills nothing, and writes
which file each event was about to the file FOLDER.events, a line each.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

EVENTS = ("open", "os.rename", "os.chmod", "os.mkdir", "os.remove", "os.truncate", "shutil.rmtree", "shutil.copyfile")


def main(folder: str, at: int, later: float, arguments: list[str]) -> int:
    """Run the command; its exit code, where it comes to its end."""
    from qroar_core.__main__ import main as command

    seen: list[str] = []

    def hook(event: str, args: tuple) -> None:
        if event not in EVENTS or not str(args[0]).startswith(folder):
            return
        if event == "open" and not (args[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        seen.append(os.path.basename(str(args[0])))
        if len(seen) == at:
            if later:
                threading.Timer(later / 1000, os.kill, (os.getpid(), signal.SIGKILL)).start()
            else:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    code = command(arguments)
    if not at:
        with open(folder + ".events", "w") as out:
            out.write("\n".join(seen))
    return code


if __name__ == "__main__":
    _, where, number, milliseconds, _, *rest = sys.argv
    sys.exit(main(where, int(number), float(milliseconds), rest))
