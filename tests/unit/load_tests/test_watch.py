"""Growth is told from noise."""

from __future__ import annotations

import csv
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
import pytest

from load_tests.watch import Allowance, Sample, Watch, growth, memory_probe, queue_probe, verdicts, write
from local import cloud, model_server
from local.connection import Connection
from local.instance import Instance, Ports, PortVariables
from local.processes import Record

ALLOWED = {"MB": Allowance(0.05, 2)}


def series(value: Callable[[float], float], name: str = "MB", seconds: int = 1200) -> list[Sample]:
    return [Sample(at, {name: value(at)}) for at in range(0, seconds, 5)]


def passed(samples: list[Sample]) -> bool:
    return all(verdict.passed for verdict in verdicts(samples, ALLOWED, settled_s=100))


def test_what_stays_as_it_is_passes() -> None:
    chance = random.Random(1)
    assert passed(series(lambda _: 100 + chance.gauss(0, 1)))


def test_a_slow_leak_fails() -> None:
    chance = random.Random(1)
    assert not passed(series(lambda at: 100 + at / 100 + chance.gauss(0, 1)))


def test_a_moment_of_much_is_no_growth() -> None:
    assert passed(series(lambda at: 400 if 600 <= at < 700 else 100))
    assert passed(series(lambda at: 400 if at > 1150 else 100))


def test_what_is_given_back_is_no_growth() -> None:
    assert passed(series(lambda at: 100 if at < 600 else 60))


def test_the_beginning_does_not_count() -> None:
    assert passed(series(lambda at: min(100, at)))


def test_the_larger_of_share_and_units_is_allowed() -> None:
    assert passed(series(lambda at: 1000 if at < 600 else 1049))
    assert not passed(series(lambda at: 1000 if at < 600 else 1051))
    assert passed(series(lambda at: 0 if at < 600 else 2))
    assert not passed(series(lambda at: 0 if at < 600 else 3))


def test_growth_is_told_in_figures() -> None:
    assert growth(series(lambda at: at), "MB", settled_s=300) == (447.5, 1047.5)


def test_few_samples_prove_nothing() -> None:
    samples = series(lambda _: 1, seconds=100)
    assert growth(samples, "MB", settled_s=80) is None
    assert not passed(samples)


def test_one_dead_letter_is_one_too_many_however_soon_it_is_gone() -> None:
    samples = series(lambda at: 1.0 if at == 600 else 0.0, "async dlq")
    assert [str(each) for each in verdicts(samples, {}, settled_s=100)] == ["FAIL  async dlq: 1 new dead letters"]


def test_dead_letters_from_before_are_not_this_runs() -> None:
    assert [each.passed for each in verdicts(series(lambda _: 4.0, "async dlq"), {}, settled_s=100)] == [True]


def test_samples_are_taken_until_the_end_and_once_more_at_least() -> None:
    counts = iter(range(1000))
    with Watch([lambda: {"n": float(next(counts))}], every_s=0.02) as watch:
        time.sleep(0.2)
    taken = [sample.values["n"] for sample in watch.samples]
    assert len(taken) >= 4
    assert taken == sorted(taken)
    assert next(counts) == len(taken)


def test_a_probe_that_fails_once_does_not_blind_the_watch() -> None:
    first: list[OSError | dict[str, float]] = [OSError("away"), {"n": 1.0}, {"n": 2.0}]
    answers = iter(first)

    def probe() -> Mapping[str, float]:
        answer = next(answers, {"n": 3.0})
        if isinstance(answer, OSError):
            raise answer
        return answer

    with Watch([probe], every_s=0.02) as watch:
        time.sleep(0.2)
    assert [sample.values for sample in watch.samples][:3] == [{}, {"n": 1.0}, {"n": 2.0}]


def test_samples_are_kept_as_a_table(tmp_path: Path) -> None:
    write([Sample(0, {"b": 1}), Sample(5.04, {"a": 2.5, "b": 1})], tmp_path / "watch.csv")
    with (tmp_path / "watch.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["seconds", "a", "b"], ["0", "", "1"], ["5.0", "2.5", "1"]]


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    variables = PortVariables("SLUICE_CLOUD_PORT", "SLUICE_MODELS_PORT", "SLUICE_XRAY_PORT")
    return Instance("default", tmp_path, tmp_path / ".local", Ports(4566, 4577, 4578), variables)


def test_memory_is_that_of_the_recorded_processes(instance: Instance) -> None:
    me = psutil.Process()
    for name in (cloud.NAME, model_server.NAME):
        Record(name=name, pid=me.pid, started_at=me.create_time(), port=1, run="x").save(instance)
    values = memory_probe(instance)()
    assert values["local cloud MB"] == pytest.approx(me.memory_info().rss / 2**20, rel=0.1)
    assert values["model server MB"] > 1
    assert values["workers"] == len(me.children(recursive=True))


def test_processes_that_are_gone_have_no_memory(instance: Instance) -> None:
    assert set(memory_probe(instance)().values()) == {0.0}


class Queues:
    """SQS, as far as it is asked."""

    def get_queue_attributes(self, *, QueueUrl: str, AttributeNames: list[str]) -> dict[str, dict[str, str]]:  # noqa: N803
        depths = {"q": ("3", "2", "1"), "d": ("1", "0", "0")}[QueueUrl]
        return {"Attributes": dict(zip(AttributeNames, depths, strict=True))}


def test_every_queue_is_counted_with_what_is_in_flight_and_delayed(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "SLUICE_ASYNC_QUEUE_URL": "q",
        "SLUICE_ASYNC_DLQ_URL": "d",
        "SLUICE_URL": "x",
        "SLUICE_OTHER_QUEUE_URL": "",
    }
    monkeypatch.setattr(Connection, "client", lambda _self, _service: Queues())
    assert queue_probe(Connection(values, "a test", None))() == {"async queue": 6.0, "async dlq": 1.0}
