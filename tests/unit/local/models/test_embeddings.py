"""Vectors and token counts of the embedding model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import wordllama

from local.models.embeddings import Embedder

TEXTS = ["a dog runs in the park", "a puppy is running outside", "quarterly tax accounting rules", "Naïve 日本 🙂"]


def test_vectors_are_those_of_wordllama_itself(embedder: Embedder) -> None:
    folder = Path(wordllama.__file__).parent
    theirs = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)
    assert embedder.embed(TEXTS, normalise=False) == pytest.approx(theirs.embed(TEXTS), abs=1e-6)
    assert embedder.embed(TEXTS) == pytest.approx(theirs.embed(TEXTS, norm=True), abs=1e-6)


def test_fewer_dimensions_are_the_first_ones_at_unit_length(embedder: Embedder) -> None:
    whole, short = embedder.embed(TEXTS), embedder.embed(TEXTS, dimensions=64)
    lengths = np.linalg.norm(whole[:, :64], axis=1, keepdims=True)
    assert short == pytest.approx(whole[:, :64] / lengths, abs=1e-6)


def test_an_empty_text_is_a_zero_vector(embedder: Embedder) -> None:
    assert not embedder.embed(["", "a"])[0].any()
    assert embedder.embed([]).shape == (0, 256)


def test_a_batch_gives_what_each_text_gives_alone(embedder: Embedder) -> None:
    alone = np.concatenate([embedder.embed([text]) for text in TEXTS])
    assert np.array_equal(embedder.embed(TEXTS), alone)


def test_tokens_are_counted_without_padding(embedder: Embedder) -> None:
    counts = [embedder.count(text) for text in TEXTS]
    assert counts == [len(embedder._ids(text)) for text in TEXTS]
    assert counts[0] == 6
    assert embedder.count("") == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "Bicycles travel free of charge.",
        "Naïve  日本 🙂🙂!",
        "🙂",
        "👩‍👩‍👧‍👦 family",
        "\n\n a \t b ",
        "x" * 300,
    ],
)
def test_pieces_joined_are_the_text_and_hold_all_its_tokens(embedder: Embedder, text: str) -> None:
    pieces = embedder.pieces(text)
    assert "".join(piece.text for piece in pieces) == text
    assert sum(piece.tokens for piece in pieces) == embedder.count(text)
    assert all(piece.text and piece.tokens for piece in pieces)


def test_a_word_is_a_piece(embedder: Embedder) -> None:
    assert embedder.pieces("The ferry leaves")[0].text == "The"
    assert len(embedder.pieces("The ferry leaves")) >= 3
