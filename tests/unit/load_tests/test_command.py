"""`python -m load_tests`, without Locust and without a platform."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pytest

from load_tests import __main__ as command
from load_tests import watch
from load_tests.operations import Answer, FailedError
from load_tests.watch import Sample
from tests.unit.load_tests.support import Platform

KEY = "sk-sluice-secret"
ENVIRONMENT = {"SLUICE_URL": "https://api.example/v1", "SLUICE_API_KEY": KEY}


class Locust:
    """What was started, in place of Locust."""

    code = 0

    def __init__(self, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> None:
        Locust.arguments = list(arguments)
        Locust.environment = dict(env)

    def wait(self) -> int:
        return self.code

    arguments: list[str]
    environment: dict[str, str]


@pytest.fixture(autouse=True)
def _stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "Popen", Locust)
    monkeypatch.setattr(command, "HttpClient", lambda *_args, **_options: Platform())
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "")


@pytest.fixture
def _account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def option(name: str) -> str:
    return Locust.arguments[Locust.arguments.index(name) + 1]


@pytest.mark.usefixtures("_account")
def test_locust_gets_the_plan_and_enough_time_for_it() -> None:
    assert command.main(["--load-profile", "sync", "--rate", "20", "--duration", "30", "--limit", "sync=80,120"]) == 0
    assert [option(each) for each in ("--load-profile", "--rate", "--duration", "--limit")] == [
        "sync",
        "20.0",
        "30.0",
        "sync=80,120",
    ]
    assert (option("--run-time"), option("--stop-timeout"), option("--users")) == ("45s", "35", "1")
    assert "--headless" in Locust.arguments
    assert "--processes" not in Locust.arguments


@pytest.mark.usefixtures("_account")
def test_each_process_makes_one_stream_of_arrivals() -> None:
    assert command.main(["--processes", "3"]) == 0
    assert [option(each) for each in ("--processes", "--users", "--spawn-rate", "--streams")] == ["3"] * 4


@pytest.mark.usefixtures("_account")
def test_what_is_not_ours_is_locusts() -> None:
    command.main(["--json"])
    assert Locust.arguments[-1] == "--json"


@pytest.mark.usefixtures("_account")
def test_the_key_is_on_no_command_line() -> None:
    command.main([])
    assert not any(KEY in argument for argument in Locust.arguments)
    assert Locust.environment["SLUICE_API_KEY"] == KEY


@pytest.mark.usefixtures("_account")
@pytest.mark.parametrize("code", [0, 1])
def test_what_locust_says_is_what_the_command_says(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Locust, "code", code)
    assert command.main([]) == code


def test_without_a_platform_there_is_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([]) == 2
    assert capsys.readouterr().err.startswith("error: no platform to talk to")


@pytest.mark.usefixtures("_account")
def test_options_that_make_no_sense_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--limit", "sync"]) == 2
    assert "write NAME=P95,P99" in capsys.readouterr().err


@pytest.mark.usefixtures("_account")
def test_a_platform_that_fails_its_first_call_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Closed(Platform):
        def call(self, method: str, path: str, body: object = None) -> Answer:
            raise FailedError("401 invalid_api_key")

    monkeypatch.setattr(command, "HttpClient", lambda *_args, **_options: Closed())
    Locust.arguments = []
    assert command.main([]) == 2
    assert "the first chat failed: 401 invalid_api_key" in capsys.readouterr().err
    assert not Locust.arguments


@pytest.mark.usefixtures("_account")
def test_a_cold_run_begins_without_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: Any, **_options: Any) -> None:
        raise AssertionError("nobody was to be called")

    monkeypatch.setattr(command, "HttpClient", refuse)
    assert command.main(["--cold"]) == 0


def sampled(monkeypatch: pytest.MonkeyPatch, values: Mapping[str, Callable[[float], float]]) -> None:
    """Let the watch have seen these series, each a function of the time."""

    class Seen:
        def __init__(self, _probes: object) -> None:
            self.samples = [Sample(at, {name: of(at) for name, of in values.items()}) for at in range(0, 1200, 5)]

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(watch, "Watch", Seen)
    monkeypatch.setattr(watch, "queue_probe", lambda _: dict)


FLAT: dict[str, Callable[[float], float]] = {
    "largest worker MB": lambda _: 56,
    "model server MB": lambda _: 150,
    "async queue": lambda _: 0,
}


@pytest.mark.usefixtures("_account")
@pytest.mark.parametrize(
    ("grown", "code"),
    [
        ({}, 0),
        ({"largest worker MB": lambda at: 56 + at / 100}, 1),
        ({"model server MB": lambda at: 150 + at / 10}, 1),
        ({"async queue": lambda at: at / 10}, 1),
        ({"async dlq": lambda at: float(at > 1000)}, 1),
        # 20 KB for each of two arrivals a second is what it keeps for others; 80 KB is more than that.
        ({"local cloud MB": lambda at: 130 + at * 2 * 70 / 1024}, 0),
        ({"local cloud MB": lambda at: 130 + at * 2 * 120 / 1024}, 1),
    ],
    ids=["nothing", "worker", "models", "queue", "dead letter", "what the cloud keeps", "cloud"],
)
def test_a_watched_run_fails_when_something_grew(
    grown: dict[str, Callable[[float], float]], code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sampled(monkeypatch, FLAT | grown)
    assert command.main(["--load-profile", "soak"]) == code
    assert (tmp_path / ".local/reports/load/soak/watch.csv").is_file()


@pytest.mark.usefixtures("_account")
def test_a_run_that_is_not_watched_does_not_care_what_grew(monkeypatch: pytest.MonkeyPatch) -> None:
    sampled(monkeypatch, {"async queue": lambda at: at})
    assert command.main(["--load-profile", "mix"]) == 0
