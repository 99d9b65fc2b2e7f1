"""The server's settings."""

from __future__ import annotations

import pytest

from local.models.settings import Settings, SettingsError, Upstream


def test_without_an_upstream_the_server_answers_chat_itself() -> None:
    assert Settings.parse(4577, {}) == Settings(4577, None)
    assert Settings.parse(0, {"SLUICE_LOCAL_LLM_URL": ""}).upstream is None


def test_an_upstream_has_a_url_and_may_have_a_model_and_a_key() -> None:
    environment = {
        "SLUICE_LOCAL_LLM_URL": "http://127.0.0.1:11434/v1/",
        "SLUICE_LOCAL_LLM_MODEL": "tiny",
        "SLUICE_LOCAL_LLM_API_KEY": "secret",
    }
    assert Settings.parse(1, environment).upstream == Upstream("http://127.0.0.1:11434/v1", "tiny", "secret")
    only_url = {"SLUICE_LOCAL_LLM_URL": "https://llm.internal/v1"}
    assert Settings.parse(1, only_url).upstream == Upstream("https://llm.internal/v1", None, "unused")


@pytest.mark.parametrize("port", [-1, 65_536])
def test_a_port_out_of_range_is_refused(port: int) -> None:
    with pytest.raises(SettingsError, match="--port must be between 0 and 65535"):
        Settings.parse(port, {})


@pytest.mark.parametrize("url", ["localhost:11434", "ftp://host/v1", "http://", "nonsense"])
def test_an_upstream_that_is_no_http_address_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="SLUICE_LOCAL_LLM_URL"):
        Settings.parse(1, {"SLUICE_LOCAL_LLM_URL": url})
