"""What must hold of a stack that Terraform made, whatever its modules look like.

Each rule reads the resources of an applied state (`terraform.state_resources`) and gives
findings: texts that say which resource breaks it, and how. `tests/infra/test_audit.py` shows of
every rule that it finds the fault it is for.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from roost.config import load_settings
from roost.errors import SettingsError
from roost.storage.aws.admin import queue_attributes
from roost.storage.aws.names import definition, roles
from tests.infra.terraform import ROOT

Resource = Mapping[str, Any]
Rule = Callable[[Sequence[Resource]], Iterator[str]]

DRAIN_SPARE_SECONDS = 5  # what an interrupted step may take, beyond the grace period
LAMBDA_VISIBILITY_FACTOR = 6  # Lambda Developer Guide, "Configuring a queue to use with Lambda"
_POLICY_TYPES = ("aws_iam_policy", "aws_iam_role_policy")

# Beside those of `roles.json`: what modules grant to functions, schedules and tasks. Each was
# looked up in the Service Authorization Reference.
KNOWN_ACTIONS = frozenset(
    {
        "kms:Decrypt",
        "kms:GenerateDataKey",
        "lambda:InvokeFunction",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
        "secretsmanager:GetSecretValue",
        "ssm:GetParameters",
        "sts:AssumeRole",
    }
    | {action for parts in roles()["roles"].values() for actions in parts.values() for action in actions}
)


def of_type(resources: Sequence[Resource], *types: str) -> list[Resource]:
    """The resources of some types."""
    return [one for one in resources if one["type"] in types]


def audit(resources: Sequence[Resource]) -> list[str]:
    """All findings."""
    return [f"{rule.__name__}: {finding}" for rule in RULES for finding in rule(resources)]


def statements_of(policy: str) -> list[dict[str, Any]]:
    found = json.loads(policy)["Statement"]
    return found if isinstance(found, list) else [found]


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


# --- permissions -------------------------------------------------------------


def actions_exist(resources: Sequence[Resource]) -> Iterator[str]:
    """An action with a wrong name grants nothing, and nobody says so."""
    for one in of_type(resources, *_POLICY_TYPES):
        for statement in statements_of(one["values"]["policy"]):
            for action in listed(statement["Action"]):
                if action not in KNOWN_ACTIONS:
                    yield f"{one['address']}: {action} is not known here"


def nothing_is_granted_on_everything(resources: Sequence[Resource]) -> Iterator[str]:
    """No action with a star, no resource that is one."""
    for one in of_type(resources, *_POLICY_TYPES):
        for statement in statements_of(one["values"]["policy"]):
            if "NotAction" in statement or "NotResource" in statement:
                yield f"{one['address']}: grants by exception"
            if any("*" in action for action in listed(statement.get("Action", []))):
                yield f"{one['address']}: an action with a star"
            if any(resource == "*" for resource in listed(statement.get("Resource", "*"))):
                yield f"{one['address']}: on every resource"


def roles_are_given_what_the_file_says(resources: Sequence[Resource]) -> Iterator[str]:
    """The policies of the module `iam` are those of `roles.json`, with a fence or without."""
    for one in of_type(resources, "aws_iam_policy"):
        role = next((name for name in roles()["roles"] if one["address"].endswith(f'role["{name}"]')), None)
        if role is None:
            yield f"{one['address']}: the policy of no role"
            continue
        statements = [s for s in statements_of(one["values"]["policy"]) if s.get("Sid") not in _BESIDES]
        granted = {
            (part_of(str(resource)), action)
            for statement in statements
            for action in listed(statement["Action"])
            for resource in listed(statement["Resource"])
        }
        is_fenced = any("Condition" in statement for statement in statements)
        wanted = wanted_grants(role, is_fenced=is_fenced)
        for part, action in sorted(granted ^ wanted):
            how = "missing" if (part, action) in wanted else "in vain"
            yield f"{one['address']}: {action} on {part} is {how}"
        if is_fenced:
            found = _fence_faults(role, statements_of(one["values"]["policy"]))
            yield from (f"{one['address']}: {text}" for text in found)


def wanted_grants(role: str, *, is_fenced: bool) -> set[tuple[str, str]]:
    """What `roles.json` gives a role: parts and actions."""
    file = roles()
    parts = {(part, action) for part, actions in file["roles"][role].items() for action in actions}
    if not is_fenced:
        return parts
    return {
        (part, action)
        for part, action in parts
        if part not in file["never_fenced_parts"] and action not in file["never_fenced"]
    }


_OF_A_NAMESPACE = re.compile(r"(?!roost-)[a-z0-9-]{1,63}/\*")
_BESIDES = ("Keys", "JournalOfAll")  # keys of KMS, and what fenced roles read of all namespaces


def _fence_faults(role: str, statements: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Every statement on a table holds keys to a namespace, also for calls that name none."""
    for statement in statements:
        parts = {part_of(str(resource)) for resource in listed(statement["Resource"])}
        if not parts & set(roles()["fenced"]):
            continue
        condition = statement.get("Condition", {})
        keys = listed(condition.get("ForAllValues:StringLike", {}).get("dynamodb:LeadingKeys", []))
        if not keys or not all(_is_let_in(role, statement, key) for key in keys):
            yield f"{sorted(parts)}: keys are not held to a namespace: {keys}"
        if condition.get("Null", {}).get("dynamodb:LeadingKeys") != "false":
            yield f"{sorted(parts)}: a call that names no key passes"


