"""What `make check` and `make test` print, and when they fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import run

_MAKEFILE = """\
good bad: ; @echo 'output of $@'; test $@ = good
test-suite: ; @echo '=== 4 passed in 0.1s ==='; printf '%s' '@REPORT@' >$(subst --junitxml=,,$(ARGS)); exit @CODE@
"""
_REPORT = '<testsuites><testsuite tests="{}" failures="{}" errors="{}" skipped="{}"/></testsuites>'


def given(folder: Path, patch: pytest.MonkeyPatch, *, checks: tuple[str, ...], report: str, code: int) -> None:
    patch.setattr(run, "ROOT", folder)
    patch.setattr(run, "_REPORTS", folder / ".local" / "reports")
    patch.setattr(run, "_CHECKS", checks)
    patch.setattr(run, "_TESTS", ("test-suite",))
    makefile = _MAKEFILE.replace("@REPORT@", report).replace("@CODE@", str(code))
    (folder / "Makefile").write_text(makefile)


def test_all_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    given(tmp_path, monkeypatch, checks=("good",), report=_REPORT.format(5, 0, 0, 1), code=0)
    assert run.main("test") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "5 passed, 0 failed, 1 skipped"
    assert lines[-2].startswith("all is well (")
    assert any(line.startswith("ok   test-suite") and line.endswith("4 passed in 0.1s") for line in lines)
    assert not any("output of" in line for line in lines)


def test_a_failed_check_fails_the_run_and_shows_its_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given(tmp_path, monkeypatch, checks=("bad", "good"), report="", code=0)
    assert run.main("check") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "1 passed, 1 failed"
    assert lines[-2].startswith("failed: bad (")
    assert "     | output of bad" in lines


@pytest.mark.parametrize(
    ("report", "code", "last"),
    [
        (_REPORT.format(5, 1, 1, 0), 1, "3 passed, 2 failed"),
        # The tests passed, but something outside them went wrong.
        (_REPORT.format(5, 0, 0, 0), 1, "5 passed, 1 failed"),
        # It died before it could report.
        ("", 1, "0 passed, 1 failed"),
        ("", 0, "0 passed, 1 failed"),
    ],
)
def test_a_suite_that_does_not_end_well_fails_the_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    report: str,
    code: int,
    last: str,
) -> None:
    given(tmp_path, monkeypatch, checks=(), report=report, code=code)
    assert run.main("test") == 1
    assert capsys.readouterr().out.splitlines()[-1] == last
