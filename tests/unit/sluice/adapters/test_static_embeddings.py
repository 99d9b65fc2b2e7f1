"""The embedding model inside the function: its vectors are the local model server's, its files are what it takes."""

from __future__ import annotations

import json
import math
import struct
import sys
import threading
from pathlib import Path

import pytest
import wordllama
from tokenizers import Tokenizer

from local.models.embeddings import Embedder
from sluice.adapters import static_embeddings
from sluice.adapters.in_process import InProcess
from sluice.adapters.static_embeddings import (
    DIMENSIONS,
    MAX_TOKENS,
    StaticEmbedder,
    TextTooLongError,
    UnusableWeightsError,
)
from sluice.domain import errors
from sluice.domain.inference import EmbeddingRequest, EmbeddingResult, Operation
from sluice.domain.routing import Target

TARGET = Target(
    name="in-process/static-embeddings", provider="in_process", model="static-embeddings", operations=(Operation.EMBED,)
)
TEXTS = (
    "a dog runs in the park",
    "quarterly tax accounting rules",
    "Naïve  日本 🙂🙂!",
    "\n\n a \t b ",
    "word " * 3000,
    "",
    "🙂",
)
FOLDER = Path(wordllama.__file__).parent
WEIGHTS, TOKENIZER = "weights/l2_supercat_256.safetensors", "tokenizers/l2_supercat_tokenizer_config.json"


@pytest.fixture(scope="module")
def model() -> StaticEmbedder:
    return StaticEmbedder.load()


@pytest.fixture(scope="module")
def theirs() -> Embedder:
    return Embedder.load()


@pytest.fixture
def provider(model: StaticEmbedder) -> InProcess:
    return InProcess(load_embedder=lambda: model)


def embed(
    provider: InProcess,
    *texts: str,
    dimensions: int | None = None,
    timeout_s: float = 10.0,
    target: Target = TARGET,
) -> EmbeddingResult:
    request = EmbeddingRequest(model="embed-static", inputs=texts, dimensions=dimensions)
    return provider.embed(target, request, timeout_s=timeout_s)


def refusal(
    provider: InProcess, *texts: str, dimensions: int | None = None, target: Target = TARGET
) -> errors.ProviderError:
    with pytest.raises(errors.ProviderError) as raised:
        embed(provider, *texts, dimensions=dimensions, target=target)
    assert raised.value.target == target.name
    return raised.value


@pytest.mark.parametrize("dimensions", [None, 1, 64, DIMENSIONS])
def test_vectors_and_counts_are_those_of_the_model_server(
    provider: InProcess, theirs: Embedder, dimensions: int | None
) -> None:
    result = embed(provider, *TEXTS, dimensions=dimensions)
    expected = theirs.embed(TEXTS, dimensions=dimensions or DIMENSIONS).tolist()
    for vector, other in zip(result.vectors, expected, strict=True):
        assert list(vector) == pytest.approx(other, abs=1e-6)
    assert result.tokens_by_input == tuple(theirs.count(text) for text in TEXTS)
    assert result.usage.input_tokens == sum(result.tokens_by_input)


def test_a_vector_has_unit_length_unless_the_text_is_empty(provider: InProcess) -> None:
    vectors = embed(provider, *TEXTS).vectors
    assert [math.hypot(*vector) for vector in vectors] == pytest.approx([1, 1, 1, 1, 1, 0, 1], abs=1e-6)


