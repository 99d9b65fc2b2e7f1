"""`python -m load_tests.capacity` prints the tables; with `--write` it puts them into docs/capacity.md."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from load_tests.capacity.formulae import BENCH, Assumptions, Measured
from load_tests.capacity.tables import tables

__all__ = ["document", "main"]

_DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "capacity.md"
_BEGIN, _END = "<!-- generated: python -m load_tests.capacity --write -->", "<!-- end of what is generated -->"


def document(text: str, generated: str) -> str:
    """The text with everything between the two markers replaced. Raises ValueError when it has no markers."""
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError("docs/capacity.md has lost its markers")
    return f"{before}{_BEGIN}\n\n{generated}\n{_END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, or put them into docs/capacity.md. Returns the exit code: 1 without figures to reckon with."""
    options = _parser().parse_args(arguments)
    try:
        measured = _measured(options)
    except (OSError, ValueError, LookupError) as problem:
        print(f"error: no figures of a request: {problem!r}\n  hint: make bench, or --cpu-ms", file=sys.stderr)
        return 1
    assumed = Assumptions(requests_per_minute=options.rate, memory_mb=options.memory_mb)
    generated = tables(measured, assumed)
    if options.write:
        _DOCUMENT.write_text(document(_DOCUMENT.read_text(encoding="utf-8"), generated), encoding="utf-8")
    else:
        print(generated)
    return 0


def _measured(options: argparse.Namespace) -> Measured:
    if options.cpu_ms is None:
        return Measured.load(options.bench)
    units, reads, size = options.write_units, options.read_units, options.log_bytes
    return Measured(options.cpu_ms, options.round_trips, units, reads, size, tls=False, taken_at="given")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m load_tests.capacity", description="What a rate needs and costs on AWS."
    )
    usual = Assumptions()
    parser.add_argument("--rate", type=float, default=usual.requests_per_minute, help="requests a minute")
    parser.add_argument("--memory-mb", type=int, default=usual.memory_mb, help="memory of the functions")
    parser.add_argument("--bench", type=Path, default=BENCH, help="figures that `make bench` saved")
    parser.add_argument("--cpu-ms", type=float, help="CPU of one request, instead of the saved figures")
    parser.add_argument("--write-units", type=float, default=5.0, help="with --cpu-ms")
    parser.add_argument("--read-units", type=float, default=1.0, help="with --cpu-ms")
    parser.add_argument("--log-bytes", type=float, default=1600, help="with --cpu-ms")
    parser.add_argument("--round-trips", type=float, default=3.0, help="with --cpu-ms")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/capacity.md")
    return parser


if __name__ == "__main__":
    sys.exit(main())
