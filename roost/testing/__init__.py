"""For engine and backend authors: engines in virtual time, crash safety, golden runs, the contract."""

from roost.testing.findings import NoSubject, UnsafeEngine
from roost.testing.harness import EngineHarness, Work, WorkFailed
from roost.testing.safety import assert_crash_safe

__all__ = ["EngineHarness", "NoSubject", "UnsafeEngine", "Work", "WorkFailed", "assert_crash_safe"]
