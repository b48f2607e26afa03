"""The guide's way to a restored stack that is to stay: Terraform takes restored tables in, as they are."""

from __future__ import annotations

import json
import re
import shutil
from typing import Any

from roost.storage.aws.names import definition
from roost.testing.standins import StandIn
from tests.infra.e2e import Failed
from tests.infra.stacks import Applied, changes_of, client_of, prepare
from tests.infra.terraform import INFRA, Terraform

STACK = "restored"
GUIDE = INFRA / "operations.md"
_COMMON = ("-input=false", "-no-color")
_STATE_ALONE = "-target=module.state"


def imports() -> str:
    """What the guide says to write beside the copy of an example."""
    [text] = re.findall(
        r"```hcl\n( *import \{.*?\n *\})\n *```", GUIDE.read_text(encoding="utf-8"), re.DOTALL
    )
    return f"{text}\n"


def check(terraform: Terraform, standin: StandIn, applied: Applied) -> None:
    """Restore the tables of a stack under a new name, import them, and apply.

    Raises:
        Failed: a table would be made anew, or lacks what a stack's tables have.
    """
    dynamodb = client_of(standin, "dynamodb")
    for key in definition()["tables"]:
        dynamodb.restore_table_to_point_in_time(
            SourceTableName=f"{applied.stack}-{key}", TargetTableName=f"{STACK}-{key}"
        )
    where, endpoint = f"infra/examples/{STACK}", {"AWS_ENDPOINT_URL": standin.url}
    shutil.copytree(
        terraform.folder / f"infra/examples/{applied.example}",
        terraform.folder / where,
        ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*", "*.bin"),
    )
    prepare(terraform, where, {"stack": STACK})
    (terraform.folder / where / "imports.tf").write_text(imports().replace("NEW", STACK))
    for is_first in (True, False):
        terraform.run(where, "plan", "-out=plan.bin", _STATE_ALONE, *_COMMON, **endpoint)
        wrong = [
            change
            for change in changes_of(json.loads(terraform.run(where, "show", "-json", "plan.bin")))
            if not (is_first and ": update " in change)
        ]
        if wrong:
            raise Failed(f"restored tables can't be taken in as they are: {wrong}")
        terraform.run(where, "apply", *_COMMON, "plan.bin", **endpoint)
    for key, table in definition()["tables"].items():
        _check_table(dynamodb, f"{STACK}-{key}", table)


def _check_table(dynamodb: Any, name: str, wanted: dict[str, Any]) -> None:
    found = dynamodb.describe_table(TableName=name)["Table"]
    backups = dynamodb.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
    expiry = dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    goes_by = expiry.get("AttributeName") if expiry["TimeToLiveStatus"] == "ENABLED" else None
    has_stream = found.get("StreamSpecification", {}).get("StreamEnabled", False)
    has = {
        "stream": has_stream == (wanted["stream"] is not None),
        "time to live": goes_by == wanted["time_to_live"],
        "deletion protection": found["DeletionProtectionEnabled"],
        "recovery": backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED",
    }
    if lacking := [what for what, is_there in has.items() if not is_there]:
        raise Failed(f"{name} was restored and lacks {lacking}")
