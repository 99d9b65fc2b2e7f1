"""The control plane: health, faults, and how often each model was called."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local.models.faults import FaultBook, FaultSpecError, parse
from local.models.ledger import Ledger
from local.models.settings import CHAT_MODEL, MODELS

Endpoint = Callable[[Request], Awaitable[Response]]


def routes(faults: FaultBook, ledger: Ledger, *, chat_forwarded: bool) -> list[Route]:
    """Routes of the control plane over these two."""

    async def health(_: Request) -> Response:
        # The socket only listens once every model is loaded: to answer is to be ready.
        chat = "forwarded" if chat_forwarded else CHAT_MODEL
        return JSONResponse({"status": "ready", "models": list(MODELS), "chat": chat})

    async def put_fault(request: Request) -> Response:
        model = request.path_params["model"]
        if model not in MODELS:
            return _bad(f"model: {model!r} is unknown; there are {', '.join(MODELS)}")
        try:
            fault = parse(await request.body())
        except FaultSpecError as wrong:
            return _bad(str(wrong))
        faults.set(model, fault)
        return JSONResponse({"faults": [one for one in faults.active() if one["model"] == model]})

    async def get_faults(_: Request) -> Response:
        return JSONResponse({"faults": faults.active()})

    async def delete_faults(request: Request) -> Response:
        return JSONResponse({"deleted": faults.clear(request.path_params.get("model"))})

    async def get_requests(request: Request) -> Response:
        return JSONResponse(ledger.report(request.query_params.get("model")))

    async def delete_requests(_: Request) -> Response:
        ledger.reset()
        return JSONResponse({"deleted": True})

    return [
        Route("/health", health, methods=["GET"]),
        Route("/faults", get_faults, methods=["GET"]),
        Route("/faults", delete_faults, methods=["DELETE"]),
        Route("/faults/{model}", put_fault, methods=["PUT"]),
        Route("/faults/{model}", delete_faults, methods=["DELETE"]),
        Route("/requests", get_requests, methods=["GET"]),
        Route("/requests", delete_requests, methods=["DELETE"]),
    ]


def _bad(message: str) -> Response:
    return JSONResponse({"error": message}, status_code=400)
