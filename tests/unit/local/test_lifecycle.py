from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from local import lifecycle
from local.errors import LocalError
from local.state import Applied

if TYPE_CHECKING:
    from local.instance import Instance
    from local.terraform import Driver

APPLIED = Applied("fingerprint", "run", {})


class Attempts:
    """Stands in for the apply: fails as told, one error after the other, then succeeds."""

    def __init__(self, *errors: LocalError) -> None:
        self.errors = list(errors)
        self.starts = 0

    def start(self, *_: object) -> str:
        self.starts += 1
        return "run"

    def apply(self, *_: object) -> Applied:
        if self.errors:
            raise self.errors.pop(0)
        return APPLIED


def failed(*details: str) -> LocalError:
    return LocalError("terraform apply failed", details=details)


def run(monkeypatch: pytest.MonkeyPatch, attempts: Attempts) -> Applied:
    monkeypatch.setattr(lifecycle, "ensure_running", attempts.start)
    monkeypatch.setattr(lifecycle, "ensure_applied", attempts.apply)
    return lifecycle._apply(cast("Instance", None), cast("Driver", None), Path("python"))


@pytest.mark.parametrize(
    "detail",
    [
        "  api error EntityAlreadyExists: Role with name sluice-local-health already exists.",
        "  ResourceConflictException: Function already exist: sluice-local-health",
        "  BucketAlreadyOwnedByYou: Your previous request to create the named bucket succeeded",
        "  ConflictException: Another resource with the same parent already has this name: chat",
    ],
)
def test_a_resource_that_is_there_already_is_mended_by_starting_over(
    monkeypatch: pytest.MonkeyPatch, detail: str
) -> None:
    attempts = Attempts(failed("creating IAM Role", detail))
    assert run(monkeypatch, attempts) is APPLIED
    assert attempts.starts == 2


def test_it_does_not_start_over_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = Attempts(*(failed("EntityAlreadyExists") for _ in range(3)))
    with pytest.raises(LocalError):
        run(monkeypatch, attempts)
    assert attempts.starts == 3


def test_any_other_failure_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = Attempts(failed("Invalid value for variable"))
    with pytest.raises(LocalError):
        run(monkeypatch, attempts)
    assert attempts.starts == 1
