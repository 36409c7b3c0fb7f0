"""`python -m qroar_core`: exit 0 done, 2 bad input (one line), 1 a fault, 130 cancelled."""

from __future__ import annotations

import os
import sys
import traceback


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from typer._click.exceptions import ClickException
    from typer.main import get_command

    from qroar_core.cli.app import app
    from qroar_core.errors import Cancelled, QRoarError

    try:
        get_command(app).main(args=arguments, prog_name="python -m qroar_core", standalone_mode=False)
        return 0
    except ClickException as error:
        return _say(error.format_message() + "; see --help", 2)
    except (KeyboardInterrupt, Cancelled):
        return _say("cancelled", 130)
    except QRoarError as error:
        return _say(str(error), 2)
    except Exception as error:
        if os.environ.get("QROAR_DEBUG"):
            traceback.print_exc()
        what = (str(error).splitlines() or [""])[0][:200]
        return _say(
            f"a fault of ours: {type(error).__name__}: {what}; set QROAR_DEBUG=1 for the trace and report it", 1
        )


def _say(line: str, code: int) -> int:
    sys.stderr.write(f"qroar: {line}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
