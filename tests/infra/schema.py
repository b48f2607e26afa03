"""The provider's schema, cut down to what `infra/` uses: for machines that have no provider.

    python -m tests.infra.schema     writes `provider_schema.json` anew, where there is a provider

Names of arguments and blocks are checked against it, and whether the required ones are
there. It says nothing of types, references and values: that takes Terraform.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.infra.hcl import Configuration, configurations
from tests.infra.terraform import Terraform

STORED = Path(__file__).with_name("provider_schema.json")
_META = frozenset(
    {"for_each", "count", "depends_on", "provider", "lifecycle", "dynamic", "__is_block__", "timeouts"}
)

Schema = Mapping[str, Any]


def check(infra: Path) -> list[str]:
    """What does not fit the stored schema."""
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    return [text for found in configurations(infra) for text in _faults(found, stored)]


def _faults(found: Configuration, stored: Schema) -> Iterator[str]:
    for kind, schemas in (("resource", stored["resources"]), ("data", stored["data"])):
        for type_, name, body in found.typed(kind):
            where = f"{found.name}: {kind} {type_}.{name}"
            if type_ in schemas:
                yield from (f"{where}: {text}" for text in _block_faults(body, schemas[type_]))
            else:
                yield f"{where}: not in the stored schema"


def _block_faults(body: Mapping[str, Any], schema: Schema) -> Iterator[str]:
    given = dict(body)
    for dynamic in given.get("dynamic", []):
        for name, block in dynamic.items():
            given.setdefault(name, []).extend(block["content"])
    for name, value in given.items():
        if name in _META or name in schema["attributes"]:
            continue
        if name not in schema["blocks"]:
            yield f"there is no {name!r}"
            continue
        for inner in value if isinstance(value, list) else [value]:
            yield from (f"{name}: {text}" for text in _block_faults(inner, schema["blocks"][name]))
    for name in schema["required"]:
        if name not in given:
            yield f"{name!r} is missing"


def _cut(block: Schema) -> dict[str, Any]:
    """A block's names, of the provider's own description of it."""
    attributes = block.get("attributes", {})
    blocks = {name: _cut(nested["block"]) for name, nested in block.get("block_types", {}).items()}
    required = [name for name, one in attributes.items() if one.get("required")]
    required += [name for name, nested in block.get("block_types", {}).items() if nested.get("min_items")]
    return {"attributes": sorted(attributes), "required": sorted(required), "blocks": blocks}


def write() -> None:
    """Write the schema of what is used now."""
    used = {
        kind: sorted({type_ for found in configurations() for type_, _, _ in found.typed(kind)})
        for kind in ("resource", "data")
    }
    with tempfile.TemporaryDirectory() as place:
        terraform = Terraform.find(Path(place))
        assert terraform is not None, "there is no provider here"
        where = "infra/modules/state"
        terraform.init(where)
        found = json.loads(terraform.run(where, "providers", "schema", "-json"))
    [provider] = found["provider_schemas"].values()
    cut = {
        "resources": {
            type_: _cut(provider["resource_schemas"][type_]["block"]) for type_ in used["resource"]
        },
        "data": {type_: _cut(provider["data_source_schemas"][type_]["block"]) for type_ in used["data"]},
    }
    STORED.write_text(json.dumps(cut, separators=(",", ":"), sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