def _is_let_in(role: str, statement: Mapping[str, Any], key: str) -> bool:
    """Whether a pattern of keys is a namespace's, or one that the role shares with all."""
    if statement.get("Sid") != "JournalOfAll":
        return bool(_OF_A_NAMESPACE.fullmatch(key)) or _is_shared(key, roles()["shared"][role])
    is_read = listed(statement.get("Action", [])) == ["dynamodb:Query"]
    return is_read and _is_shared(key, roles()["shared_reads"][role])


def _is_shared(key: str, prefixes: Sequence[str]) -> bool:
    """Whether a pattern is one of the prefixes, with the name of a namespace where they leave one open."""
    patterns = (re.escape(f"{prefix}*").replace(r"\{namespace\}", "[a-z0-9-]{1,63}") for prefix in prefixes)
    return any(re.fullmatch(pattern, key) for pattern in patterns)


def part_of(arn: str) -> str:
    """A part of a stack, as `roles.json` calls it; what is none stays as it is."""
    if arn.count(":") < 5:
        return arn
    service, name = arn.split(":")[2], arn.split(":", 5)[5]
    if service == "dynamodb":
        table, _, rest = name.removeprefix("table/").partition("/")
        which = table.rpartition("-")[2]
        return (
            f"{which}/stream"
            if rest.startswith("stream/")
            else f"{which}/{rest.removeprefix('index/')}".rstrip("/")
        )
    if service == "sqs":
        return "dead_letters" if name.endswith("-dead") else "lanes"
    return "blobs" if name.endswith("/blobs/*") else "bucket"


# --- queues ------------------------------------------------------------------


def queues_are_as_defined(resources: Sequence[Resource]) -> Iterator[str]:
    """Times of the lanes are those that `roost aws create` gives; visibility may be longer."""
    names = {
        "message_retention_seconds": "MessageRetentionPeriod",
        "receive_wait_time_seconds": "ReceiveMessageWaitTimeSeconds",
    }
    for one in of_type(resources, "aws_sqs_queue"):
        values = one["values"]
        wanted = queue_attributes("arn" if values["redrive_policy"] else None)
        for name, attribute in names.items():
            if attribute in wanted and values[name] != int(wanted[attribute]):
                yield f"{one['address']}: {name} is {values[name]}, not {wanted[attribute]}"
        if "VisibilityTimeout" in wanted and values["visibility_timeout_seconds"] < int(
            wanted["VisibilityTimeout"]
        ):
            yield f"{one['address']}: visibility is {values['visibility_timeout_seconds']}, below a lease"


def dead_letters_are_kept(resources: Sequence[Resource]) -> Iterator[str]:
    """A dead letter keeps its age, so its queue must keep it at least as long as its source does."""
    queues = {one["values"]["arn"]: one for one in of_type(resources, "aws_sqs_queue")}
    for one in queues.values():
        if not one["values"]["redrive_policy"]:
            continue
        policy = json.loads(one["values"]["redrive_policy"])
        dead = queues.get(policy["deadLetterTargetArn"])
        if dead is None:
            yield f"{one['address']}: its dead letters go to {policy['deadLetterTargetArn']}"
        elif dead["values"]["message_retention_seconds"] < one["values"]["message_retention_seconds"]:
            yield f"{one['address']}: dead letters are kept for less long than messages"
        if policy["maxReceiveCount"] < 100:
            yield f"{one['address']}: work that meets busy leases becomes a dead letter"


