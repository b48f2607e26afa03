"""Shell completion, as `roost --install-completion` sets it up."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from roost.cli import completion
from roost.loading import installed_engines
from tests.cli.conftest import Roost

SCRIPTS = Path(sys.executable).parent
ENVIRON = {
    **os.environ,
    "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}",
    "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",  # else typer looks for the shell that it runs in
}

Offered = Callable[..., list[str]]


def completed(*words: str) -> list[str]:
    """What bash offers for the last of the words."""
    shown = subprocess.run(
        ["roost", "--show-completion", "bash"], env=ENVIRON, capture_output=True, text=True, timeout=60
    )
    assert shown.returncode == 0, shown.stderr
    typed = f"COMP_WORDS=({' '.join(words)}) COMP_CWORD={len(words) - 1}"
    script = f"{shown.stdout}\n{typed}\n_roost_completion roost\nprintf '%s\\n' \"${{COMPREPLY[@]}}\""
    done = subprocess.run(["bash", "-c", script], env=ENVIRON, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("roost", "stat"), {"status"}),
        (("roost", "list", "--state", "ca"), {"cancelled"}),
        (("roost", "worker", "--metrics"), {"--metrics-port"}),
    ],
)
def test_bash_is_offered_what_fits(words: tuple[str, ...], expected: set[str]) -> None:
    assert set(completed(*words)) == expected


# --- ids and engines, by the protocol that the shells' scripts speak ---


@pytest.fixture
def offered(roost: Roost, monkeypatch: pytest.MonkeyPatch) -> Offered:
    """What is offered for the last word; nothing else is printed."""

    def ask(*words: str) -> list[str]:
        with monkeypatch.context() as patch:
            patch.setenv("_ROOST_COMPLETE", "complete_bash")
            patch.setenv("COMP_WORDS", " ".join(("roost", *words)))
            patch.setenv("COMP_CWORD", str(len(words)))
            came = roost()
        assert (came.code, came.err) == (0, "")
        return came.out.split()

    return ask


def test_ids_are_offered_newest_first_and_only_those_that_begin_so(roost: Roost, offered: Offered) -> None:
    made = [
        roost("enqueue", "--engine", "demo", "--payload", "{}", "--work-id", name).ok().out.strip()
        for name in ("alpha-1", "alpha-2", "beta")
    ]
    assert offered("status", "") == made[::-1]
    assert offered("status", "al") == ["alpha-2", "alpha-1"]
    assert offered("cancel", "alpha-2", "al") == ["alpha-1"], "one that is there is not offered again"
    assert offered("artifacts", "list", "be") == ["beta"]
    assert offered("status", "--home", str(roost.folder / "other"), "") == []


def test_no_more_ids_are_offered_than_can_be_read(
    roost: Roost, offered: Offered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion, "IDS_MAX", 2)
    for name in ("a", "b", "c"):
        roost("enqueue", "--engine", "demo", "--work-id", name).ok()
    assert offered("status", "") == ["c", "b"]


def test_a_look_makes_no_storage(roost: Roost, offered: Offered) -> None:
    assert offered("status", "") == []
    assert not roost.home.exists()


@pytest.mark.parametrize(
    "url", [pytest.param("aws", marks=pytest.mark.soak), "nothing:", "local:/proc/nowhere", "local:"]
)
def test_what_fails_is_silent(offered: Offered, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """No credentials, no such backend, no such place."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert offered("status", "--storage", url, "") == []


def test_a_storage_that_does_not_answer_holds_nobody_up(
    roost: Roost, offered: Offered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion, "PATIENCE_SECONDS", 0.05)
    roost("enqueue", "--engine", "demo").ok()

    async def hangs(*_: object) -> None:
        import asyncio

        await asyncio.Event().wait()

    monkeypatch.setattr("roost.core.client.Client.list", hangs)
    before = time.monotonic()
    assert offered("status", "") == []
    assert time.monotonic() - before < 30  # it would hang for ever


def test_installed_engines_are_offered(offered: Offered) -> None:
    assert offered("enqueue", "--engine", "") == sorted(installed_engines())
    assert offered("enqueue", "--engine", "wat") == ["watchlist"]
    assert offered("worker", "--engines", "demo,w") == ["demo,watchlist"]
