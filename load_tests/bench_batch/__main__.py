"""`python -m load_tests.bench_batch` (`make bench-batch`): a batch of embeddings, timed, and checked line by line.

A small batch goes before the large one: it starts the workers, and shows what memory they take with a file of a
quarter of the size. The platform is the one of SLUICE_URL and SLUICE_API_KEY, else the local one that `make up`
started.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from load_tests.bench_batch.memory import worker_probe
from load_tests.bench_batch.report import Measured, document, judged, save, table
from load_tests.bench_batch.run import BatchError, Work, run
from load_tests.watch import Watch
from local import connection
from local.connection import Connection
from local.console import say, show_error
from local.environment import bypass_proxy_for_loopback
from local.errors import LocalError
from local.instance import INSTANCE_VARIABLE, Instance

__all__ = ["main"]

_ROOT = Path(__file__).resolve().parents[2]
_EVERY_S = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0 when everything held, 1 when not, 2 when it could not be run."""
    options = _parser().parse_args(arguments)
    bypass_proxy_for_loopback()
    try:
        platform = connection.resolve(Instance.named(options.instance, _ROOT, os.environ), os.environ)
        say(f"{options.lines:,} lines through {platform.require('SLUICE_URL')}")
        runs = _measure(options, platform)
    except LocalError as error:
        show_error(error)
        return 2
    except BatchError as problem:
        print(f"error: the batch did not complete: {problem}", file=sys.stderr)
        return 1
    checked = judged(runs)
    shown = table(runs, options.format, checked)
    print(shown)
    given = {"model": options.model, "format": options.format}
    save(runs, shown, checked, given, _ROOT / "load_tests" / "results" / options.save)
    print(f"\nsaved: load_tests/results/{options.save}.json and .txt")
    if options.document:
        document(shown, _ROOT / "docs" / "performance.md")
    return 0 if all(verdict.passed for verdict in checked) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench-batch", description=__doc__)
    parser.add_argument("--lines", type=_positive, default=100_000, metavar="N", help="of the batch that is measured")
    parser.add_argument("--first", type=int, metavar="N", help="lines of the batch before it (a quarter); 0 for none")
    parser.add_argument("--format", choices=["jsonl", "parquet"], default="jsonl", help="of the output")
    parser.add_argument("--model", default="embed-static", help="an alias or target that embeds with wordllama")
    parser.add_argument("--timeout", type=float, default=3600.0, metavar="S", help="for each batch to complete")
    parser.add_argument("--save", default="bench-batch", metavar="NAME", help="of the files in load_tests/results")
    parser.add_argument("--document", action="store_true", help="write the table into docs/performance.md, too")
    parser.add_argument("--instance", default=os.environ.get(INSTANCE_VARIABLE) or "default", help="the local platform")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("1 or more")
    return number


def _measure(options: argparse.Namespace, platform: Connection) -> list[Measured]:
    from openai import OpenAI

    from local.models.embeddings import Embedder

    model = Embedder.load()
    # wordllama turns everybody's INFO on when it is imported.
    logging.getLogger().setLevel(logging.WARNING)
    client = OpenAI(
        base_url=platform.require("SLUICE_URL"),
        api_key=platform.require("SLUICE_API_KEY"),
        timeout=120,
        _strict_response_validation=True,
    )
    # Not less: by default it has to go up in parts, too, or nothing would compare the memory of `uploads`.
    first = options.lines // 4 if options.first is None else options.first
    runs = []
    for count in (*((first,) if first else ()), options.lines):
        say(f"{count:,} lines")
        with ExitStack() as stack:
            folder = Path(tempfile.mkdtemp(prefix="sluice-bench-"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            probes = [worker_probe(platform.instance)] if platform.instance else []
            watch = stack.enter_context(Watch(probes, _EVERY_S))
            work = Work(count, options.model, options.format, folder, options.timeout)
            runs.append(Measured(run(client, work, model, say), watch.samples))
    return runs


if __name__ == "__main__":
    sys.exit(main())
