"""Every error Sluice raises on purpose.

::

    SluiceError
    ├── CallerError                    the request cannot be served as it stands
    │   ├── InvalidRequestError        a field is missing, malformed or unsupported (names the field)
    │   ├── AuthenticationError        no key, an unknown key, an expired or revoked key
    │   ├── PermissionDeniedError      a valid key that may not do this
    │   ├── RequestTooLargeError       the body has more bytes than the deployment takes
    │   ├── AnswerTooLargeError        the answer has more bytes than one response carries
    │   ├── NotFoundError              no such model, job or execution (of this caller)
    │   ├── AnswerNotTakenError        the answer was read too slowly, or not at all
    │   ├── ConflictError              the thing exists in a state that forbids the change
    │   │   └── RequestInFlightError   another request with this Idempotency-Key is still at work
    │   ├── IdempotencyMismatchError   this Idempotency-Key came with another request before
    │   └── LimitError                 the key has used what it may use
    │       ├── RateLimitedError       of this minute
    │       └── BudgetExceededError    of its money
    ├── ProviderError                  a model provider did not answer as asked
    │   ├── ProviderThrottledError     its rate limit; may carry Retry-After
    │   ├── ProviderOverloadedError    it says it is overloaded or not ready
    │   ├── ProviderTimeoutError       no answer within the attempt's time
    │   ├── AllTargetsUnavailableError every target that could answer has an open circuit
    │   ├── ProviderUnavailableError   connection refused, cut, or a 5xx
    │   ├── ProviderProtocolError      an answer that cannot be understood
    │   ├── InvalidModelOutputError    an answer that is not of the form asked for, even after one repair
    │   ├── ProviderAuthError          our credentials or permissions were refused
    │   └── ProviderRejectedError      it refuses this request; repeating it is useless
    │       ├── UnsupportedByTargetError  this target cannot do what a field asks for; another may
    │       ├── ContextTooLongError    the prompt does not fit the model
    │       └── ContentFilteredError   a safety system refused the content
    ├── WebhookError                   a caller's own server did not take a message
    ├── StateError                     a service that holds Sluice's own state failed
    │   └── StateConflictError         a conditional write found another state than expected
    └── ConfigurationError             the deployment is wrong: settings, routes or permissions

Mapping to HTTP happens once, in :mod:`sluice.runtime.http`; translation from a service's own errors once per adapter.
"""

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from sluice.domain.inference import Usage
    from sluice.domain.ledger import Limit, Standing
    from sluice.domain.routing import Report


