"""Writes the fixture of the current format anew: `python -m tests.unit.write_fixture`.

Only for a format that no release has written yet; a released one never changes.
"""

from __future__ import annotations

import base64
import json

from msgspec.structs import asdict
from pydantic_core import to_jsonable_python

from roost.storage.codec import FORMAT, encode_entry
from roost.testing.contract.samples import every_kind, of_lines

from .test_codec import FIXTURES, _shown


def main() -> None:
    """Replace the entries of the fixture; its bodies stay."""
    path = FIXTURES / f"format{FORMAT}.json"
    fixture = json.loads(path.read_text())
    entries = [*every_kind(), *of_lines()]
    fixture["entries"] = [
        {
            name: base64.b64encode(value).decode()
            if name == "body" and value is not None
            else value.decode()
            if isinstance(value, bytes)
            else value
            for name, value in encode_entry(entry)._asdict().items()
        }
        for entry in entries
    ]
    fixture["expected"] = [to_jsonable_python(_shown(entry), fallback=asdict) for entry in entries]
    path.write_text(json.dumps(fixture, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
