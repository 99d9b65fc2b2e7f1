from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from local.errors import LocalError
from local.instance import Instance
from local.state import Applied, applying, fingerprint, forget, half_finished, holder, locked


@pytest.fixture
def infra(tmp_path: Path) -> Path:
    folder = tmp_path / "infra"
    for name in ("main.tf", "environments/local.tfvars", "state_machines/chain.asl.json", ".terraform.lock.hcl"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


@pytest.fixture
def package(tmp_path: Path) -> Path:
    path = tmp_path / "build" / "chat.zip"
    path.parent.mkdir()
    path.write_bytes(b"zip")
    return path


def test_the_fingerprint_depends_on_content_only(infra: Path, package: Path) -> None:
    before = fingerprint(infra, [package], {"a": "1"})
    os.utime(infra / "main.tf", (1, 1))
    (infra / ".terraform").mkdir()
    (infra / ".terraform" / "junk.tf").write_text("x")
    (infra / "tests").mkdir()
    (infra / "tests" / "root.tftest.hcl").write_text("x")
    (infra / "README.md").write_text("x")
    assert fingerprint(infra, [package], {"a": "1"}) == before


@pytest.mark.parametrize(
    "name", ["main.tf", "environments/local.tfvars", "state_machines/chain.asl.json", ".terraform.lock.hcl", "new.tf"]
)
def test_every_file_terraform_reads_changes_the_fingerprint(infra: Path, package: Path, name: str) -> None:
    before = fingerprint(infra, [package], {})
    (infra / name).write_text("changed")
    assert fingerprint(infra, [package], {}) != before


def test_packages_and_variables_change_the_fingerprint(infra: Path, package: Path) -> None:
    before = fingerprint(infra, [package], {"a": "1"})
    assert fingerprint(infra, [package], {"a": "2"}) != before
    package.write_bytes(b"other")
    assert fingerprint(infra, [package], {"a": "1"}) != before


def test_moving_content_between_files_changes_the_fingerprint(infra: Path) -> None:
    before = fingerprint(infra, [], {})
    (infra / "main.tf").rename(infra / "renamed.tf")
    assert fingerprint(infra, [], {}) != before


def test_what_was_applied_is_remembered_until_forgotten(instance: Instance) -> None:
    assert Applied.load(instance) is None
    applied = Applied("digest", "run", {"api_id": "x", "function_names": {"a": "b"}})
    applied.save(instance)
    assert Applied.load(instance) == applied
    forget(instance)
    forget(instance)
    assert Applied.load(instance) is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"fingerprint": 1}', '{"fingerprint": "a", "cloud_run": "b"}', "\xff"]
)
def test_a_broken_record_of_the_last_apply_counts_as_none(instance: Instance, text: str) -> None:
    instance.state.mkdir()
    instance.applied_file.write_bytes(text.encode("latin-1"))
    assert Applied.load(instance) is None


def test_a_finished_apply_leaves_no_mark(instance: Instance) -> None:
    with applying(instance):
        assert half_finished(instance)
    assert not half_finished(instance)


@pytest.mark.parametrize("accident", [LocalError("terraform failed"), KeyboardInterrupt()])
def test_an_apply_that_fails_or_is_interrupted_stays_marked(instance: Instance, accident: BaseException) -> None:
    with pytest.raises(type(accident)), applying(instance):
        raise accident
    assert half_finished(instance)


def test_whoever_asks_is_told_who_is_at_work_without_being_in_the_way(instance: Instance) -> None:
    assert holder(instance) == ""
    with locked(instance, "up"):
        assert holder(instance).startswith(f"`up` (pid {os.getpid()}, since ")
    assert holder(instance) == ""
    with locked(instance, "down"):
        pass


def test_a_second_command_is_told_who_holds_the_instance(instance: Instance) -> None:
    with locked(instance, "up"), pytest.raises(LocalError) as refused, locked(instance, "down"):
        pass
    assert f"`up` (pid {os.getpid()}, since " in refused.value.message
    assert "the default instance" in refused.value.message


def test_the_instance_is_free_again_afterwards_and_a_refused_command_does_not_free_it(instance: Instance) -> None:
    with locked(instance, "up"):
        for _ in range(2):
            with pytest.raises(LocalError), locked(instance, "down"):
                pass
        assert json.loads(instance.lock_file.read_text())["verb"] == "up"
    with locked(instance, "down"):
        assert json.loads(instance.lock_file.read_text())["verb"] == "down"
