"""Runs every `*.tftest.hcl`: the modules, the root's wiring and the bootstrap, all with a mocked provider."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.infra.terraform import INFRA, compositions, modules, run, title


@pytest.mark.parametrize("folder", [*modules(), *compositions()], ids=title)
def test_its_terraform_tests_pass(folder: Path) -> None:
    result = run(folder, "test")
    assert result.returncode == 0, f"{title(folder)}\n{result.stdout}"
    counts = re.search(r"Success! (\d+) passed, 0 failed", result.stdout)
    assert counts, result.stdout
    assert int(counts[1]) > 0, f"{title(folder)} has no tests"


def test_every_check_that_is_skipped_has_its_reason() -> None:
    bare = [
        f"{path.relative_to(INFRA)}:{number}"
        for path in INFRA.rglob("*.tf")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if "checkov:skip" in line and not re.search(r"checkov:skip=CKV2?_[A-Z]+_\d+:\s*\S+ \S+", line)
    ]
    assert bare == []
