"""What is read of a message on SQS, which may be anybody's."""

from __future__ import annotations

import pytest

from roost.errors import InputError
from roost.models import Lane
from roost.storage.aws.messages import dead_letter_of, delivery_of

FOREIGN = {
    "deep": "[" * 100_000,
    "deep inside": '{"v": 1, "work": "w", "cause": 0, "x": ' + "[" * 100_000,
    "infinite": '{"v": 1, "work": "w", "cause": 1e999}',
    "below 0": '{"v": 1, "work": "w", "cause": -1}',
    "huge": '{"v": 1, "work": "w", "cause": ' + "9" * 4000 + "}",
    "a text": '{"v": 1, "work": "w", "cause": "0"}',
    "true": '{"v": 1, "work": "w", "cause": true}',
    "twice": '{"v": 1, "work": "w", "work": "x", "cause": 0}',
    "large": '{"v": 1, "work": "w", "cause": 0, "x": "' + "x" * (64 << 10) + '"}',
}


@pytest.mark.parametrize("body", FOREIGN.values(), ids=FOREIGN)
def test_a_body_that_is_not_ours_is_one_clear_error_and_never_a_crash(body: str) -> None:
    """Whatever else is raised would end the worker that received it, and then the next."""
    with pytest.raises(InputError):
        delivery_of(body, Lane.LOW, receipt="r", received_count=1)
    letter = dead_letter_of({"Body": body, "ReceiptHandle": "r"})
    assert (letter.work_id, letter.receipt) == ("", "r")
    assert letter.reason.startswith("not one of Roost's")


def test_a_body_of_ours_is_a_delivery() -> None:
    found = delivery_of('{"v":1,"work":"team/w","cause":7}', Lane.LOW, receipt="r", received_count=2)
    assert (found.work_id, found.cause, found.lane, found.received_count) == ("team/w", 7, Lane.LOW, 2)


@pytest.mark.parametrize(
    ("more", "source", "lane"),
    [
        ("", "arn:aws:sqs:eu-west-1:1:my-stack-low", Lane.LOW),
        (',"lane":"high"', "arn:aws:sqs:eu-west-1:1:my-stack-low", Lane.HIGH),
        ("", "arn:aws:sqs:eu-west-1:1:anything", Lane.NORMAL),
        ("", None, Lane.NORMAL),
    ],
)
def test_a_dead_letter_goes_back_to_the_lane_that_it_came_from(
    more: str, source: str | None, lane: Lane
) -> None:
    """SQS says from which queue it moved one (API reference, "Message", `DeadLetterQueueSourceArn`)."""
    attributes = {} if source is None else {"Attributes": {"DeadLetterQueueSourceArn": source}}
    body = f'{{"v":1,"work":"w","cause":7{more}}}'
    assert dead_letter_of({"Body": body, "ReceiptHandle": "r", **attributes}).lane is lane
