"""`qroar`, or `python -m qroar_core`: exit 0 done, 2 bad input (one line), 1 an internal error, 130 cancelled."""

from __future__ import annotations

import errno
import os
import sys
import traceback

from qroar_core.large_imports import large_imports

INTERRUPTED = 130  # what shells give a process stopped by Ctrl-C: 128 + SIGINT


def main(arguments: list[str] | None = None, program: str = "python -m qroar_core") -> int:
    """Run the command line; returns the exit code. `program` is what --help calls it."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        return _main(sys.argv[1:] if arguments is None else arguments, program)
    except KeyboardInterrupt:
        return _say("cancelled", INTERRUPTED)


def _main(arguments: list[str], program: str) -> int:
    with large_imports(freeze=False):
        from typer._click.exceptions import ClickException
        from typer.main import get_command

        from qroar_core.cli.register_commands import app
        from qroar_core.cli.usage import refusal
        from qroar_core.errors import Cancelled, QRoarError

    command = get_command(app)
    try:
        # typer turns Ctrl-C into a returned exit code; `obj` is what the manifest says to repeat
        code = command.main(args=arguments or ["--help"], prog_name=program, standalone_mode=False, obj=arguments)
        return _say("cancelled", code) if code == INTERRUPTED else int(code or 0)
    except ClickException as error:
        return _say(refusal(error, getattr(command, "commands", ())), 2)
    except Cancelled:
        return _say("cancelled", INTERRUPTED)
    except QRoarError as error:
        return _say(str(error), 2)
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:  # a full disk is no internal error
            return _say(f"{error.filename or 'the output'}: {error.strerror}; free some room", 2)
        if os.environ.get("QROAR_DEBUG"):
            traceback.print_exc()
        what = (str(error).splitlines() or [""])[0][:200]
        return _say(f"internal error: {type(error).__name__}: {what}; set QROAR_DEBUG=1 for the trace and report it", 1)


def _say(line: str, code: int) -> int:
    sys.stderr.write(f"qroar: {line}\n")
    return code


def end(code: int) -> None:
    """Leave Python with this exit code, also after a Ctrl-C."""
    # CPython remembers a Ctrl-C that met code made by exec, as dataclasses make it, even once it is caught, and would
    # end `python -m` by the signal; the next exec forgets it
    exec("")
    sys.exit(code)


def script() -> None:
    """The installed command `qroar`."""
    end(main(program="qroar"))


if __name__ == "__main__":
    end(main())
