"""The application: loaded models behind every protocol's routes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Mount, Route

from local.models import bedrock, control, guardrails, openai, sagemaker, token_classes
from local.models.chat import ChatEngine, LocalChat
from local.models.embeddings import Embedder
from local.models.exchange import Exchange, Operation
from local.models.faults import FaultBook
from local.models.guardrails import GuardrailBook
from local.models.lead_scorer import LeadScorer
from local.models.ledger import Ledger
from local.models.replies import Reply, WireError, json_reply
from local.models.settings import CHAT_MODEL, EMBEDDING_MODEL, Settings
from local.models.token_classes import ClassBook, SortedChat
from local.models.upstream import UpstreamChat

if TYPE_CHECKING:
    from starlette.requests import Request

_OPENAI_ROOT = "/openai/v1"


@dataclass(frozen=True)
class LoadedModels:
    """Everything that answers."""

    embedder: Embedder
    chat: ChatEngine
    scorer: LeadScorer

    @classmethod
    def load(cls, settings: Settings) -> LoadedModels:
        """Load the embeddings and the scorer, and choose who answers chat.

        Raises:
            OSError: the weights or the scorer are missing.
        """
        embedder = Embedder.load()
        chat: ChatEngine = LocalChat(embedder)
        if settings.upstream is not None:
            chat = UpstreamChat(settings.upstream, embedder)
        return cls(embedder, chat, LeadScorer.load())


def create_app(models: LoadedModels) -> Starlette:
    """The ASGI application over ``models``, with no fault or guardrail set and no call counted."""
    faults, ledger = FaultBook(), Ledger()
    exchange = Exchange(faults, ledger)
    forwarded = isinstance(models.chat, UpstreamChat)
    classes, guards = ClassBook(), GuardrailBook(models.embedder)
    models = replace(models, chat=SortedChat(models.chat, classes))
    return Starlette(
        routes=[
            *control.routes(faults, ledger, chat_forwarded=forwarded),
            *guardrails.routes(guards),
            *token_classes.routes(classes),
            *_bedrock_routes(exchange, models, guards),
            *_sagemaker_routes(exchange, models),
            Mount(_OPENAI_ROOT, routes=_openai_routes(exchange, models)),
        ],
        exception_handlers={HTTPException: _no_such_route},
    )


def _bedrock_routes(exchange: Exchange, models: LoadedModels, guards: GuardrailBook) -> list[Route]:
    dialect = bedrock.BedrockDialect()
    operations = {
        "converse": Operation(
            "converse", dialect, bedrock.identify(CHAT_MODEL, streaming=False), bedrock.converse(models.chat, guards)
        ),
        "converse-stream": Operation(
            "converse_stream",
            dialect,
            bedrock.identify(CHAT_MODEL, streaming=True),
            bedrock.converse_stream(models.chat, guards),
        ),
        "invoke": Operation(
            "invoke_model",
            dialect,
            bedrock.identify(EMBEDDING_MODEL, streaming=False),
            bedrock.invoke_embeddings(models.embedder),
        ),
    }
    # ":path" because an ARN arrives URL-encoded, and decoded it has slashes.
    return [
        Route(f"/model/{{model:path}}/{verb}", exchange.endpoint(operation), methods=["POST"])
        for verb, operation in operations.items()
    ]


def _sagemaker_routes(exchange: Exchange, models: LoadedModels) -> list[Route]:
    operation = Operation(
        "invoke_endpoint", sagemaker.SagemakerDialect(), sagemaker.identify, sagemaker.invoke(models.scorer)
    )
    return [Route("/endpoints/{name}/invocations", exchange.endpoint(operation), methods=["POST"])]


def _openai_routes(exchange: Exchange, models: LoadedModels) -> list[Route]:
    dialect = openai.OpenaiDialect()
    chat = Operation("chat.completions", dialect, openai.identify(CHAT_MODEL), openai.chat_completions(models.chat))
    embed = Operation("embeddings", dialect, openai.identify(EMBEDDING_MODEL), openai.embeddings(models.embedder))

    async def list_models(request: Request) -> Response:
        return _guarded(request)

    async def get_model(request: Request) -> Response:
        return _guarded(request, request.path_params["model"])

    return [
        Route("/chat/completions", exchange.endpoint(chat), methods=["POST"]),
        Route("/embeddings", exchange.endpoint(embed), methods=["POST"]),
        Route("/models", list_models, methods=["GET"]),
        Route("/models/{model:path}", get_model, methods=["GET"]),
    ]


def _guarded(request: Request, model: str | None = None) -> Response:
    try:
        openai.authorise(request)
        return _response(openai.list_models() if model is None else openai.get_model(model))
    except WireError as refusal:
        return _response(refusal.reply)


async def _no_such_route(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    path = request.url.path
    if path.startswith(_OPENAI_ROOT):
        return _response(openai.unknown_route(request.method, path, status))
    name = {"x-amzn-ErrorType": "UnknownOperationException"}
    return _response(json_reply(status, {"message": f"{request.method} {path} is not served here"}, name))


def _response(reply: Reply) -> Response:
    return Response(reply.body, reply.status, dict(reply.headers), reply.media_type)
