"""The page of crash points shows what the core does, for each name that there is."""

from __future__ import annotations

from collections import defaultdict

import pytest

from roost.journal.events import Committed
from tests.docs.crash_points import PAGE, STORIES, names, page, seen


def test_each_crash_point_has_a_story_and_no_story_is_of_another() -> None:
    assert set(STORIES) == set(names())


def test_the_page_shows_what_the_core_does() -> None:
    assert PAGE.read_text() == page(), (
        "python -m tests.docs.crash_points writes it anew; look at what changed"
    )


@pytest.mark.parametrize("name", names())
def test_whoever_dies_there_each_version_is_committed_once_and_all_work_ends(name: str) -> None:
    for when in ("before", "after"):
        column = seen(name, when)
        assert column.has_died, "the crash point was never met"
        journals = defaultdict(list)
        for entry in column.entries:
            journals[entry.work_id].append(entry)
        for entries in journals.values():
            assert [entry.position for entry in entries] == list(range(len(entries)))
            versions = [entry.event.version for entry in entries if isinstance(entry.event, Committed)]
            assert versions == list(range(1, len(versions) + 1))
            last = entries[-1].control
            assert last.state.is_terminal or entries[0].work_id.startswith("roost-")
