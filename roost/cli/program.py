"""What the command `roost` does, from its arguments to its exit code."""

from __future__ import annotations

import errno
import os
import sys
from io import TextIOWrapper

from roost.cli import worker_line
from roost.cli.output import FAILED, INTERRUPTED, UNREAD, exit_code, open_closed_streams, print_error, say
from roost.errors import RoostError

_UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})
"""What a write to stdout fails with; an error of storage or of a file says so in its own words."""


def main() -> None:
    """Run the command line; ends the process with an exit code."""
    try:
        _main()
    finally:
        _let_go_of_stderr()


def _let_go_of_stderr() -> None:
    """Where stderr can't be written, as on a full disk, Python itself would end with 120 for it."""
    try:
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def _main() -> None:
    open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what the terminal lacks is shown as an escape
    try:
        try:
            _run()
        finally:
            sys.stdout.flush()  # what can't be written is said below, and not by Python at its exit
    except RoostError as error:
        print_error(error)
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError as error:
        _leave_stdout()
        sys.exit(_unread(error))
    except SystemExit as ended:
        sys.exit(_code_of(ended))
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _UNWRITABLE and error.filename is None:
            _leave_stdout()
            say(f"Error: the output can't be written: {error.strerror}")
            sys.exit(FAILED)
        if os.environ.get("ROOST_DEBUG"):
            raise
        say(f"Error: {type(error).__name__}: {error}")
        say("  This is a bug in Roost. ROOST_DEBUG=1 shows where.")
        sys.exit(FAILED)


def _code_of(ended: SystemExit) -> str | int | None:
    """What the command ended with; typer makes 1, failed, of output that nobody reads."""
    unread = ended.__context__
    return _unread(unread) if isinstance(unread, BrokenPipeError) else ended.code


def _unread(error: BrokenPipeError) -> int:
    """The exit code where nobody reads on, as of `roost list | head -1`: what the command came to, if
    that was no success; else what a shell gives a program that SIGPIPE ended, as git or jq.

    It can't be 0: `roost wait` would say that work is done, `roost enqueue` that all lines are.
    """
    match error.__context__:
        case RoostError() as told:
            print_error(told)
            return exit_code(told)
        case SystemExit(code=int(code)) if code:
            return code
    return UNREAD


def _leave_stdout() -> None:
    """Write no more to it: what is left in its buffer would fail again, at the exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run() -> None:
    line = worker_line.read(sys.argv[1:])
    if line is None:
        from roost.cli.app import app_of

        app_of(sys.argv[1:])()
    else:
        from roost.cli import serve

        serve.run(line)