def only_tls(resources: Sequence[Resource]) -> Iterator[str]:
    """Queues and buckets refuse what does not come by TLS."""
    policies = [
        (one, one["values"].get("policy"))
        for one in of_type(resources, "aws_sqs_queue", "aws_s3_bucket_policy")
    ]
    for one, policy in policies:
        denied = [
            statement
            for statement in statements_of(policy or '{"Statement": []}')
            if statement["Effect"] == "Deny"
            and statement.get("Condition", {}).get("Bool", {}).get("aws:SecureTransport") == "false"
        ]
        if not denied:
            yield f"{one['address']}: lets requests in that are not encrypted"
    if of_type(resources, "aws_s3_bucket") and not of_type(resources, "aws_s3_bucket_policy"):
        yield "the bucket has no policy"


def queues_are_encrypted(resources: Sequence[Resource]) -> Iterator[str]:
    """By SQS, or with a key of one's own."""
    for one in of_type(resources, "aws_sqs_queue"):
        if not one["values"]["sqs_managed_sse_enabled"] and not one["values"]["kms_master_key_id"]:
            yield f"{one['address']}: messages are not encrypted"


# --- tables and bucket -------------------------------------------------------


def tables_can_be_restored(resources: Sequence[Resource]) -> Iterator[str]:
    """By point-in-time recovery."""
    for one in of_type(resources, "aws_dynamodb_table"):
        if not any(block["enabled"] for block in one["values"]["point_in_time_recovery"]):
            yield f"{one['address']}: can't be restored"


def only_what_is_over_expires(resources: Sequence[Resource]) -> Iterator[str]:
    """DynamoDB deletes by the attribute of the definition, and nothing where that has none."""
    for one in of_type(resources, "aws_dynamodb_table"):
        which = one["values"]["name"].rpartition("-")[2]
        wanted = definition()["tables"][which]["time_to_live"]
        found = [block["attribute_name"] for block in one["values"]["ttl"] if block["enabled"]]
        if found != ([] if wanted is None else [wanted]):
            yield f"{one['address']}: its time to live goes by {found}, not {wanted}"


def the_bucket_is_closed(resources: Sequence[Resource]) -> Iterator[str]:
    """Nothing in it is public, all is encrypted and versioned."""
    buckets = of_type(resources, "aws_s3_bucket")
    for kind in (
        "aws_s3_bucket_public_access_block",
        "aws_s3_bucket_server_side_encryption_configuration",
        "aws_s3_bucket_versioning",
    ):
        if len(of_type(resources, kind)) != len(buckets):
            yield f"a bucket has no {kind}"
    for one in of_type(resources, "aws_s3_bucket_public_access_block"):
        flags = ("block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets")
        yield from (f"{one['address']}: {flag} is off" for flag in flags if not one["values"][flag])


def no_rule_deletes_blobs(resources: Sequence[Resource]) -> Iterator[str]:
    """A blob is needed for as long as work names it, however long that sleeps."""
    for one in of_type(resources, "aws_s3_bucket_lifecycle_configuration"):
        for rule in one["values"]["rule"]:
            if rule.get("expiration"):
                yield f"{one['address']}: {rule['id']} deletes blobs of live work"


# --- functions and tasks -----------------------------------------------------


def _functions(resources: Sequence[Resource]) -> dict[str, Resource]:
    return {one["values"]["arn"]: one for one in of_type(resources, "aws_lambda_function")}


def failures_of_a_batch_are_told_apart(resources: Sequence[Resource]) -> Iterator[str]:
    """Else what a function refused is deleted, or what it did is done again."""
    for one in of_type(resources, "aws_lambda_event_source_mapping"):
        if "ReportBatchItemFailures" not in (one["values"]["function_response_types"] or []):
            yield f"{one['address']}: ReportBatchItemFailures is missing"


def visibility_outlasts_functions(resources: Sequence[Resource]) -> Iterator[str]:
    """Six times: Lambda makes an invocation again that was throttled, with the same messages."""
    functions = _functions(resources)
    queues = {one["values"]["arn"]: one for one in of_type(resources, "aws_sqs_queue")}
    for one in of_type(resources, "aws_lambda_event_source_mapping"):
        timeout = functions[one["values"]["function_arn"]]["values"]["timeout"]
        visibility = queues[one["values"]["event_source_arn"]]["values"]["visibility_timeout_seconds"]
        if visibility < LAMBDA_VISIBILITY_FACTOR * timeout:
            yield f"{one['address']}: visibility {visibility} s for a function of {timeout} s"


