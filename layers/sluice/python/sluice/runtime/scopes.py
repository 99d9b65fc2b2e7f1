"""What a key is good for, held to at the door of each route."""

import functools
from collections.abc import Callable

from sluice.domain.errors import PermissionDeniedError
from sluice.domain.keys import Scope
from sluice.runtime.api import ApiRequest, ApiResponse, EventStream, Handler


def requires(scope: Scope) -> Callable[[Handler], Handler]:
    """Let only keys in that have ``scope``, or no scopes at all. To be put right under ``@api_function``.

    Anybody else gets 403 ``insufficient_scope``, before the body is looked at.
    """

    def guard(handler: Handler) -> Handler:
        @functools.wraps(handler)
        def guarded(request: ApiRequest) -> ApiResponse | EventStream:
            scopes = request.authenticated.scopes
            if scopes and scope.value not in scopes:
                raise PermissionDeniedError(
                    f"This key may not be used here: it lacks the scope '{scope.value}'.", code="insufficient_scope"
                )
            return handler(request)

        return guarded

    return guard
