"""The command line: `python -m local [--instance NAME] VERB`."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from botocore.exceptions import BotoCoreError, ClientError

from local import governance, lifecycle, logs
from local.console import say, show_error
from local.environment import bypass_proxy_for_loopback
from local.errors import LocalError
from local.instance import INSTANCE_VARIABLE, Instance
from local.status import read_status

__all__ = ["main"]

_ROOT = Path(__file__).resolve().parents[1]
_INTERRUPTED = 130

Verb = Callable[[Instance, argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb. Returns its exit code: 0 done, 1 failed or unhealthy, 2 a plan with changes, 130 interrupted."""
    options = _parser().parse_args(arguments)
    # `kill` ends a verb the way Ctrl-C does: with Terraform stopped and the half-finished apply marked.
    signal.signal(signal.SIGTERM, _interrupt)
    bypass_proxy_for_loopback()
    verb: Verb = options.run
    try:
        return verb(Instance.named(options.instance, _ROOT, os.environ), options)
    except LocalError as error:
        show_error(error)
        return 1
    except (ClientError, BotoCoreError) as error:
        show_error(LocalError(f"AWS refused: {error}"))
        return 1
    except KeyboardInterrupt:
        show_error(LocalError("interrupted", "run the same command again: it repairs what is half done"))
        return _INTERRUPTED
    except BrokenPipeError:
        # `python -m local logs | head`: nobody reads any more. Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local", description="Sluice on this machine.")
    parser.add_argument(
        "--instance",
        default=os.environ.get(INSTANCE_VARIABLE) or "default",
        help=f"default or test: folder and ports (or {INSTANCE_VARIABLE})",
    )
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")

    def add(name: str, run: Verb, text: str) -> argparse.ArgumentParser:
        verb = verbs.add_parser(name, help=text, description=text)
        verb.set_defaults(run=run)
        return verb

    up = add("up", _up, "start or heal the local platform and call it once in each mode")
    up.add_argument("--no-smoke", action="store_true", help="leave the calls out")
    add("down", _down, "stop what `up` started")
    add("status", _status, "show what runs; exit code 1 unless all of it is healthy")
    _add_logs(add("logs", _logs, "show the logs of the processes, or of a function"))
    add("reset", _reset, "stop everything and remove all state but the logs")
    add("plan", _plan, "show what an apply would change; exit code 2 when anything")
    add("destroy", _destroy, "destroy all resources; the local cloud stays up")
    governance.add_verbs(add)
    return parser


def _add_logs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--function", metavar="NAME", help="a function: chat_completions or its deployed name")
    parser.add_argument("--lines", type=int, default=40, help="how many lines of each log")
    parser.add_argument("--follow", action="store_true", help="go on with a function's new lines until Ctrl-C")


def _up(instance: Instance, options: argparse.Namespace) -> int:
    lifecycle.up(instance, smoke=not options.no_smoke)
    return 0


def _down(instance: Instance, _: argparse.Namespace) -> int:
    lifecycle.down(instance)
    return 0


def _status(instance: Instance, _: argparse.Namespace) -> int:
    status = read_status(instance)
    say(str(status))
    if status.advice:
        say(f"\n{status.advice}")
    return 0 if status.healthy else 1


def _logs(instance: Instance, options: argparse.Namespace) -> int:
    if options.function:
        lines = logs.function_events(instance, options.function, options.lines, follow=options.follow)
    else:
        lines = logs.process_lines(instance, options.lines)
    # Ctrl-C is how following ends.
    with contextlib.suppress(KeyboardInterrupt):
        for line in lines:
            say(line)
    if not options.function and (names := logs.function_names(instance)):
        say("functions: " + " ".join(sorted(names)))
    return 0


def _reset(instance: Instance, _: argparse.Namespace) -> int:
    lifecycle.reset(instance)
    return 0


def _plan(instance: Instance, _: argparse.Namespace) -> int:
    return lifecycle.plan(instance)


def _destroy(instance: Instance, _: argparse.Namespace) -> int:
    lifecycle.destroy(instance)
    return 0
