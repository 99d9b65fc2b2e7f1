import random
import sys
from collections.abc import Callable
from types import ModuleType

import pytest

from sluice.runtime import snapstart
from sluice.runtime.snapstart import before_snapshot
from sluice.telemetry import tracing


class Hooks:
    """What is registered to be called before the snapshot, and after a container was restored from it."""

    def __init__(self) -> None:
        self.before: list[Callable[[], object]] = []
        self.after: list[Callable[[], object]] = []


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> Hooks:
    registered = Hooks()
    module = ModuleType("snapshot_restore_py")
    module.register_before_snapshot = registered.before.append  # type: ignore[attr-defined]
    module.register_after_restore = registered.after.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "snapshot_restore_py", module)
    return registered


def test_outside_lambda_nothing_is_prepared_early() -> None:
    prepared: list[str] = []
    prepare = before_snapshot(lambda: prepared.append("now"))
    assert prepared == []
    prepare()
    assert prepared == ["now"]


def test_with_snapstart_it_is_prepared_for_the_snapshot(monkeypatch: pytest.MonkeyPatch, hooks: Hooks) -> None:
    monkeypatch.setenv(snapstart.INIT_VARIABLE, "snap-start")
    prepared: list[str] = []
    before_snapshot(lambda: prepared.append("now"))
    assert prepared == []
    [hook] = hooks.before
    hook()
    assert prepared == ["now"]


def test_restored_containers_draw_random_numbers_of_their_own(monkeypatch: pytest.MonkeyPatch, hooks: Hooks) -> None:
    monkeypatch.setenv(snapstart.INIT_VARIABLE, "snap-start")
    before_snapshot(lambda: None)
    snapshot, drawn = random.getstate(), set[float]()
    for _ in range(3):
        random.setstate(snapshot)
        for hook in hooks.after:
            hook()
        drawn.add(random.uniform(0, 1))
    assert len(drawn) == 3


@pytest.mark.parametrize("kind", ["on-demand", "provisioned-concurrency"])
def test_without_snapstart_it_is_prepared_in_the_init_phase(
    monkeypatch: pytest.MonkeyPatch, hooks: Hooks, kind: str
) -> None:
    monkeypatch.setenv(snapstart.INIT_VARIABLE, kind)
    prepared: list[str] = []
    monkeypatch.setattr(tracing, "prepare", lambda: prepared.append("tracing"))
    before_snapshot(lambda: prepared.append("clients"))
    assert prepared == ["tracing", "clients"]
    assert (hooks.before, hooks.after) == ([], [])


def test_a_failure_is_left_for_the_request_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(snapstart.INIT_VARIABLE, "on-demand")

    def prepare() -> str:
        raise RuntimeError("misconfigured")

    with pytest.raises(RuntimeError, match="misconfigured"):
        before_snapshot(prepare)()
