"""How the ledger's items look: one for each shard of a key, with names so short that it stays within one write unit.

==================  ================================================================================================
``r<minute>``       requests of the minute (minutes since 1970)
``t<minute>``       tokens of the minute, held and used
``c``, ``c<month>`` committed micro-dollars, held, set aside and spent, of the key's whole life and of the month
                    (``yyyymm``)
``s``, ``s<month>`` spent micro-dollars
``n<month>``        requests settled in the month; ``i<month>`` their input tokens, ``o<month>`` their output tokens
``h<bucket>``       held micro-dollars of the bucket
``k<bucket>``       how many of its holds are open
``x<bucket>``       micro-dollars settled in the bucket; ``y<bucket>`` requests, ``u<bucket>`` input tokens,
                    ``v<bucket>`` output tokens
``l<bucket>``       until when (epoch seconds) somebody settles what others have left behind in it
==================  ================================================================================================

How far the log has been read of a bucket that others left behind is kept beside the item (:func:`reading_key`), for
whoever goes on when that takes longer than one caller can wait.

What is zero may be missing. A write takes one unit up to 1 KB:
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html#write-operation-consumption
"""

import string
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from sluice.domain.admission import Bucket, State, Window
from sluice.domain.ledger import LONG_BUCKET_S, SHORT_BUCKET_S, Spent, expiry_of, month_of

SORT_KEY: Final = "STATE"
# What is over is kept for this long, for the sake of clocks that are behind.
KEPT_S: Final = 30

_DIGITS: Final = string.digits + string.ascii_lowercase
_BUCKET_LETTERS: Final = "hkxyuvl"
_MONTH_LETTERS: Final = "csnio"
_MINUTE_LETTERS: Final = "rt"
_KEYS: Final = frozenset({"pk", "sk"})

Item = Mapping[str, Any]


def partition_key(key_id: str, shard: int) -> str:
    """Where the item of a shard is."""
    return f"LEDGER#{key_id}#{shard}"


def reading_key(code: str) -> str:
    """The sort key, beside the item of a shard, of how far the log has been read of the bucket with this code."""
    return f"READING#{code}"


def bucket_code(month: str, name: str) -> str:
    """The bucket as part of an attribute's name. It begins with a digit, so that no name is one of DynamoDB's words.

    A bucket belongs to the month in which it expires or to the one before, so one bit tells which.
    """
    width, number = (int(part) for part in name.split("x"))
    return f"{2 * (width == LONG_BUCKET_S) + _parity(month)}{_base36(number)}"


def bucket_place(code: str) -> tuple[str, str]:
    """The month and the name of the bucket that has this code."""
    wide, parity = divmod(int(code[0]), 2)
    name = f"{LONG_BUCKET_S if wide else SHORT_BUCKET_S}x{int(code[1:], 36)}"
    month = month_of(expiry_of(name))
    return month if _parity(month) == parity else month_before(month), name


def month_before(month: str) -> str:
    """The month before ``month``, both ``yyyymm``."""
    return f"{datetime.strptime(month, '%Y%m').replace(tzinfo=UTC) - timedelta(days=1):%Y%m}"


def _parity(month: str) -> int:
    return int(month[4:]) % 2


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return digits or "0"


def state_of(item: Item | None, window: Window) -> State:
    """What an item says of a window. One that is not there says that nothing was used."""
    item = item or {}
    month = window.month
    return State(
        requests=item.get(f"r{window.minute}", 0),
        tokens=item.get(f"t{window.minute}", 0),
        committed=Decimal(item.get("c", 0)),
        committed_month=Decimal(item.get(f"c{month}", 0)),
        spent=Decimal(item.get("s", 0)),
        spent_month=Decimal(item.get(f"s{month}", 0)),
        settled=Spent(
            requests=item.get(f"n{month}", 0),
            input_tokens=item.get(f"i{month}", 0),
            output_tokens=item.get(f"o{month}", 0),
            cost_micro_usd=Decimal(item.get(f"s{month}", 0)),
        ),
        buckets=tuple(bucket_in(item, name[1:]) for name in item if name[0] == "k"),
    )


def bucket_in(item: Item, code: str) -> Bucket:
    """What an item says of the bucket with this code."""
    month, name = bucket_place(code)
    return Bucket(
        month=month,
        name=name,
        held=Decimal(item.get(f"h{code}", 0)),
        open=item.get(f"k{code}", 0),
        settled=Spent(
            requests=item.get(f"y{code}", 0),
            input_tokens=item.get(f"u{code}", 0),
            output_tokens=item.get(f"v{code}", 0),
            cost_micro_usd=Decimal(item.get(f"x{code}", 0)),
        ),
        claimed_until=item.get(f"l{code}", 0),
    )


def outdated(item: Item, window: Window) -> frozenset[str]:
    """The attributes of an item that nobody will need any more: old minutes, old months, buckets that are settled.

    The minute before stays for those whose clocks are behind, the month before for those who began in it.
    """
    minute = window.minute - 1
    month = month_before(window.month)
    over = {
        bucket_code(bucket.month, bucket.name)
        for bucket in state_of(item, window).buckets
        if window.at >= expiry_of(bucket.name) + KEPT_S and not bucket.open and not bucket.held
    }

    def useless(name: str) -> bool:
        letter, rest = name[0], name[1:]
        if name in _KEYS or not rest:
            return False
        if letter in _BUCKET_LETTERS:
            return rest in over
        return int(rest) < minute if letter in _MINUTE_LETTERS else letter in _MONTH_LETTERS and rest < month

    return frozenset(filter(useless, item))
