import sys
from types import ModuleType

import pytest

from sluice.runtime.snapstart import before_snapshot


def test_without_snapstart_nothing_is_prepared_early() -> None:
    prepared: list[str] = []
    prepare = before_snapshot(lambda: prepared.append("now"))
    assert prepared == []
    prepare()
    assert prepared == ["now"]


def test_with_snapstart_it_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    registered: list[object] = []
    hooks = ModuleType("snapshot_restore_py")
    hooks.register_before_snapshot = registered.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "snapshot_restore_py", hooks)

    def prepare() -> str:
        return "ready"

    assert before_snapshot(prepare) is prepare
    assert registered == [prepare]
