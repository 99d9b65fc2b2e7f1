"""Terraform's provider is answered a moment later than everybody else."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, read without MiniStack, which lives in an environment of its own."""
    monkeypatch.setitem(sys.modules, "ministack", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "ministack.app", SimpleNamespace())
    found = importlib.util.spec_from_file_location("patient_ministack", ROOT / "local" / "patient_ministack.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    monkeypatch.setitem(sys.modules, "ministack", SimpleNamespace(app=SimpleNamespace()))
    found.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("agent", "pauses"),
    [
        (b"APN/1.0 HashiCorp/1.0 Terraform/1.11.4 terraform-provider-aws/5.100.0 aws-sdk-go-v2/1.36.3", 1),
        (b"Botocore/1.42.0 sluice", 0),
    ],
)
def test_only_the_provider_waits(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, agent: bytes, pauses: int
) -> None:
    slept: list[float] = []
    sent: list[str] = []

    async def app(_: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start"})
        await send({"type": "http.response.body"})

    async def send(event: Any) -> None:
        sent.append(event["type"])

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    scope = {"type": "http", "headers": [(b"user-agent", agent)]}
    asyncio.run(module.patient(app)(scope, None, send))
    assert sent == ["http.response.start", "http.response.body"]
    assert slept == [module.PAUSE_S] * pauses
