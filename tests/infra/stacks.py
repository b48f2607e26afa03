"""The examples, applied: on one stand-in, side by side, each as a stack of its own."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from roost.testing.standins import REGION, StandIn
from tests.infra.terraform import Terraform, state_resources

EXAMPLES = ("smallest", "ecs", "lambda", "namespaces")
STACK = {"smallest": "small", "ecs": "tasks", "lambda": "functions", "namespaces": "teams"}
LAMBDA_TIMEOUT_SECONDS = 60

# Only for the stand-in: it has one account, no metadata, and buckets in the path.
_OVERRIDE = """provider "aws" {
  region                      = "us-east-1"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  s3_use_path_style           = true
  max_retries                 = 2
}
"""


@dataclass(frozen=True)
class Applied:
    """A stack that stands.

    Attributes:
        example: which one.
        stack: its name, as in `ROOST_STORAGE=aws:STACK`.
        resources: of its state.
        changes: what a second plan would change; empty if it is done.
    """

    example: str
    stack: str
    resources: Sequence[Mapping[str, Any]]
    changes: Sequence[str]

    @property
    def bucket(self) -> str:
        """Of its artifacts."""
        [found] = [one for one in self.resources if one["type"] == "aws_s3_bucket"]
        return str(found["values"]["bucket"])


def apply_all(terraform: Terraform, standin: StandIn) -> list[Applied]:
    """Apply every example.

    Raises:
        TerraformFailed: one can't be applied.
    """
    variables = _variables(terraform.folder, standin)
    with ThreadPoolExecutor(len(EXAMPLES)) as pool:
        return list(pool.map(lambda name: _apply(terraform, standin, name, variables[name]), EXAMPLES))


def _apply(terraform: Terraform, standin: StandIn, example: str, variables: dict[str, Any]) -> Applied:
    where, stack = f"infra/examples/{example}", STACK[example]
    common = ("-input=false", "-no-color", "-parallelism=20")
    endpoint = {"AWS_ENDPOINT_URL": standin.url}
    prepare(terraform, where, {"stack": stack, **variables})
    terraform.run(where, "apply", "-auto-approve", *common, **endpoint)
    terraform.run(where, "plan", "-out=second.bin", *common, **endpoint)
    plan = json.loads(terraform.run(where, "show", "-json", "second.bin"))
    state = json.loads(terraform.run(where, "show", "-json"))
    applied = Applied(example, stack, state_resources(state), [*changes_of(plan)])
    _let_in_without_tls(standin, applied.bucket)
    return applied


def prepare(terraform: Terraform, where: str, variables: Mapping[str, Any]) -> None:
    """Give an example its variables, and a provider that is for the stand-in."""
    (terraform.folder / where / "zz_override.tf").write_text(_OVERRIDE)
    (terraform.folder / where / "test.auto.tfvars.json").write_text(json.dumps(variables))
    terraform.init(where)


def _let_in_without_tls(standin: StandIn, bucket: str) -> None:
    """Take the bucket's policy away: it refuses what comes without TLS, and a stand-in has none."""
    s3 = client_of(standin, "s3")
    with pytest.raises(ClientError, match="403"):
        s3.put_object(Bucket=bucket, Key="without-tls", Body=b"")
    s3.delete_bucket_policy(Bucket=bucket)


def changes_of(plan: Mapping[str, Any]) -> list[str]:
    """What a plan would change: address, action, and the attributes that differ."""
    found = []
    for one in plan.get("resource_changes", []):
        actions = one["change"]["actions"]
        if actions in (["no-op"], ["read"]):
            continue
        before, after = one["change"]["before"] or {}, one["change"]["after"] or {}
        keys = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
        found.append(f"{one['address']}: {'/'.join(actions)} {', '.join(keys)}")
    return found


def _variables(folder: Path, standin: StandIn) -> dict[str, dict[str, Any]]:
    """Of each example, what has no default."""
    code = folder / "code.zip"
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("README", "the stand-in never runs it")
    ec2 = client_of(standin, "ec2")
    subnets = [one["SubnetId"] for one in ec2.describe_subnets()["Subnets"]]
    groups = [one["GroupId"] for one in ec2.describe_security_groups()["SecurityGroups"]]
    return {
        "smallest": {},
        "ecs": {"image": "registry/roost:1.0", "subnet_ids": subnets, "security_group_ids": groups},
        "lambda": {"package": {"filename": str(code)}, "timeout_seconds": LAMBDA_TIMEOUT_SECONDS},
        "namespaces": {},
    }


def client_of(standin: StandIn, service: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=standin.url,
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
