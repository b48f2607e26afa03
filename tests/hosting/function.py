"""The inside of a function's container: `python -m tests.hosting.function lambda_worker`.

Imports the handler, says so, and then answers each line on stdin, a JSON object with `event`
and `seconds`, with a line on stdout. What Lambda does with a function that takes too long,
its parent does: it ends it.
"""

from __future__ import annotations

import importlib
import json
import sys
import time

from tests.hosting.shapes import Context


def main() -> None:
    began = time.process_time()
    handler = importlib.import_module(f"roost.hosting.{sys.argv[1]}").handler
    print(json.dumps({"init_cpu_seconds": time.process_time() - began}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        end = time.monotonic() + order["seconds"]
        began = time.process_time()
        reply = handler(order["event"], Context(lambda end=end: end - time.monotonic()))
        spent = time.process_time() - began
        print(json.dumps({"reply": reply, "cpu_seconds": spent}), flush=True)


if __name__ == "__main__":
    main()
