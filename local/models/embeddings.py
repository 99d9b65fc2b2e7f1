"""Static word-piece embeddings (wordllama): tokens, sentence vectors, word vectors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FloatArray = npt.NDArray[np.float32]

DIMENSIONS = 256


@dataclass(frozen=True)
class Piece:
    """A stretch of text and how many model tokens it is made of (more than one for an emoji)."""

    text: str
    tokens: int


class Embedder:
    """The embedding model: a vector per token, and a text is the mean of its tokens.

    Safe to call from several threads: the table is only read and the tokenizer is immutable.
    """

    def __init__(self, table: FloatArray, tokenizer: Tokenizer) -> None:
        self._table = table
        self._tokenizer = tokenizer

    @classmethod
    def load(cls) -> Embedder:
        """Load the weights that ship inside the wordllama package; nothing is downloaded.

        Raises:
            FileNotFoundError: the installed package lacks its weights.
        """
        # The tokenizer would otherwise start a thread per core for the shortest text.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        import wordllama

        loaded: Any = wordllama.WordLlama.load(
            cache_dir=Path(wordllama.__file__).parent, disable_download=True, dim=DIMENSIONS
        )
        tokenizer: Tokenizer = loaded.tokenizer
        # wordllama switches padding on, which would count the padding as tokens.
        tokenizer.no_padding()
        return cls(loaded.embedding, tokenizer)

    def count(self, text: str) -> int:
        """Tokens in ``text``, without special tokens."""
        return len(self._ids(text))

    def pieces(self, text: str) -> list[Piece]:
        """Cut ``text`` at its token borders; the pieces joined are exactly ``text``."""
        offsets = self._tokenizer.encode(text, add_special_tokens=False).offsets
        pieces: list[Piece] = []
        start = pending = 0
        for index, (_, end) in enumerate(offsets):
            pending += 1
            following = offsets[index + 1][1] if index + 1 < len(offsets) else None
            # A character spelled in bytes gives several tokens ending at one place.
            if following is not None and following <= end:
                continue
            stop = len(text) if following is None else end
            pieces.append(Piece(text[start:stop], pending))
            start, pending = stop, 0
        return pieces

    def embed(self, texts: Sequence[str], *, dimensions: int = DIMENSIONS, normalise: bool = True) -> FloatArray:
        """Vectors of shape ``(len(texts), dimensions)``.

        Fewer than 256 ``dimensions`` keeps the first ones: the model was trained so that these
        carry the most (Matryoshka). ``normalise`` gives unit length, except to an empty text,
        whose vector is zero.
        """
        vectors = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
        # One text at a time: a padded batch takes memory for its longest text times its size.
        for row, text in enumerate(texts):
            ids = self._ids(text)
            if ids:
                vectors[row] = self._table[ids].mean(axis=0)
        vectors = vectors[:, :dimensions]
        return unit(vectors) if normalise else vectors

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids


def unit(vectors: FloatArray) -> FloatArray:
    """Scale each row to length 1; zero rows stay zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    lengths[lengths == 0] = 1.0
    scaled: FloatArray = (vectors / lengths).astype(np.float32, copy=False)
    return scaled
