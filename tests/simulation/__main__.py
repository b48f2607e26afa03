"""Replay one seed, or try a range of them: `python -m tests.simulation --seed 7 --trace`."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields

from .plan import Plan
from .world import simulate

_SHOWN_MAX = 10  # failing seeds of a range


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 if a seed failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this seed")
    parser.add_argument("--trace", action="store_true", help="print the plan, and each thing that happens")
    parser.add_argument("--seeds", type=int, default=2000, help="try so many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    options = parser.parse_args(arguments)
    if options.seed is not None:
        return _replay(options.seed, options.trace)
    return _try_many(range(options.first, options.first + options.seeds))


def _replay(seed: int, is_traced: bool) -> int:
    report = simulate(seed, is_traced=is_traced)
    if is_traced:
        _show_plan(report.plan)
        print("\n".join(report.trace))
    print(report if not report.is_good else f"seed {seed} is good")
    print(f"digest {report.digest}, {report.ended_seconds:.0f} virtual seconds")
    return 0 if report.is_good else 1


def _show_plan(plan: Plan) -> None:
    for field in fields(plan):
        value = getattr(plan, field.name)
        print(f"{field.name}:", *(value if field.name == "works" else [value]), sep="\n  ")


def _try_many(seeds: range) -> int:
    began, counts, bad = time.perf_counter(), Counter[str](), 0
    for seed in seeds:
        report = simulate(seed)
        counts += report.counts
        if not report.is_good:
            bad += 1
            if bad <= _SHOWN_MAX:
                print(report)
    seconds = time.perf_counter() - began
    print(f"{len(seeds)} seeds, {bad} bad, {len(seeds) / seconds:.0f} a second")
    print(", ".join(f"{name}: {count}" for name, count in sorted(counts.items())))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
