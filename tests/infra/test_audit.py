"""The audit finds the fault that each of its rules is for, and none in what the examples make.

The states are those of applied examples, as `python -m tests.infra states` stored them.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from roost.storage.aws.names import roles
from tests.infra.audit import RULES, audit, listed, of_type, part_of, statements_of, wanted_grants

State = list[dict[str, Any]]


def stored() -> dict[str, State]:
    """The stored states, with what `roles.json` gives now: it changes more often than they do.

    What Terraform makes of that file is compared where it is applied.
    """
    found: dict[str, State] = json.loads(Path(__file__).with_name("states.json").read_text(encoding="utf-8"))
    for state in found.values():
        policies = of_type(state, "aws_iam_policy")
        statements = [s for one in policies for s in statements_of(one["values"]["policy"])]
        resources = {part_of(listed(s["Resource"])[0]): s["Resource"] for s in statements}
        for one in policies:
            one["values"]["policy"] = renewed(one["address"], one["values"]["policy"], resources)
    return found


def renewed(address: str, policy: str, resources: dict[str, Any]) -> str:
    """A role's policy with the actions of today."""
    role = address.partition('role["')[2].removesuffix('"]')
    besides = [s for s in statements_of(policy) if s.get("Sid") == "JournalOfAll"]
    conditions = [s["Condition"] for s in statements_of(policy) if "Condition" in s and s not in besides]
    actions: dict[str, list[str]] = {}
    for part, action in sorted(wanted_grants(role, is_fenced=bool(conditions))):
        actions.setdefault(part, []).append(action)
    made = []
    for part, names in actions.items():
        fence = {"Condition": conditions[0]} if conditions and part in roles()["fenced"] else {}
        made.append({"Effect": "Allow", "Action": names, "Resource": resources[part], **fence})
    return json.dumps({"Version": "2012-10-17", "Statement": [*made, *besides]})


STORED = stored()
QUEUE, TABLE, FUNCTION = "aws_sqs_queue", "aws_dynamodb_table", "aws_lambda_function"
ACCESS, LIFE_CYCLE = "aws_s3_bucket_public_access_block", "aws_s3_bucket_lifecycle_configuration"
ALARM, LEADING = "aws_cloudwatch_metric_alarm", "dynamodb:LeadingKeys"
PROBE = ["CMD", "python", "-m", "roost.hosting.probe", "80"]
Fault = Callable[[State], None]


def one(state: State, type_: str, address: str = "") -> dict[str, Any]:
    """The values of the one resource of a type whose address has a part."""
    [found] = [resource for resource in of_type(state, type_) if address in resource["address"]]
    values: dict[str, Any] = found["values"]
    return values


