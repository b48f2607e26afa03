"""The command `roost`, so small that Ctrl-C during its imports is no traceback either."""

import sys


def main() -> None:
    """Run the command line; ends the process with an exit code."""
    try:
        from roost.cli.program import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)  # `output.INTERRUPTED`, which may not have been read yet