class SluiceError(Exception):
    """Base of the tree: useful for ``except`` at a boundary, never raised itself.

    ``message`` is shown to the caller: it says what is wrong and what to do, and never holds a prompt, a key or an
    address.
    ``retryable`` says whether repeating the same work later can succeed. ``report`` says how far a request for
    inference had come.
    """

    retryable: ClassVar[bool] = False
    default_code: ClassVar[str | None] = None

    def __init__(self, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.param = param
        self.report: Report | None = None


class CallerError(SluiceError):
    """The caller has to change something before asking again."""


class InvalidRequestError(CallerError):
    """A field is missing, has the wrong type, is out of range or asks for something unsupported."""


class AuthenticationError(CallerError):
    """No key was sent, or the key is unknown, expired or revoked."""

    default_code = "invalid_api_key"


class PermissionDeniedError(CallerError):
    """The key is valid but may not use this model or route."""

    default_code = "permission_denied"


class RequestTooLargeError(CallerError):
    """The body has more bytes than this deployment takes."""

    default_code = "request_too_large"


class AnswerTooLargeError(CallerError):
    """The answer is there, and what it cost is billed, but it has more bytes than one response carries."""

    default_code = "answer_too_large"


class NotFoundError(CallerError):
    """The named thing does not exist, or belongs to another key (the two are never told apart)."""

    default_code = "not_found"


class AnswerNotTakenError(CallerError):
    """A streamed answer was read so slowly that its time was over."""

    default_code = "answer_not_taken"


class ConflictError(CallerError):
    """The thing exists in a state that forbids the change."""

    default_code = "conflict"


class RequestInFlightError(ConflictError):
    """Another request with the same Idempotency-Key is at work, until ``retry_after_s`` seconds from now at most."""

    default_code = "idempotency_in_progress"

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class IdempotencyMismatchError(CallerError):
    """The Idempotency-Key was used before, for a request with another route or body."""

    default_code = "idempotency_key_reused"


class LimitError(CallerError):
    """What the key may use does not hold this request. ``limit`` says which limit, ``standing`` how the key stands.

    ``retry_after_s`` is the time until there is room again, ``None`` when no waiting helps.
    """

    def __init__(self, message: str, *, limit: "Limit", standing: "Standing", retry_after_s: float | None) -> None:
        super().__init__(message)
        self.limit = limit
        self.standing = standing
        self.retry_after_s = retry_after_s


class RateLimitedError(LimitError):
    """Too many requests or tokens in this minute; the next one may do."""

    retryable = True
    default_code = "rate_limit_exceeded"


class BudgetExceededError(LimitError):
    """What the request may cost is more than what is left of a budget."""

    default_code = "insufficient_quota"


class ProviderError(SluiceError):
    """A model provider did not answer as asked. ``target`` is the route target's name.

    ``calls`` holds the tokens of every call that the provider bills although nothing came of the whole.
    """

    retryable = True
    default_code = "provider_error"

    def __init__(
        self,
        message: str,
        *,
        target: str,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, code=code, param=param)
        self.target = target
        self.retry_after_s = retry_after_s
        self.calls: tuple[Usage, ...] = ()


class ProviderThrottledError(ProviderError):
    """The provider's rate limit was hit; ``retry_after_s`` holds its Retry-After in seconds when it sent one."""

    default_code = "provider_throttled"


class ProviderOverloadedError(ProviderError):
    """The provider says that it is overloaded, warming up or out of capacity."""

    default_code = "provider_overloaded"


class ProviderTimeoutError(ProviderError):
    """The provider did not answer within the time of this attempt."""

    default_code = "provider_timeout"


class AnswerUnfinishedError(ProviderTimeoutError):
    """The provider was still writing when the time for the whole answer was over: it is too long, nobody was slow."""


class AllTargetsUnavailableError(ProviderError):
    """Nobody was asked: the circuit of every target is open. ``retry_after_s``: until the first may be asked again."""

    default_code = "all_targets_unavailable"


class ProviderUnavailableError(ProviderError):
    """The connection was refused or cut, or the provider answered with a server error."""

    default_code = "provider_unavailable"


class ProviderProtocolError(ProviderError):
    """The provider answered with something that its protocol does not allow."""

    default_code = "provider_bad_answer"


class InvalidModelOutputError(ProviderError):
    """The model answered, and was asked to repair its answer, and still did not keep to the form that was asked for."""

    retryable = False
    default_code = "invalid_model_output"


class ProviderAuthError(ProviderError):
    """The provider refused Sluice's credentials or permissions: only an operator can mend it."""

    retryable = False
    default_code = "provider_auth"


class ProviderRejectedError(ProviderError):
    """The provider refuses this very request; repeating it is useless."""

    retryable = False
    default_code = "provider_rejected"


class UnsupportedByTargetError(ProviderRejectedError):
    """This target cannot do what ``param`` asks for. Nothing was sent; another target may be able to."""

    default_code = "unsupported_parameter"


class ContextTooLongError(ProviderRejectedError):
    """Prompt and requested output do not fit the model's context."""

    default_code = "context_length_exceeded"


class ContentFilteredError(ProviderRejectedError):
    """A guardrail or the provider's safety system refused the content."""

    default_code = "content_filter"


class WebhookError(SluiceError):
    """A caller's own server did not take a message; it is never told to callers, but kept with the dead letter.

    ``retry_after_s`` is how long the server wants to be left alone, if it says so.
    """

    retryable = True

    def __init__(self, message: str, *, code: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class StateError(SluiceError):
    """DynamoDB, S3, SQS, Step Functions or EventBridge failed; nothing was half done that a repeat would not mend."""

    retryable = True
    default_code = "state_unavailable"


class StateConflictError(StateError):
    """A conditional write found another state than expected: somebody else was first."""

    retryable = False
    default_code = "state_conflict"


class LeasedError(StateConflictError):
    """Somebody else is at work on it, until ``lease_until`` (epoch seconds) at the latest."""

    def __init__(self, *, lease_until: int) -> None:
        super().__init__("Another worker has it.")
        self.lease_until = lease_until


class ConfigurationError(SluiceError):
    """The deployment itself is wrong: a setting, a route or a permission is missing. Only an operator can mend it."""

    default_code = "misconfigured"
