"""What `make bench-batch` shows, saves, and puts into docs/performance.md."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from load_tests.bench_batch.memory import Peak, peaks, verdicts
from load_tests.bench_batch.run import Outcome
from load_tests.gates import Verdict
from load_tests.watch import Sample

__all__ = ["BEGIN", "END", "Measured", "document", "judged", "save", "table"]

BEGIN = "<!-- make bench-batch writes from here -->"
END = "<!-- to here: batches -->"

_MB = 1e6


@dataclass(frozen=True)
class Measured:
    """A batch, and the memory of the workers while it ran (none where no local platform is)."""

    outcome: Outcome
    samples: Sequence[Sample]

    @property
    def peaks(self) -> Mapping[str, Peak]:
        """Memory by function."""
        return peaks(self.samples)


def judged(runs: Sequence[Measured]) -> list[Verdict]:
    """What must hold: every line of every run, and memory that does not follow the size of the file."""
    found = [
        Verdict(
            run.outcome.check.passed,
            f"{run.outcome.check.rows:,} of {run.outcome.count:,} lines, {run.outcome.check.wrong:,} wrong"
            + "".join(f"\n      {problem}" for problem in run.outcome.check.problems),
        )
        for run in runs
    ]
    if len(runs) > 1:
        found += verdicts(runs[0].peaks, runs[-1].peaks)
    return found


def table(runs: Sequence[Measured], output_format: str, checked: Sequence[Verdict]) -> str:
    """The figures as text."""
    machine = _machine()
    where = f"{machine['python']} on {machine['system']} {machine['architecture']}, {machine['cores']} cores"
    sections = [
        f"{where}; output as {output_format}.",
        _stages(runs),
        _memory(runs),
        "\n".join(["Must hold", *(f"  {verdict}" for verdict in checked)]),
    ]
    return "\n\n".join(section for section in sections if section)


def _stages(runs: Sequence[Measured]) -> str:
    names = list(runs[-1].outcome.stages)
    rows = [("lines", *names, "all", "lines/s", "input MB", "output MB")]
    for run in runs:
        one = run.outcome
        seconds = [f"{one.stages[name]:.1f}" for name in names]
        sizes = (f"{one.input_bytes / _MB:.1f}", f"{one.output_bytes / _MB:.1f}")
        rows.append((f"{one.count:,}", *seconds, f"{one.seconds:.1f}", f"{one.a_second():,.0f}", *sizes))
    title = "Seconds of each stage; lines a second from the request for the batch to its completion"
    return f"{title}\n{_aligned(rows)}"


def _memory(runs: Sequence[Measured]) -> str:
    functions = sorted({name for run in runs for name in run.peaks})
    if not functions:
        return ""
    rows = [("", *(f"{run.outcome.count:,} lines" for run in runs))]
    rows += [(name, *(_peak(run.peaks.get(name)) for run in runs)) for name in functions]
    return f"Resident memory of the largest worker of each function, MB (workers)\n{_aligned(rows)}"


def _peak(peak: Peak | None) -> str:
    return f"{peak.largest_mb:.0f} ({peak.workers})" if peak else ""


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  " + "  ".join(cell.rjust(width) if at else cell.ljust(width) for at, (cell, width) in enumerate(cells))
        for cells in (list(zip(row, widths, strict=True)) for row in rows)
    )


def save(
    runs: Sequence[Measured], shown: str, checked: Sequence[Verdict], given: Mapping[str, Any], stem: Path
) -> None:
    """Write `<stem>.json`, with the memory of every worker over time, and `<stem>.txt`."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        "given": given,
        "runs": [_summary(run) for run in runs],
        "must_hold": [{"holds": verdict.passed, "what": verdict.text} for verdict in checked],
    }
    stem.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    stem.with_suffix(".txt").write_text(shown + "\n", encoding="utf-8")


def _summary(run: Measured) -> dict[str, Any]:
    one = run.outcome
    return {
        "lines": one.count,
        "input_bytes": one.input_bytes,
        "output_bytes": one.output_bytes,
        "stages_s": {name: round(seconds, 2) for name, seconds in one.stages.items()},
        "lines_a_second": round(one.a_second(), 1),
        "check": {"rows": one.check.rows, "wrong": one.check.wrong, "problems": one.check.problems},
        "memory_mb": {name: asdict(peak) for name, peak in run.peaks.items()},
        "memory_mb_over_time": _over_time(run.samples),
    }


def _over_time(samples: Sequence[Sample]) -> dict[str, list[tuple[float, float]]]:
    series: dict[str, list[tuple[float, float]]] = {}
    for sample in samples:
        for worker, megabytes in sample.values.items():
            series.setdefault(worker, []).append((round(sample.at_s, 1), round(megabytes, 1)))
    return series


def _machine() -> dict[str, Any]:
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.system(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
    }


def document(shown: str, page: Path) -> None:
    """Put the table between the marks that `page` has for it. Raises ValueError when it has none."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page.name} has no place for the table")
    page.write_text(f"{before}{BEGIN}\n```\n{shown}\n```\n{END}{after}", encoding="utf-8")
