"""For engine and backend authors: engines in virtual time, crash safety, golden runs, the contract."""

from roost.testing.findings import UnsafeEngine
from roost.testing.harness import EngineHarness, Work, WorkFailed
from roost.testing.safety import assert_crash_safe

__all__ = ["EngineHarness", "UnsafeEngine", "Work", "WorkFailed", "assert_crash_safe"]
