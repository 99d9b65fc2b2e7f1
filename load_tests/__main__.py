"""The command line: `python -m load_tests --load-profile mix`. Runs Locust without its web interface.

The platform is the one of SLUICE_URL and SLUICE_API_KEY, else the local one that `make up` started.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from load_tests import watch
from load_tests.open_loop import HttpClient
from load_tests.operations import FailedError
from load_tests.plan import Plan, add_options
from load_tests.watch import Allowance
from local import connection
from local.connection import Connection
from local.console import say, show_error
from local.environment import bypass_proxy_for_loopback
from local.errors import LocalError
from local.instance import INSTANCE_VARIABLE, Instance

__all__ = ["main"]

_ROOT = Path(__file__).resolve().parents[1]

# How far memory may move between the first and the last third of a watched run: interpreters settle, workers come and
# go.
_MEMORY = {
    "largest worker MB": Allowance(0.0, 3),
    "workers MB": Allowance(0.15, 32),
    # Its tokenizer remembers 10,000 texts: that was seen to be 37 MB, after which nothing grew any more.
    "model server MB": Allowance(0.0, 40),
}
_MESSAGES = Allowance(0.0, 3)
# The local cloud is the table, its stream, the bucket and the log groups as well, all in its memory: what it was given,
# it keeps. 70 KB were seen for each arrival (2,301 in 20 minutes), evenly over the whole time.
_KEPT_MB_PER_ARRIVAL = 96 / 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one plan. Returns its exit code: 0 when everything held, 1 when not, 2 when it could not be run."""
    options, for_locust = _parser().parse_known_args(arguments)
    bypass_proxy_for_loopback()
    try:
        plan = Plan.from_options(options)
        platform = connection.resolve(Instance.named(options.instance, _ROOT, os.environ), os.environ)
        say(f"{plan.profile.name} for {plan.profile.seconds:g} s against {platform.require('SLUICE_URL')}")
        if not options.cold:
            _prime(plan, platform)
        return _run(plan, platform, _locust(plan, options, for_locust))
    except ValueError as error:
        show_error(LocalError(str(error)))
    except LocalError as error:
        show_error(error)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m load_tests",
        description="Load on a platform. Options that are not listed are Locust's own.",
        allow_abbrev=False,
    )
    add_options(parser)
    parser.add_argument("--cold", action="store_true", help="begin without a first call of each operation")
    parser.add_argument("--processes", type=int, default=1, help="how many processes make the load")
    parser.add_argument(
        "--instance", default=os.environ.get(INSTANCE_VARIABLE) or "default", help="the local platform: default or test"
    )
    return parser


def _locust(plan: Plan, options: argparse.Namespace, more: Sequence[str]) -> list[str]:
    """Locust's command line: as many users as processes, because a user is an arrival process."""
    plan.out.mkdir(parents=True, exist_ok=True)
    count = str(options.processes)
    command = [sys.executable, "-m", "locust", "-f", str(_ROOT / "load_tests" / "locustfile.py"), "--headless"]
    command += ["--users", count, "--spawn-rate", count, "--streams", count, "--only-summary", "--skip-log-setup"]
    command += ["--run-time", f"{plan.profile.seconds:.0f}s", "--stop-timeout", f"{plan.patience_s + 5:.0f}"]
    command += ["--html", str(plan.out / "report.html"), "--csv", str(plan.out / "locust"), "--csv-full-history"]
    if options.processes > 1:
        command += ["--processes", count]
    return [*command, *_plan_options(options), *more]


def _plan_options(options: argparse.Namespace) -> list[str]:
    parser = argparse.ArgumentParser()
    add_options(parser)
    given: list[str] = []
    for name, value in vars(options).items():
        if name in vars(parser.parse_args([])) and name != "streams" and value is not None:
            option = f"--{name.replace('_', '-')}"
            given += [part for each in (value if isinstance(value, list) else [value]) for part in (option, str(each))]
    return given


def _prime(plan: Plan, platform: Connection) -> None:
    """Call each operation once, one after the other: the load is not to meet a dozen functions that all start at once.

    Raises LocalError when one fails: there is no use in asking more often.
    """
    client = HttpClient(platform.require("SLUICE_URL"), platform.require("SLUICE_API_KEY"), seconds=plan.patience_s)
    for name, operation in plan.profile.operations.items():
        started = time.perf_counter()
        try:
            operation.run(client, random.Random(plan.seed))
        except FailedError as failed:
            raise LocalError(f"the first {name} failed: {failed}", "see `make logs`") from failed
        say(f"  first {name}: {time.perf_counter() - started:.2f} s")


def _run(plan: Plan, platform: Connection, command: Sequence[str]) -> int:
    # The key goes by the environment: command lines are everybody's to read.
    environment = {**os.environ, **{name: platform.require(name) for name in ("SLUICE_URL", "SLUICE_API_KEY")}}
    with watch.Watch(_probes(plan, platform)) as watcher:
        process = subprocess.Popen(command, cwd=_ROOT, env=environment)
        code = _wait(process)
    return max(code, _judge(plan, watcher.samples)) if plan.profile.watched else code


def _wait(process: subprocess.Popen[bytes]) -> int:
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            # Locust got it as well, and ends in its own time, with a report of what there is.
            continue


def _probes(plan: Plan, platform: Connection) -> list[watch.Probe]:
    if not plan.profile.watched:
        return []
    memory = [watch.memory_probe(platform.instance)] if platform.instance else []
    return [*memory, watch.queue_probe(platform)]


def _judge(plan: Plan, samples: Sequence[watch.Sample]) -> int:
    names = {name for sample in samples for name in sample.values}
    queues = {name: _MESSAGES for name in sorted(names) if name.endswith("queue")}
    memory = {**_MEMORY, "local cloud MB": Allowance(0.0, _KEPT_MB_PER_ARRIVAL * _arrivals_between(plan))}
    allowed = {name: allowance for name, allowance in memory.items() if name in names} | queues
    found = watch.verdicts(samples, allowed, settled_s=_settled_s(plan))
    watch.write(samples, plan.out / "watch.csv")
    say("\n".join(map(str, found)))
    return int(not all(verdict.passed for verdict in found))


def _settled_s(plan: Plan) -> float:
    """When everything has started and warmed up, in seconds: after the warm-up and a tenth of the rest."""
    warm_up = sum(stage.seconds for stage in plan.profile.stages if not stage.judged)
    return warm_up + (plan.profile.seconds - warm_up) / 10


def _arrivals_between(plan: Plan) -> float:
    """Arrivals between the middle of the first third and that of the last, on average."""
    return plan.profile.stages[-1].rate * (plan.profile.seconds - _settled_s(plan)) * 2 / 3


if __name__ == "__main__":
    sys.exit(main())
