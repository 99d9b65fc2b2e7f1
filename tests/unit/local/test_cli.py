from __future__ import annotations

from pathlib import Path

import pytest

from local import cli, lifecycle
from local.instance import Instance
from local.state import Applied


@pytest.fixture(autouse=True)
def _checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_ROOT", tmp_path)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "")


def test_status_of_nothing_is_unhealthy_and_says_what_starts_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[:3]] == ["local cloud", "local model server", "platform"]
    assert lines[-1] == "`make up` starts it."


def test_an_error_is_two_lines_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["key", "somebody"]) == 1
    message, hint = capsys.readouterr().err.splitlines()
    assert message.startswith("error: no platform to talk to")
    assert hint == "  hint: start a local one: make up"


def test_each_instance_is_told_its_own_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--instance", "test", "status"]) == 1
    assert "`python -m local --instance test up` starts it." in capsys.readouterr().out


def test_an_instance_may_be_chosen_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLUICE_LOCAL_INSTANCE", "nowhere")
    assert cli.main(["status"]) == 1
    assert "no local instance called 'nowhere'" in capsys.readouterr().err


def test_an_interrupted_command_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(lifecycle, "up", interrupted)
    assert cli.main(["up"]) == 130
    assert "run the same command again" in capsys.readouterr().err


def test_logs_of_an_unknown_function_list_the_known_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {"chat_completions": "sluice-local-chat-completions", "health": "sluice-local-health"}
    Applied("digest", "run", {"function_names": names}).save(Instance.named("default", tmp_path, {}))
    assert cli.main(["logs", "--function", "chatt"]) == 1
    assert "functions: chat_completions, health" in capsys.readouterr().err


def test_logs_of_processes_are_their_last_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / ".local" / "logs" / "cloud.log"
    log.parent.mkdir(parents=True)
    log.write_text("one\ntwo\nthree\n")
    assert cli.main(["logs", "--lines", "2"]) == 0
    assert capsys.readouterr().out.splitlines()[:3] == [f"==> {log} <==", "two", "three"]


def test_down_is_content_with_nothing_to_stop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["down"]) == 0
    assert cli.main(["down"]) == 0
    assert "Local cloud: was not running" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["plan", "destroy"])
def test_terraform_verbs_need_a_running_cloud(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([verb]) == 1
    assert "error: the local cloud is stopped" in capsys.readouterr().err
