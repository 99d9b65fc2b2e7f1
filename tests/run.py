"""`python -m tests.run check|test`: runs the targets of `make check` or `make test`, two at a time.

A target's output is printed when it ends and only if it failed, so two never mix: first which tests failed, then all of
it but the progress. All of them run, also after a failure. The last line counts tests; a check counts as one.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parents[1]
_REPORTS = ROOT / ".local" / "reports"

_CHECKS = ("type", "checkov", "validate", "lint", "security", "workflows", "imports", "states", "drift")
# The longest first, as it waits more than it works; then what keeps the other core busy longest.
_TESTS = ("test-integration", "test-packaging", "test-infra", "test-unit", "test-contract")
_SIDE_BY_SIDE = 2
# As pytest tells how far it is: a letter for each test, and at the end of a line a share of all.
_PROGRESS = re.compile(r"[.sxXFE]+( +\[ *\d+%\])?")


@dataclass
class Outcome:
    """What became of a target, and the tests in it."""

    target: str
    output: str
    seconds: float
    passed: int
    failed: int
    skipped: int


@dataclass
class Runner:
    """Runs targets and prints each one's outcome as soon as it is known."""

    processes: set[subprocess.Popen[str]] = field(default_factory=set)
    lock: Lock = field(default_factory=Lock)
    stopping: bool = False

    def run(self, target: str) -> Outcome:
        """`make <target>` to its end."""
        report = _REPORTS / f"{target}.xml"
        report.unlink(missing_ok=True)
        command = ["make", target]
        if target in _TESTS:
            command.append(f"ARGS=--junitxml={report.relative_to(ROOT)}")
        started = time.monotonic()
        code, output = self._execute(command)
        counts = _count(report, code) if target in _TESTS else (int(code == 0), int(code != 0), 0)
        outcome = Outcome(target, output, time.monotonic() - started, *counts)
        with self.lock:
            _show(outcome)
        return outcome

    def _execute(self, command: Sequence[str]) -> tuple[int, str]:
        with self.lock:
            if self.stopping:
                return 1, "not started\n"
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={
                    name: value
                    for name, value in os.environ.items()
                    if name not in {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                # Out of the terminal's reach: a second Ctrl-C signal would cut the tests' own cleaning up short.
                start_new_session=True,
            )
            self.processes.add(process)
        output, _ = process.communicate()
        with self.lock:
            self.processes.discard(process)
        return process.returncode, output

    def stop(self) -> None:
        """Interrupt what runs (the integration tests then take their platform down) and start nothing more."""
        with self.lock:
            self.stopping = True
            for process in self.processes:
                os.killpg(process.pid, signal.SIGINT)


def _count(report: Path, code: int) -> tuple[int, int, int]:
    """Passed, failed and skipped tests of a pytest run; a run that broke down otherwise has one failure."""
    try:
        suite = ET.parse(report).getroot().find("testsuite")
    except (OSError, ET.ParseError):
        suite = None
    if suite is None:
        return 0, 1, 0
    total, failures, errors, skipped = (
        int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")
    )
    failed = max(failures + errors, int(code != 0))
    return total - min(failures + errors, total) - skipped, failed, skipped


def _show(outcome: Outcome) -> None:
    word = "FAIL" if outcome.failed else "ok"
    lines = outcome.output.rstrip().splitlines()
    # A test run closes on its own summary line, which is worth a look also when all is well.
    remark = lines[-1].strip("= ") if lines and outcome.target in _TESTS and not outcome.failed else ""
    print(f"{word:<4} {outcome.target:<17} {outcome.seconds:6.1f} s  {remark}", flush=True)
    if outcome.failed:
        told = [line for line in lines if not _PROGRESS.fullmatch(line)]
        # Stable, so that only pytest's summary of failures changes its place.
        told.sort(key=lambda line: not line.startswith(("FAILED ", "ERROR ")))
        print("\n".join(f"     | {line}" for line in told), flush=True)


def main(what: str) -> int:
    """Run a set of targets; returns the exit code."""
    targets = _CHECKS if what == "check" else (_TESTS[0], *_TESTS[1:3], *_CHECKS, *_TESTS[3:])
    _REPORTS.mkdir(parents=True, exist_ok=True)
    runner = Runner()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as workers:
        jobs = [workers.submit(runner.run, target) for target in targets]
        try:
            outcomes = [job.result() for job in jobs]
        except KeyboardInterrupt:
            workers.shutdown(wait=False, cancel_futures=True)
            runner.stop()
            return 130
    return _summarise(outcomes, time.monotonic() - started)


def _summarise(outcomes: list[Outcome], seconds: float) -> int:
    passed, failed, skipped = (
        sum(getattr(each, name) for each in outcomes) for name in ("passed", "failed", "skipped")
    )
    broken = [each.target for each in outcomes if each.failed]
    print(f"\nfailed: {' '.join(broken)}" if broken else "\nall is well", f"({seconds:.0f} s)")
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
