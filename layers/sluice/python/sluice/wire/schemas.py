"""Which structs are published as schemas: API Gateway's models and the contracts of events."""

from typing import Final

from sluice.domain.events import EventV1
from sluice.wire.chat import ChatCompletionRequest
from sluice.wire.classify import ClassifyRequest
from sluice.wire.completions import CompletionRequest
from sluice.wire.embeddings import EmbeddingRequest
from sluice.wire.keys import AdminKeyRequest, AdminKeyRotateRequest, AdminKeyUpdateRequest
from sluice.wire.redrive import QueueRedriveRequest
from sluice.wire.score import ScoreRequestBody
from sluice.wire.simple_chat import SimpleChatRequest
from sluice.wire.summarize import SummarizeRequest
from sluice.wire.workflows import ChainExecutionRequest

GATEWAY_MODELS: Final[dict[str, type]] = {
    "AdminKeyRequest": AdminKeyRequest,
    "AdminKeyRotateRequest": AdminKeyRotateRequest,
    "AdminKeyUpdateRequest": AdminKeyUpdateRequest,
    "ChainExecutionRequest": ChainExecutionRequest,
    "ChatCompletionRequest": ChatCompletionRequest,
    "ChatRequest": SimpleChatRequest,
    "ClassifyRequest": ClassifyRequest,
    "CompletionRequest": CompletionRequest,
    "EmbeddingRequest": EmbeddingRequest,
    "QueueRedriveRequest": QueueRedriveRequest,
    "ScoreRequest": ScoreRequestBody,
    "SummarizeRequest": SummarizeRequest,
}
EVENT_TYPES: Final[dict[str, type]] = {"v1": EventV1}
