"""What the laboratory found, in words that a person can act on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from roost.testing.faults import Cut, Fault

_RESTARTED = (
    "What the engine kept in itself (attributes, a cache, a counter) went with its worker. Keep it in "
    "`snapshot.data`. If a stand-in for a service lives in the engine, give it to the laboratory as "
    "`outside`: services outlive workers."
)
_RECORDED = (
    "The effect of `once` was done, but its worker died before that was recorded, so it was done again. "
    "Only the service can tell the two apart: pass `current_step().idempotency_key` on to it; or use "
    "`once(…, at_most_once=True)`, which raises `OutcomeUnknown` in place of a second try."
)
_REPEATED = (
    "It ran once more from the same version, and came to something else: what it does outside of Roost was "
    "done again, or its `once` has another key in each try. Do it by `current_step().once(key, …)`, with a "
    "key that does not hold the attempt, the token or the time; or pass `idempotency_key` on."
)
_STOLEN = (
    "Two workers ran it, one of them without knowing that its lease was gone; only one commit counts. What a "
    "step does outside needs `current_step().once(…)`, or a service that takes `idempotency_key`, or "
    "refuses an older `token`."
)
_DELIVERED = (
    "Deliveries are hints and make no difference to an engine that keeps to its snapshot. Look for what "
    "depends on the order in which work items run, or on the time."
)


@dataclass(frozen=True, slots=True)
class Finding:
    """A run whose outcome differs.

    Attributes:
        step: that was to run when the fault happened; empty: the fault has no instant.
        version: from which it began.
        fault_line: how many lines of the history come before the fault.
    """

    fault: Fault
    cut: Cut | None
    difference: str
    history: Sequence[str]
    step: str = ""
    version: int = 0
    fault_line: int | None = None

    @property
    def advice(self) -> str:
        """What it says about the engine, and what to do."""
        match self.fault:
            case Fault.RESTART:
                return _RESTARTED
            case Fault.REPEAT | Fault.REVERSE | Fault.LATE:
                return _DELIVERED
            case Fault.STEAL:
                why = _STOLEN
            case _ if self.cut is not None and self.cut.detail == "recorded":
                why = _RECORDED
            case _:
                why = _REPEATED
        step = f"Step {self.step!r}" if self.step else "The first step,"
        return f"{step} from version {self.version}: {why[0].lower()}{why[1:]}"

    def __str__(self) -> str:
        where = f", {self.cut}" if self.cut else ""
        lines = [f"    {line}" for line in self.history]
        if self.fault_line is not None:
            lines.insert(self.fault_line, f"    -- here {self.fault}")
        shown = "\n".join(lines)
        return f"when {self.fault}{where}:\n  {self.difference}\n  history:\n{shown}\n  {self.advice}"


class NoSubject(ValueError):
    """The undisturbed run is not what a crash can be compared with.

    Attributes:
        signal: that nobody sends.
        path: in the snapshot, where two undisturbed runs differ.
    """

    def __init__(self, message: str, *, signal: str = "", path: str = "") -> None:
        super().__init__(message)
        self.signal = signal
        self.path = path


class UnsafeEngine(AssertionError):
    """An engine's outcome depends on where its worker died.

    Attributes:
        findings: all that were found, the shortest history first.
    """

    def __init__(self, findings: Sequence[Finding], runs: int) -> None:
        super().__init__(
            f"{len(findings)} of {runs} runs with a fault ended otherwise than the run in peace; "
            f"the shortest:\n{findings[0]}"
        )
        self.findings = findings
