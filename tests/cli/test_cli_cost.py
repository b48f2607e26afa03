"""`roost aws cost`: what work costs on AWS, without an account."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Roost

pytestmark = pytest.mark.slow


def test_made_up_work_is_charged_for(roost: Roost) -> None:
    document = roost("aws", "cost", "--steps", "12", "--state-bytes", "300", "--json").ok().document
    assert (document["works"], document["steps"], document["burst_steps"]) == (1, 12, 11)
    assert document["usd_per_million_burst_steps"] == pytest.approx(0.625)
    assert document["usd_per_million_steps"] == pytest.approx(document["usd_per_million_works"] / 12)
    assert document["usd"] == pytest.approx(sum(part["usd"] for part in document["parts"]))
    assert document["prices"]["date"]


def test_larger_states_and_shared_requests_show(roost: Roost) -> None:
    def usd(*arguments: str) -> float:
        return float(roost("aws", "cost", "--steps", "1", *arguments, "--json").ok().document["usd"])

    assert usd("--state-bytes", "9000") > usd() > usd("--batch", "10")


def test_work_that_is_stored_is_charged_for(roost: Roost) -> None:
    ids = [
        roost("enqueue", "--engine", "demo", "--payload", '{"count": 2, "delay_seconds": 0}').ok().out.strip()
        for _ in range(3)
    ]
    roost("worker", "--engines", "demo", "--until-idle").ok()
    all_of_it = roost("aws", "cost", "--from-events", "--json").ok().document
    assert all_of_it["works"] == 3
    assert roost("aws", "cost", "--from-events", "--limit", "2", "--json").ok().document["works"] == 2
    one = roost("aws", "cost", "--from-events", ids[0], "--json").ok().document
    assert one["works"] == 1
    assert one["steps"] * 3 == all_of_it["steps"]
    table = roost("aws", "cost", "--from-events").ok()
    assert table.out.splitlines()[-1].startswith("all\t")
    assert "a million steps" in table.err


def test_nothing_stored_costs_nothing(roost: Roost) -> None:
    assert roost("aws", "cost", "--from-events").ok().out == ""
    assert roost("aws", "cost", "--from-events", "--json").ok().document["usd_per_million_works"] is None


def test_ids_without_the_flag_and_unknown_ids_are_refused(roost: Roost) -> None:
    refused = roost("aws", "cost", "some-id")
    assert refused.code == 2
    assert "--from-events" in refused.err
    assert roost("aws", "cost", "--from-events", "some-id").code == 3
