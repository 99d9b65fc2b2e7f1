"""What Lambda hands to a function: its context, and the events of API Gateway and of Function URLs."""

import json
from collections.abc import Mapping
from typing import Any


class FakeLambdaContext:
    """Lambda's context object, with ``seconds`` left."""

    def __init__(self, *, seconds: float = 29.0, request_id: str = "lambda-request-1") -> None:
        self.aws_request_id = request_id
        self._seconds = seconds

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda would kill the function."""
        return int(self._seconds * 1000)


def api_event(  # noqa: PLR0913 - all that an event may say, most of it left out by each test
    method: str,
    resource: str,
    *,
    body: object = None,
    headers: Mapping[str, str] | None = None,
    path_parameters: Mapping[str, str] | None = None,
    authorizer: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
    actor: str | None = None,
) -> dict[str, Any]:
    """A proxy event of a REST API (payload 1.0). A body that is not text is sent as JSON.

    ``authorizer`` is the context of a route with API keys, ``actor`` the ARN of whoever signed for an admin route.
    """
    return {
        "version": "1.0",
        "resource": resource,
        "path": resource,
        "httpMethod": method,
        "headers": dict(headers or {}),
        "queryStringParameters": dict(query) if query else None,
        "pathParameters": dict(path_parameters) if path_parameters else None,
        "requestContext": {
            "requestId": "gateway-request-1",
            "stage": "api",
            "authorizer": dict(authorizer or {}),
            "identity": {"userArn": actor},
        },
        "body": body if body is None or isinstance(body, str) else json.dumps(body),
        "isBase64Encoded": False,
    }


def url_event(
    method: str, path: str, *, body: object = None, headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """An event of a Function URL (payload 2.0), whose header names come in lower case. A body as in api_event."""
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {name.lower(): value for name, value in (headers or {}).items()},
        "requestContext": {
            "accountId": "anonymous",
            "requestId": "url-request-1",
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1"},
            "stage": "$default",
        },
        "body": body if body is None or isinstance(body, str) else json.dumps(body),
        "isBase64Encoded": False,
    }


def streamed_response(sent: str) -> tuple[dict[str, Any], str]:
    """What a function sent to its URL in streaming mode: the prelude (``statusCode``, ``headers``) and the body."""
    prelude, _, body = sent.partition("\0" * 8)
    return json.loads(prelude), body


ADMINISTRATOR = "arn:aws:sts::000000000000:assumed-role/operators/ada"
CALLER = {"key_id": "key_1", "key_name": "tests", "principalId": "key_1"}
