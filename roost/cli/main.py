"""The command `roost`."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper

from roost.cli import worker_line
from roost.cli.output import FAILED, INTERRUPTED, exit_code, print_error, say
from roost.errors import RoostError


def main() -> None:
    """Run the command line; ends the process with an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what the terminal lacks is shown as an escape
    try:
        _run()
    except RoostError as error:
        print_error(error)
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on; that is no fault
        sys.exit(FAILED)
    except Exception as error:
        if os.environ.get("ROOST_DEBUG"):
            raise
        say(f"Error: {type(error).__name__}: {error}")
        say("  This is a bug in Roost. ROOST_DEBUG=1 shows where.")
        sys.exit(FAILED)


def _run() -> None:
    line = worker_line.read(sys.argv[1:])
    if line is None:
        from roost.cli.app import app

        app()
    else:
        from roost.cli import serve

        serve.run(line)
