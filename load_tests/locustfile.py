"""Locust's side: users that are arrival processes, results of all of them in one place, limits as the exit code.

`python -m load_tests` runs this headless. With Locust's own web interface: see README.md.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from locust import User, events, task
from locust.exception import StopUser
from locust.runners import MasterRunner, WorkerRunner

from load_tests.gates import judge
from load_tests.open_loop import HttpClient, OpenLoop
from load_tests.operations import Operation
from load_tests.plan import Plan, add_options
from load_tests.record import Outcome, Record
from load_tests.report import show, write

if TYPE_CHECKING:
    from locust.argument_parser import LocustArgumentParser
    from locust.env import Environment

_FIELD = "sluice"


class _Run:
    """What one Locust process knows of the run. A master has everybody's record."""

    def __init__(self, environment: Environment) -> None:
        options: Any = environment.parsed_options
        self.plan = Plan.from_options(options)
        self.record = Record()
        self._started = 0
        self._environment = environment
        seconds = self.plan.patience_s
        self._client = HttpClient(os.environ["SLUICE_URL"], os.environ["SLUICE_API_KEY"], seconds=seconds)

    def process(self) -> OpenLoop:
        """One more arrival process, with its own part of the load."""
        runner = self._environment.runner
        place = runner.worker_index if isinstance(runner, WorkerRunner) else 0
        self._started += 1
        return OpenLoop(
            self.plan,
            self._client,
            self.record,
            self._observe,
            number=place * 1_000_000 + self._started,
            share=1 / self.plan.streams,
        )

    def _observe(self, operation: Operation, outcome: Outcome) -> None:
        """Tell Locust, for its own report."""
        self._environment.events.request.fire(
            request_type=operation.mode,
            name=operation.name,
            response_time=outcome.latency * 1e3,
            response_length=0,
            exception=RuntimeError(outcome.failure) if outcome.failure else None,
            context={},
        )


_runs: dict[Environment, _Run] = {}


class ArrivalProcess(User):
    """Not somebody who waits for answers, but a stream of callers; see `open_loop`."""

    @task
    def run_schedule(self) -> None:
        """The whole plan, once."""
        # There is no run when its options made no sense; Locust has said so.
        if self.environment in _runs:
            _runs[self.environment].process().run()
        raise StopUser


@events.init_command_line_parser.add_listener
def _options(parser: LocustArgumentParser) -> None:
    add_options(parser)


@events.init.add_listener
def _listen(environment: Environment, **_: Any) -> None:
    def report(data: dict[str, Any], **_: Any) -> None:
        data[_FIELD] = _runs[environment].record.take().plain() if environment in _runs else []

    def collect(data: dict[str, Any], **_: Any) -> None:
        _runs[environment].record.add(Record.from_plain(data.get(_FIELD, [])))

    if isinstance(environment.runner, WorkerRunner):
        environment.events.report_to_master.add_listener(report)
    if isinstance(environment.runner, MasterRunner):
        environment.events.worker_report.add_listener(collect)


@events.test_start.add_listener
def _begin(environment: Environment, **_: Any) -> None:
    # Anew for each test: in the web interface there may be several, each with options of its own.
    _runs.pop(environment, None)
    _runs[environment] = _Run(environment)


@events.test_stop.add_listener
def _stop(environment: Environment, **_: Any) -> None:
    if environment.web_ui:
        _end(environment)


@events.quitting.add_listener
def _quit(environment: Environment, **_: Any) -> None:
    # Not when the test stops: by now the last reports of all workers have come.
    if not environment.web_ui:
        _end(environment)


def _end(environment: Environment) -> None:
    if isinstance(environment.runner, WorkerRunner) or environment not in _runs:
        return
    run = _runs[environment]
    verdicts = judge(run.plan, run.record)
    write(run.plan, run.record, verdicts)
    show(run.plan, run.record, verdicts)
    environment.process_exit_code = int(not all(verdict.passed for verdict in verdicts))
