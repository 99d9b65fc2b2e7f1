"""The last line of defence of logs, traces and metrics: secrets and personal data become ``[redacted:<kind>]``.

The first line is that no code logs what a caller sent. This one is for what gets there all the same: a key in a request
id, an address in a provider's error, a token in somebody else's exception.

Every pattern starts from something that ordinary log lines rarely hold, and numbers have to prove what they are (a
card by its issuer and check digit, an IBAN by its checksum), because a log whose ids are blacked out helps nobody.
Repetitions are bounded, so a hostile text costs time in proportion to its length and no more.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from structlog.typing import EventDict, WrappedLogger

# Written by ourselves, for every line: nothing of a caller's can be in it.
_OUR_OWN: Final = frozenset({"timestamp", "level"})
# Opaque ids of a caller's choice: a key may hide in one, but a digit more or less does not make it a telephone number.
_IDS: Final = frozenset({"request_id", "trace_id", "key_id"})
# Fields that hold nothing but a secret, whatever it looks like.
_SECRET_FIELDS: Final = frozenset(
    {
        "access_token",
        "api_key",
        "apikey",
        "authorization",
        "client_secret",
        "cookie",
        "password",
        "private_key",
        "refresh_token",
        "secret",
        "secret_access_key",
        "session_token",
        "set-cookie",
        "token",
        "x-api-key",
    }
)

_PLAIN: Final = re.compile(r"[a-z_./ ]{0,40}")
_CONTAINER_DEPTH: Final = 12

# One expression, tried only where one of these few letters comes up at all.
_SECRET_HINT: Final = re.compile(
    r"sk-|whsec_|[rps]k_|gh[oprsu]_|github_pat_|glpat-|xox|AIza|hf_|gsk_|xai-|npm_|pypi-|A[A-Z]{3}[A-Z0-9]{2}|eyJ|-----BEGIN"
    r"|://|(?i:bearer|basic|secret|passw|api.?key|token|signature)"
)
_SECRET: Final = re.compile(
    r"""
      -----BEGIN[ A-Z]{0,30}PRIVATE\ KEY-----.{0,8192}?(?:-----END[ A-Z]{0,30}PRIVATE\ KEY-----|\Z)
    | (?<![A-Za-z0-9])(?:
          sk-[A-Za-z0-9_-]{16,512}                                     # Sluice, OpenAI, Anthropic, OpenRouter ...
        | whsec_[A-Za-z0-9+/=]{16,512}                                # webhooks: Sluice, OpenAI, Stripe
        | [rps]k_(?:live|test)_[A-Za-z0-9]{16,256}                     # Stripe
        | gh[oprsu]_[A-Za-z0-9]{30,256} | github_pat_\w{30,256} | glpat-[\w-]{20,256}
        | xox[a-z]-[A-Za-z0-9-]{10,256}                                # Slack
        | AIza[\w-]{35}                                                # Google
        | hf_[A-Za-z0-9]{30,256} | gsk_[A-Za-z0-9]{30,256} | xai-[A-Za-z0-9]{30,256}
        | npm_[A-Za-z0-9]{30,256} | pypi-[\w-]{50,512}
        | A(?:KI|SI|GP|ID|RO|IP|NP|NV)A[A-Z0-9]{16}(?![A-Za-z0-9])     # AWS access key ids and other identifiers
        | eyJ[\w-]{8,4096}\.[\w-]{8,8192}(?:\.[\w-]{0,4096})?          # a JSON Web Token
      )
    | (?P<kept>
          (?i:\b(?:bearer|basic)\s{1,4})
        | (?i:(?:secret|password|passwd|api[_-]?key|access[_-]?key|session[_-]?token|security[_-]?token|auth[_-]?token
              |access[_-]?token|refresh[_-]?token|signature)["']?\s{0,4}[:=]\s{0,4}["']?)
        | ://[^\s:/@]{1,256}:(?=[^\s/@]{1,256}@)
      )[^\s"',;&@<>()\[\]]{8,4096}
    """,
    re.VERBOSE | re.DOTALL,
)
_EMAIL: Final = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}"
)
_DIGITS: Final = re.compile(r"\d[\d ().-]{5}")
_CARD: Final = re.compile(
    r"(?<![\w.+-])(?:\d{13,19}|\d{4}([ -])\d{4}\1\d{4}\1\d{1,7}|\d{4}([ -])\d{6}\2\d{4,5})(?![\w-]|\.\d)"
)
# Issuers' first digits: Visa, Mastercard, American Express, Discover, Diners, JCB, Maestro, UnionPay.
_ISSUER: Final = re.compile(r"4|5[0-5]|2[2-7]|3[04-9]|6[0-9]")
_IBAN_HINT: Final = re.compile(r"[A-Z]{2}\d{2}")
_IBAN: Final = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)")
_PHONE: Final = re.compile(
    r"(?<![\w.+-])"
    r"(?:\+[1-9](?:[ ().-]{0,2}\d){7,14}|\(\d{3}\)[ .-]?\d{3}[.-]\d{4}|\d{3}([.-])\d{3}\1\d{4})"
    r"(?![\w-]|\.\d)"
)


def redacted(text: str) -> str:
    """``text`` with every secret, e-mail address, card number, IBAN and telephone number in it replaced."""
    return _without_personal_data(_without_secrets(text))


def redact_event(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """The processor of structlog that comes last before the line is written."""
    return {name: _field(name, value) for name, value in event.items()}


def redacted_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """``fields`` with everything in them redacted, however deep."""
    return {name: _field(name, value) for name, value in fields.items()}


def _field(name: str, value: object) -> object:
    if name in _OUR_OWN or isinstance(value, int | float):
        return value
    if name.lower() in _SECRET_FIELDS and value is not None:
        return "[redacted:secret]"
    if name in _IDS and isinstance(value, str):
        return _without_secrets(value)
    return _value(value, _CONTAINER_DEPTH)


def _value(value: object, depth: int) -> object:
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) else redacted(value)
    if isinstance(value, bytes | bytearray | memoryview):
        # JSON would show them in base64, which nothing here could look into.
        return "[redacted:bytes]"
    if isinstance(value, msgspec.Struct):
        value = msgspec.structs.asdict(value)
    if not isinstance(value, Mapping | list | tuple | set | frozenset):
        return value
    if depth == 0:
        return "[redacted:depth]"
    if isinstance(value, Mapping):
        return {
            redacted(str(name)): "[redacted:secret]" if str(name).lower() in _SECRET_FIELDS else _value(one, depth - 1)
            for name, one in value.items()
        }
    return [_value(one, depth - 1) for one in value]


def _without_secrets(text: str) -> str:
    if not _SECRET_HINT.search(text):
        return text
    return _SECRET.sub(lambda match: f"{match['kept'] or ''}[redacted:secret]", text)


def _without_personal_data(text: str) -> str:
    if "@" in text:
        text = _EMAIL.sub("[redacted:email]", text)
    if not _DIGITS.search(text):
        return text
    text = _proven(_CARD, _is_card, "card", text)
    if _IBAN_HINT.search(text):
        text = _proven(_IBAN, _is_iban, "iban", text)
    return _PHONE.sub("[redacted:phone]", text)


def _proven(pattern: re.Pattern[str], proof: Callable[[str], bool], kind: str, text: str) -> str:
    return pattern.sub(lambda match: f"[redacted:{kind}]" if proof(match[0]) else match[0], text)


def _is_card(candidate: str) -> bool:
    """Whether an issuer has such numbers and the last digit is Luhn's check digit."""
    if not _ISSUER.match(candidate):
        return False
    digits = [int(character) for character in reversed(candidate) if character.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
    return 13 <= len(digits) <= 19 and (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _is_iban(candidate: str) -> bool:
    """ISO 7064: with the first four characters moved to the end and letters as numbers, the rest by 97 is 1."""
    compact = candidate.replace(" ", "")
    number = "".join(str(int(character, 36)) for character in compact[4:] + compact[:4])
    return 15 <= len(compact) <= 34 and int(number) % 97 == 1
