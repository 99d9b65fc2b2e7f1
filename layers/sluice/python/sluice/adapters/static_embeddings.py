"""Static embeddings inside the function: a text's vector is the mean of its tokens' vectors, at unit length.

Nothing is inferred but looked up, so a core embeds tens of thousands of short texts a second. The weights and the
tokenizer are wordllama's (``l2_supercat_256``: 256 dimensions, trained so that the first ones carry the most;
https://github.com/dleemiller/WordLlama). They come with the layer ``embeddings``, beside numpy and tokenizers, which
only this module imports: whoever imports it pays for them.
"""

import importlib.util
import os
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

# Left to themselves both start a thread per core, whose memory is paid for; what runs side by side here are functions.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import msgspec
import numpy as np
from tokenizers import Tokenizer

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float32]

DIMENSIONS: Final = 256
# Of one text: what the models of providers that this one stands beside take.
MAX_TOKENS: Final = 8192

_PACKAGE: Final = "wordllama"
_WEIGHTS: Final = "weights/l2_supercat_256.safetensors"
_TOKENIZER: Final = "tokenizers/l2_supercat_tokenizer_config.json"
_TENSOR: Final = "embedding.weight"
# No token of this tokenizer stands for more characters, so a text that is longer than this many times the limit need
# not be cut into tokens to know that it is too long.
_LONGEST_TOKEN: Final = 16
# The vectors of so many tokens are laid side by side at once, 1 kB each.
_GATHERED_TOKENS: Final = 8192
# As exact as the 32-bit numbers are at unit length (half a unit in their last place is 4e-9 from 0.06 on), and half as
# long when they are written out.
_DECIMALS: Final = 8


class TextTooLongError(ValueError):
    """A text, counted from 0, has more than ``MAX_TOKENS`` tokens."""

    def __init__(self, index: int) -> None:
        super().__init__(f"Input {index} has more than {MAX_TOKENS:,} tokens.")


class UnusableWeightsError(ValueError):
    """The files of the model are not what this code can read."""


class _Tensor(msgspec.Struct, frozen=True):
    dtype: str
    shape: tuple[int, int]
    data_offsets: tuple[int, int]


class StaticEmbedder:
    """The model. Safe to use from several threads: nothing of it changes after loading."""

    def __init__(self, table: "FloatArray", tokenizer: Tokenizer) -> None:
        self._table = table
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, folder: Path | None = None) -> Self:
        """The model in ``folder``, else the one that comes with the layer. Takes 33 MB and a fifth of a second.

        :raises OSError: a file is missing or cannot be read.
        :raises UnusableWeightsError: a file holds something else.
        """
        folder = folder or _packaged()
        try:
            tokenizer = Tokenizer.from_str((folder / _TOKENIZER).read_text(encoding="utf-8"))
        except OSError:
            raise
        # What tokenizers raises is Exception itself.
        except Exception as exc:
            raise UnusableWeightsError("The tokenizer's file cannot be understood.") from exc
        return cls(_read_table(folder / _WEIGHTS), tokenizer)

    def embed(
        self, texts: Sequence[str], *, dimensions: int = DIMENSIONS
    ) -> tuple[list[tuple[float, ...]], tuple[int, ...]]:
        """A vector of 1 to 256 ``dimensions`` for each text, and how many tokens each has.

        A text of no tokens has a vector of zeros. What a text gets does not depend on the texts beside it.

        :raises TextTooLongError: naming the first text that is.
        """
        for index, text in enumerate(texts):
            if len(text) > MAX_TOKENS * _LONGEST_TOKEN:
                raise TextTooLongError(index)
        tokens = [each.ids for each in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]
        counts = tuple(map(len, tokens))
        if counts and max(counts) > MAX_TOKENS:
            raise TextTooLongError(next(index for index, count in enumerate(counts) if count > MAX_TOKENS))
        means = np.zeros((len(texts), dimensions), dtype=np.float32)
        for rows in _runs(counts):
            means[rows] = self._sums(tokens[rows], counts[rows])[:, :dimensions]
        rounded: list[list[float]] = np.round(_unit(means).astype(np.float64), _DECIMALS).tolist()
        return list(map(tuple, rounded)), counts

    def _sums(self, tokens: Sequence[list[int]], counts: Sequence[int]) -> "FloatArray":
        """The sum of each text's token vectors, which points where their mean points."""
        sums = np.zeros((len(tokens), DIMENSIONS), dtype=np.float32)
        filled = np.flatnonzero(counts)
        if filled.size:
            flat = np.fromiter(chain.from_iterable(tokens), dtype=np.intp, count=sum(counts))
            sizes = np.asarray(counts)[filled]
            sums[filled] = np.add.reduceat(self._table[flat], np.cumsum(sizes) - sizes, axis=0)
        return sums


def _packaged() -> Path:
    # Found, not imported: the layer holds the package's data without its code.
    spec = importlib.util.find_spec(_PACKAGE)
    places = spec.submodule_search_locations if spec else None
    if not places:
        raise FileNotFoundError("The embedding model is not packaged here.")
    return Path(next(iter(places)))


def _read_table(path: Path) -> "FloatArray":
    """The one tensor of a safetensors file: length of the header (8 bytes), header (JSON), numbers.

    The format: https://github.com/huggingface/safetensors#format.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = file.read(min(size, 1_000_000))
    try:
        tensor = msgspec.json.decode(header, type=dict[str, msgspec.Raw]).get(_TENSOR)
        described = msgspec.json.decode(tensor or b"", type=_Tensor)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise UnusableWeightsError("The header of the weights cannot be understood.") from exc
    begin, end = described.data_offsets
    rows = described.shape[0]
    if (described.dtype, described.shape, end - begin) != ("F16", (rows, DIMENSIONS), rows * DIMENSIONS * 2):
        raise UnusableWeightsError("The weights are of another kind.")
    if path.stat().st_size < 8 + size + end:
        raise UnusableWeightsError("The weights are cut off.")
    # Mapped, so that the 16-bit numbers themselves never take up memory of their own.
    stored = np.memmap(path, dtype="<f2", mode="r", offset=8 + size + begin, shape=(rows, DIMENSIONS))
    return np.ascontiguousarray(stored, dtype=np.float32)


def _runs(counts: Sequence[int]) -> Iterator[slice]:
    """Cut the rows into runs of at most ``_GATHERED_TOKENS`` tokens, and of one row at least."""
    start = total = 0
    for row, count in enumerate(counts):
        if total + count > _GATHERED_TOKENS and row > start:
            yield slice(start, row)
            start, total = row, 0
        total += count
    if start < len(counts):
        yield slice(start, len(counts))


def _unit(vectors: "FloatArray") -> "FloatArray":
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    lengths[lengths == 0] = 1.0
    scaled: FloatArray = vectors / lengths
    return scaled
