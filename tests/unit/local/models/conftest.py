"""The embedding model, loaded once for all tests of this folder."""

from __future__ import annotations

import pytest

from local.models.embeddings import Embedder


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    return Embedder.load()
