"""The health check of a container: `python -m roost.hosting.probe PORT`; exit code 1 if it is not live."""

from __future__ import annotations

import sys
import urllib.request

_SECONDS = 5.0


def is_live(port: int) -> bool:
    """Whether the worker of this container says that it is."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/live", timeout=_SECONDS) as answer:
            return bool(answer.status == 200)
    except OSError:  # refused, too slow, or a status of 503
        return False


if __name__ == "__main__":
    sys.exit(0 if is_live(int(sys.argv[1])) else 1)