def policy(state: State, role: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The values of a role's policy, and the policy itself; `put` writes it back."""
    values = one(state, "aws_iam_policy", f'module.iam.aws_iam_policy.role["{role}"]')
    return values, json.loads(values["policy"])


def edited(role: str, edit: Callable[[list[dict[str, Any]]], None]) -> Fault:
    """Change the statements of a role's policy."""

    def fault(state: State) -> None:
        values, document = policy(state, role)
        edit(document["Statement"])
        values["policy"] = json.dumps(document)

    return fault


def team(edit: Callable[[list[dict[str, Any]]], None]) -> Fault:
    """Change the statements of a fenced policy."""

    def fault(state: State) -> None:
        values = one(state, "aws_iam_policy", 'module.team["search"].aws_iam_policy.role["console_viewer"]')
        document = json.loads(values["policy"])
        edit([s for s in document["Statement"] if "Condition" in s])
        values["policy"] = json.dumps(document)

    return fault


def put(type_: str, name: str, value: Any, address: str = "") -> Fault:
    """Change a value of a resource."""

    def fault(state: State) -> None:
        one(state, type_, address)[name] = value

    return fault


def container(edit: Callable[[dict[str, Any]], None]) -> Fault:
    """Change the container of the task definition."""

    def fault(state: State) -> None:
        values = one(state, "aws_ecs_task_definition")
        document = json.loads(values["container_definitions"])
        edit(document[0])
        values["container_definitions"] = json.dumps(document)

    return fault


def variable(name: str, value: str) -> Fault:
    """Give the worker function another variable."""

    def fault(state: State) -> None:
        one(state, FUNCTION, "module.workers")["environment"][0]["variables"][name] = value

    return fault


def without(type_: str) -> Fault:
    """Take resources away."""

    def fault(state: State) -> None:
        state[:] = [resource for resource in state if resource["type"] != type_]

    return fault


def first_action(name: str) -> Callable[[list[dict[str, Any]]], None]:
    return lambda statements: statements[0].update(Action=[name])


FAULTS: list[tuple[str, str, Fault]] = [
    ("actions_exist", "lambda", edited("worker", first_action("dynamodb:TransactWriteItems"))),
    ("actions_exist", "lambda", edited("worker", first_action("dynamodb:CheckConditionItem"))),
    ("nothing_is_granted_on_everything", "lambda", edited("worker", first_action("dynamodb:*"))),
    ("nothing_is_granted_on_everything", "lambda", edited("worker", lambda s: s[0].update(Resource="*"))),
    ("nothing_is_granted_on_everything", "lambda", edited("worker", lambda s: s[0].update(NotAction="s3:*"))),
    ("roles_are_given_what_the_file_says", "lambda", edited("enqueuer", first_action("dynamodb:PutItem"))),
    (
        "roles_are_given_what_the_file_says",
        "lambda",
        edited("console_viewer", first_action("dynamodb:PutItem")),
    ),
    ("roles_are_given_what_the_file_says", "namespaces", team(lambda s: s[0].update(Condition={"Null": {}}))),
    (
        "roles_are_given_what_the_file_says",
        "namespaces",
        team(lambda s: s[0]["Condition"]["ForAllValues:StringLike"].update({LEADING: "*"})),
    ),
    ("roles_are_given_what_the_file_says", "namespaces", team(lambda s: s[0]["Condition"].pop("Null"))),
    (
        "roles_are_given_what_the_file_says",
        "namespaces",
        team(lambda s: s[0]["Condition"]["ForAllValues:StringLike"].update({LEADING: "roost-switches/*"})),
    ),
    (
        "roles_are_given_what_the_file_says",
        "namespaces",
        team(lambda s: s[-1].update(Action="dynamodb:PutItem")),
    ),
    ("queues_are_as_defined", "lambda", put(QUEUE, "receive_wait_time_seconds", 0, "low")),
    ("queues_are_as_defined", "lambda", put(QUEUE, "visibility_timeout_seconds", 10, "low")),
    (
        "dead_letters_are_kept",
        "lambda",
        put(QUEUE, "message_retention_seconds", 86400, "dead"),
    ),
    (
        "dead_letters_are_kept",
        "lambda",
        put(QUEUE, "redrive_policy", '{"deadLetterTargetArn": "other", "maxReceiveCount": 3}', "low"),
    ),
    ("only_tls", "lambda", put(QUEUE, "policy", "", "low")),
    ("only_tls", "lambda", without("aws_s3_bucket_policy")),
    ("queues_are_encrypted", "lambda", put(QUEUE, "sqs_managed_sse_enabled", False, "low")),
    (
        "tables_can_be_restored",
        "lambda",
        put(TABLE, "point_in_time_recovery", [], "claims"),
    ),
    ("only_what_is_over_expires", "lambda", put(TABLE, "ttl", [], "claims")),
    (
        "only_what_is_over_expires",
        "lambda",
        put(TABLE, "ttl", [{"attribute_name": "expires_at", "enabled": True}], "journal"),
    ),
    (
        "the_bucket_is_closed",
        "lambda",
        put(ACCESS, "block_public_policy", False),
    ),
    ("the_bucket_is_closed", "lambda", without("aws_s3_bucket_versioning")),
    (
        "no_rule_deletes_blobs",
        "lambda",
        put(LIFE_CYCLE, "rule", [{"id": "x", "expiration": [{"days": 30}]}]),
    ),
    (
        "failures_of_a_batch_are_told_apart",
        "lambda",
        put("aws_lambda_event_source_mapping", "function_response_types", None, "low"),
    ),
    (
        "visibility_outlasts_functions",
        "lambda",
        put(FUNCTION, "timeout", 900, "module.workers"),
    ),
    (
        "handlers_are_there",
        "lambda",
        put(FUNCTION, "handler", "roost.hosting.worker.run", "sweeper"),
    ),
    (
        "handlers_are_there",
        "lambda",
        put(FUNCTION, "handler", "roost.hosting.nothing", "sweeper"),
    ),
    ("settings_are_read", "lambda", variable("ROOST_LEASE_SECOND", "30")),
    ("settings_are_read", "lambda", variable("ROOST_WORKER__BURST_SECONDS", "soon")),
    ("tasks_drain_before_they_are_killed", "ecs", container(lambda c: c.update(stopTimeout=62))),
    ("tasks_drain_before_they_are_killed", "ecs", container(lambda c: c.pop("stopTimeout"))),
    (
        "tasks_drain_before_they_are_killed",
        "ecs",
        container(lambda c: c["healthCheck"].update(command=PROBE)),
    ),
    ("containers_are_locked_down", "ecs", container(lambda c: c.update(readonlyRootFilesystem=False))),
    ("containers_are_locked_down", "ecs", container(lambda c: c.pop("user"))),
    ("nobody_gets_in_unknown", "lambda", put("aws_apigatewayv2_route", "authorization_type", "NONE")),
    (
        "alarms_say_what_to_do",
        "ecs",
        put(ALARM, "alarm_description", "Bad. See https://x/y#nowhere", "no-workers"),
    ),
]


@pytest.mark.parametrize("example", STORED)
def test_what_the_examples_make_has_no_faults(example: str) -> None:
    assert audit(STORED[example]) == []


@pytest.mark.parametrize(
    ("rule", "example", "fault"),
    FAULTS,
    ids=[f"{number}-{rule}" for number, (rule, _, _) in enumerate(FAULTS)],
)
def test_a_fault_is_found(rule: str, example: str, fault: Fault) -> None:
    state = copy.deepcopy(STORED[example])
    fault(state)
    assert rule in {finding.partition(":")[0] for finding in audit(state)}


def test_every_rule_has_a_fault_that_it_finds() -> None:
    assert {rule for rule, _, _ in FAULTS} == {rule.__name__ for rule in RULES}
