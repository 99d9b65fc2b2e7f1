"""What the errors of AWS services that hold Sluice's state mean, for every adapter of one.

(A model provider's errors mean something else: :mod:`sluice.adapters.bedrock` has its own translation.)
"""

from typing import Final

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError, ParamValidationError

from sluice.domain.errors import ConfigurationError, SluiceError, StateError

# Names differ between services and protocols; all of these need an operator, and no repeat will help.
_OPERATOR_CODES: Final = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AWS.SimpleQueueService.NonExistentQueue",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "KMS.AccessDeniedException",
        "KMS.DisabledException",
        "KMS.NotFoundException",
        "KMSAccessDeniedException",
        "KmsAccessDenied",
        "KmsDisabled",
        "KmsNotFound",
        "NoSuchBucket",
        "QueueDoesNotExist",
        "ResourceNotFoundException",
        "SignatureDoesNotMatch",
        "StateMachineDoesNotExist",
        "UnrecognizedClientException",
    }
)
_OPERATOR_FAILURES: Final = (NoCredentialsError, NoRegionError, ParamValidationError)


def code_of(error: ClientError | BotoCoreError) -> str:
    """The service's error code, or the class name when no answer came at all."""
    return str(error.response.get("Error", {}).get("Code")) if isinstance(error, ClientError) else type(error).__name__


def translate(error: ClientError | BotoCoreError, service: str) -> SluiceError:
    """The domain's word for ``error``; ``service`` is what its message calls the service."""
    code = code_of(error)
    if code in _OPERATOR_CODES or isinstance(error, _OPERATOR_FAILURES):
        return ConfigurationError(f"{service} refused a call of Sluice's own: {code}.")
    return StateError(f"{service} is not available at the moment. Try again.")
