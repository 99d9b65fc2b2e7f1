"""What the server is started with, and the fixed facts of the models it serves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

CHAT_MODEL = "extractive-v1"
EMBEDDING_MODEL = "wordllama-256"
SCORER_ENDPOINT = "lead-scorer"
MODELS = (CHAT_MODEL, EMBEDDING_MODEL, SCORER_ENDPOINT)

CHAT_CONTEXT_TOKENS = 32_768
CHAT_OUTPUT_TOKENS = 4_096
# Titan Text Embeddings V2 and OpenAI's embedding models both stop near here.
EMBEDDING_INPUT_TOKENS = 8_192
OPENAI_MAX_INPUTS = 2_048

# Asked for on purpose: without a key to check, nothing would prove that a caller sends its secret.
OPENAI_KEY = "local-models-key"

LOOPBACK = "127.0.0.1"


class SettingsError(ValueError):
    """Raised when the server is started with a value it cannot use; the message names it."""


@dataclass(frozen=True)
class Upstream:
    """An OpenAI-compatible server that answers chat instead of ``extractive-v1``.

    ``url`` is its base, usually ending in ``/v1``. ``model`` is what it is asked for; ``None``
    takes the first one it lists.
    """

    url: str
    model: str | None
    key: str


@dataclass(frozen=True)
class Settings:
    """``port`` 0 lets the system choose."""

    port: int
    upstream: Upstream | None = None

    @classmethod
    def parse(cls, port: int, environment: Mapping[str, str]) -> Settings:
        """Check the command line and the environment.

        Raises:
            SettingsError: a value is out of range or malformed.
        """
        if not 0 <= port <= 65_535:
            raise SettingsError(f"--port must be between 0 and 65535, not {port}")
        return cls(port, _upstream(environment))


def _upstream(environment: Mapping[str, str]) -> Upstream | None:
    url = environment.get("SLUICE_LOCAL_LLM_URL", "").rstrip("/")
    if not url:
        return None
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise SettingsError(f"SLUICE_LOCAL_LLM_URL must be an http(s) address, not {url!r}")
    return Upstream(
        url=url,
        model=environment.get("SLUICE_LOCAL_LLM_MODEL") or None,
        # Ollama and llama.cpp ignore the key, but the client library refuses to run without one.
        key=environment.get("SLUICE_LOCAL_LLM_API_KEY") or "unused",
    )