def handlers_are_there(resources: Sequence[Resource]) -> Iterator[str]:
    """A handler's name is a module and a function of this package."""
    for one in of_type(resources, "aws_lambda_function"):
        images = one["values"]["image_config"] or []
        handler = one["values"]["handler"] or images[0]["command"][0]
        module, _, name = handler.rpartition(".")
        try:
            found = getattr(importlib.import_module(module), name, None)
        except ModuleNotFoundError:
            found = None
        if not callable(found):
            yield f"{one['address']}: there is no {handler}"


def environments(resources: Sequence[Resource]) -> Iterator[tuple[str, dict[str, str]]]:
    """The environment of each function and container."""
    for one in of_type(resources, "aws_lambda_function"):
        for block in one["values"]["environment"]:
            yield one["address"], dict(block["variables"])
    for one in of_type(resources, "aws_ecs_task_definition"):
        for container in json.loads(one["values"]["container_definitions"]):
            yield one["address"], {pair["name"]: pair["value"] for pair in container["environment"]}


def settings_are_read(resources: Sequence[Resource]) -> Iterator[str]:
    """Every `ROOST_*` variable is a setting that there is, with a value that it takes."""
    for address, environment in environments(resources):
        try:
            load_settings(environ=environment, directory=Path("/"))
        except SettingsError as error:
            yield f"{address}: {error}"


def tasks_drain_before_they_are_killed(resources: Sequence[Resource]) -> Iterator[str]:
    """ECS waits for the grace period, and for what follows it."""
    for one in of_type(resources, "aws_ecs_task_definition"):
        for container in json.loads(one["values"]["container_definitions"]):
            environment = {pair["name"]: pair["value"] for pair in container["environment"]}
            grace = float(environment.get("ROOST_WORKER__GRACE_SECONDS", "20"))
            stop = container.get("stopTimeout", 30)
            if stop < grace + DRAIN_SPARE_SECONDS:
                yield f"{one['address']}: is killed {stop} s after SIGTERM, and drains for {grace:g} s"
            if environment.get("ROOST_WORKER__HEALTH_PORT") != container["healthCheck"]["command"][-1]:
                yield f"{one['address']}: its health check asks another port than the worker answers on"


def containers_are_locked_down(resources: Sequence[Resource]) -> Iterator[str]:
    """Not root, and nothing to write to but /tmp."""
    for one in of_type(resources, "aws_ecs_task_definition"):
        for container in json.loads(one["values"]["container_definitions"]):
            if not container.get("readonlyRootFilesystem"):
                yield f"{one['address']}: its root file system can be written"
            if str(container.get("user", "0")).partition(":")[0] in ("0", "root"):
                yield f"{one['address']}: runs as root"


# --- console and alarms ------------------------------------------------------


def nobody_gets_in_unknown(resources: Sequence[Resource]) -> Iterator[str]:
    """A route without an authorizer is one for everybody, unless the console signs them in."""
    signs_in = any(
        environment.get("ROOST_CONSOLE__AUTH") == "token" for _, environment in environments(resources)
    )
    for one in of_type(resources, "aws_apigatewayv2_route"):
        if one["values"]["authorization_type"] == "NONE" and not signs_in:
            yield f"{one['address']}: anybody may call it"


def alarms_say_what_to_do(resources: Sequence[Resource]) -> Iterator[str]:
    """An alarm that calls somebody names a section of the guide that is there."""
    anchors = _anchors((ROOT / "infra/operations.md").read_text(encoding="utf-8"))
    for one in of_type(resources, "aws_cloudwatch_metric_alarm"):
        if one["values"]["alarm_description"].endswith("Nobody needs to act."):
            continue  # it moves the number of tasks
        anchor = one["values"]["alarm_description"].rpartition("#")[2]
        if anchor not in anchors:
            yield f"{one['address']}: the guide has no section {anchor!r}"


def _anchors(text: str) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


RULES: tuple[Rule, ...] = (
    actions_exist,
    nothing_is_granted_on_everything,
    roles_are_given_what_the_file_says,
    queues_are_as_defined,
    dead_letters_are_kept,
    only_tls,
    queues_are_encrypted,
    tables_can_be_restored,
    only_what_is_over_expires,
    the_bucket_is_closed,
    no_rule_deletes_blobs,
    failures_of_a_batch_are_told_apart,
    visibility_outlasts_functions,
    handlers_are_there,
    settings_are_read,
    tasks_drain_before_they_are_killed,
    containers_are_locked_down,
    nobody_gets_in_unknown,
    alarms_say_what_to_do,
)