def test_what_a_text_gets_does_not_depend_on_its_neighbours(
    provider: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = tuple(embed(provider, text).vectors[0] for text in TEXTS)
    assert embed(provider, *TEXTS).vectors == alone
    monkeypatch.setattr(static_embeddings, "_GATHERED_TOKENS", 7)
    assert embed(provider, *TEXTS).vectors == alone


def test_thousands_of_texts_are_one_call(provider: InProcess, theirs: Embedder) -> None:
    texts = tuple(f"line {number} of a long list" for number in range(3000))
    result = embed(provider, *texts)
    assert len(result.vectors) == len(result.tokens_by_input) == 3000
    for number in (0, 255, 256, 2999):
        assert list(result.vectors[number]) == pytest.approx(theirs.embed([texts[number]])[0].tolist(), abs=1e-6)


def test_written_out_a_number_has_eight_decimals_at_most(provider: InProcess) -> None:
    written = {json.dumps(number) for number in embed(provider, TEXTS[0]).vectors[0]}
    assert max(len(text.split("e")[0].removeprefix("-")) for text in written) <= len("0.12345678")


def test_a_text_at_the_limit_is_embedded_and_one_token_more_is_not(model: StaticEmbedder, provider: InProcess) -> None:
    # A leading space belongs to the first word, so n words are n tokens.
    assert model.embed(["word " * (MAX_TOKENS - 1)])[1] == (MAX_TOKENS,)
    error = refusal(provider, "fine", "word " * MAX_TOKENS)
    assert isinstance(error, errors.ContextTooLongError)
    assert "8,192 tokens" in error.message


def test_a_text_that_is_too_long_by_its_characters_alone_is_never_cut_into_tokens(model: StaticEmbedder) -> None:
    longest = max(len(token) for token in Tokenizer.from_file(str(FOLDER / TOKENIZER)).get_vocab())
    assert longest == static_embeddings._LONGEST_TOKEN
    unused = StaticEmbedder(model._table, None)  # type: ignore[arg-type]  # whatever touches it fails
    with pytest.raises(TextTooLongError, match="Input 1 "):
        unused.embed(["fine", "x" * (MAX_TOKENS * longest + 1)])


@pytest.mark.parametrize("dimensions", [0, 257])
def test_dimensions_that_the_model_does_not_have_are_another_targets_business(
    provider: InProcess, dimensions: int
) -> None:
    error = refusal(provider, "a", dimensions=dimensions)
    assert isinstance(error, errors.UnsupportedByTargetError)
    assert error.param == "dimensions"


def test_time_that_is_over_ends_the_call_between_two_blocks(provider: InProcess) -> None:
    with pytest.raises(errors.ProviderTimeoutError):
        embed(provider, *(["a"] * 1000), timeout_s=0.0)


def test_only_its_own_model_embeds(provider: InProcess) -> None:
    other = Target(name="in/other", provider="in_process", model="other", operations=(Operation.EMBED,))
    error = refusal(provider, "a", target=other)
    assert (type(error), error.code, error.retryable) == (errors.ProviderAuthError, "provider_model_not_found", False)


def test_a_function_without_the_layer_says_that_the_model_is_not_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sluice.adapters.static_embeddings", None)
    assert refusal(InProcess(), "a").code == "provider_model_not_found"


def test_the_model_is_loaded_once_whoever_asks_at_the_same_time(model: StaticEmbedder) -> None:
    loads: list[int] = []
    together = threading.Barrier(4)

    def load() -> StaticEmbedder:
        loads.append(1)
        return model

    provider = InProcess(load_embedder=load)

    def ask() -> None:
        together.wait()
        embed(provider, "a")

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == [1]


def copied(tmp_path: Path, *, weights: bytes, tokenizer: bytes | None = None) -> Path:
    for name, content in ((WEIGHTS, weights), (TOKENIZER, tokenizer or (FOLDER / TOKENIZER).read_bytes())):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path


def weights(described: object, *, data: bytes = b"") -> bytes:
    header = json.dumps(described).encode()
    return struct.pack("<Q", len(header)) + header + data


def tensor(*, dtype: str = "F16", shape: tuple[int, ...] = (1, 256), offsets: tuple[int, int] = (0, 512)) -> object:
    return {"embedding.weight": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 64,
        weights("no object"),
        weights({}),
        weights(tensor(dtype="F32"), data=bytes(512)),
        weights(tensor(shape=(1, 128)), data=bytes(512)),
        weights(tensor(shape=()), data=bytes(512)),
        weights(tensor(offsets=(0, 256)), data=bytes(512)),
        weights(tensor(), data=bytes(511)),
    ],
)
def test_weights_of_another_kind_are_refused(tmp_path: Path, content: bytes) -> None:
    folder = copied(tmp_path, weights=content)
    with pytest.raises(UnusableWeightsError):
        StaticEmbedder.load(folder)
    error = refusal(InProcess(load_embedder=lambda: StaticEmbedder.load(folder)), "a")
    assert isinstance(error, errors.ProviderProtocolError)


def test_a_tokenizer_of_another_kind_is_refused(tmp_path: Path) -> None:
    folder = copied(tmp_path, weights=weights(tensor(), data=bytes(512)), tokenizer=b"{}")
    with pytest.raises(UnusableWeightsError):
        StaticEmbedder.load(folder)


def test_files_that_are_missing_make_the_target_unavailable(tmp_path: Path) -> None:
    error = refusal(InProcess(load_embedder=lambda: StaticEmbedder.load(tmp_path)), "a")
    assert isinstance(error, errors.ProviderUnavailableError)
