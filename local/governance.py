"""The verbs for people who run a platform: keys, usage, circuits, dead letters. On any platform, IAM-signed."""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from local import admin, connection
from local.connection import Connection
from local.console import say
from local.errors import LocalError
from local.instance import Instance

__all__ = ["add_verbs"]

Verb = Callable[[Instance, argparse.Namespace], int]
Add = Callable[[str, Verb, str], argparse.ArgumentParser]

# How a restriction is taken away again on the command line.
_NONE = "none"
_LETTERS = 20
_UNITS = {"h": 3_600, "d": 86_400}


def add_verbs(add: Add) -> None:
    """Add the verbs to a command line."""
    key = add("key", _key, "create an API key")
    key.add_argument("name", help="a name to know it by")
    _add_settings(key)
    add("keys", _keys, "list the API keys and their limits")
    update = add("key-update", _key_update, f"change an API key; `{_NONE}` takes a restriction away")
    update.add_argument("id", help="the key's id, as `keys` shows it")
    update.add_argument("--name", help="another name")
    _add_settings(update)
    rotate = add("rotate", _rotate, "give an API key a new secret; the old one works for a while longer")
    rotate.add_argument("id", help="the key's id, as `keys` shows it")
    rotate.add_argument("--overlap-seconds", type=int, metavar="N", help="how long that is (a day)")
    add("revoke", _revoke, "revoke an API key for good").add_argument("id", help="the key's id, as `keys` shows it")
    _add_usage(add("usage", _usage, "show who used and spent what"))
    add("circuits", _circuits, "show how every target of the routes is doing")
    queues = add("queues", _queues, "show how full every queue is, and how many dead letters it has")
    letters = add("dead-letters", _dead_letters, "show why messages of a queue are dead, the newest first")
    letters.add_argument("queue", help="the queue's name, as `queues` shows it")
    letters.add_argument("--limit", type=int, default=_LETTERS, metavar="N", help=f"how many ({_LETTERS}; 100 at most)")
    redrive = add("redrive", _redrive, "move dead letters back to their queue")
    redrive.add_argument("queue", nargs="?", help="the queue's name (all queues that have dead letters)")
    for parser in (key, update, rotate, queues, letters):
        _add_json(parser)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--scopes", metavar="A,B", help="inference, batch, workflow (all)")
    add("--models", metavar="A,B", help="the aliases and targets it may use (all)")
    add("--rpm", metavar="N", help="requests a minute")
    add("--tpm", metavar="N", help="tokens a minute")
    add("--monthly-budget-usd", metavar="USD", help="what it may spend in a calendar month, such as 12.50")
    add("--total-budget-usd", metavar="USD", help="what it may spend in all")
    add("--expires-at", metavar="WHEN", help="2026-12-31, 2026-12-31T18:00, 30d, 12h, or seconds since 1970")


def _add_usage(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="first", metavar="DAY", help="first day, such as 2026-11-01 (this month's)")
    parser.add_argument("--to", dest="last", metavar="DAY", help="last day (today)")
    parser.add_argument("--key", metavar="ID", help="of this key only")
    parser.add_argument("--by", default="key", metavar="A,B", help="key, model, day (key)")
    _add_json(parser)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="the platform's own answer, for programs")


def _platform(instance: Instance) -> Connection:
    return connection.resolve(instance, os.environ)


def _key(instance: Instance, options: argparse.Namespace) -> int:
    created = admin.create_key(_platform(instance), options.name, _settings(options))
    return _show_secret(created, options, f"name {created['name']}")


def _keys(instance: Instance, _: argparse.Namespace) -> int:
    keys = admin.list_keys(_platform(instance))
    say(_table(_KEY_COLUMNS, [_key_row(key) for key in sorted(keys, key=lambda key: key["created_at"])]))
    return 0


def _key_update(instance: Instance, options: argparse.Namespace) -> int:
    changes = _settings(options) | ({"name": options.name} if options.name else {})
    if not changes:
        raise LocalError("nothing to change", "say what: --rpm, --tpm, --monthly-budget-usd, …; see --help")
    changed = admin.update_key(_platform(instance), options.id, changes)
    say(json.dumps(changed, indent=2) if options.json else _limits_line(changed))
    return 0


def _rotate(instance: Instance, options: argparse.Namespace) -> int:
    rotated = admin.rotate_key(_platform(instance), options.id, options.overlap_seconds)
    retiring = [f"{old['prefix']}… works until {_moment(old['retires_at'])}" for old in rotated["retiring"]]
    return _show_secret(rotated, options, "; ".join(retiring) or "the secrets before it work no more")


def _revoke(instance: Instance, options: argparse.Namespace) -> int:
    revoked = admin.revoke_key(_platform(instance), options.id)
    say(f"{revoked['id']} ({revoked['name']}) revoked at {_moment(revoked['revoked_at'])}, in force within a minute")
    return 0


def _usage(instance: Instance, options: argparse.Namespace) -> int:
    query = {"from": options.first, "to": options.last, "key_id": options.key, "group_by": options.by}
    report = admin.usage(_platform(instance), {name: value for name, value in query.items() if value})
    say(json.dumps(report, indent=2) if options.json else _usage_table(report))
    return 0


def _circuits(instance: Instance, _: argparse.Namespace) -> int:
    circuits = admin.circuits(_platform(instance))
    columns = ("target", "circuit", "since", "probe in", "failures in a row", "failed", "ms/token")
    say(_table(columns, [_circuit_row(circuit) for circuit in circuits]))
    return 0


def _queues(instance: Instance, options: argparse.Namespace) -> int:
    queues = admin.queues(_platform(instance))
    columns = ("queue", "waiting", "in flight", "delayed", "dead letters")
    counts = ("waiting", "in_flight", "delayed", "dead_letters")
    rows = [[queue["name"], *(queue[count] for count in counts)] for queue in queues]
    say(json.dumps(queues, indent=2) if options.json else _table(columns, rows))
    return 0


def _dead_letters(instance: Instance, options: argparse.Namespace) -> int:
    report = admin.dead_letters(_platform(instance), options.queue, options.limit)
    say(json.dumps(report, indent=2) if options.json else _letters_table(report))
    return 0


def _redrive(instance: Instance, options: argparse.Namespace) -> int:
    platform = _platform(instance)
    names = [options.queue] if options.queue else _with_dead_letters(platform)
    for name in names:
        moved = admin.redrive(platform, name)
        say(f"{moved} message{'' if moved == 1 else 's'} moved back to the queue {name}")
    if not names:
        say("no queue has dead letters")
    return 0


def _with_dead_letters(platform: Connection) -> list[str]:
    return [queue["name"] for queue in admin.queues(platform) if queue["dead_letters"]]


def _show_secret(key: Mapping[str, Any], options: argparse.Namespace, more: str) -> int:
    if options.json:
        say(json.dumps(key, indent=2))
    else:
        say(f"{key['key']}\n  id {key['id']}, {more}; the key is not shown again\n  {_limits_line(key)}")
    return 0


# ---- from the command line ----


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given, as the API takes them."""
    given = {
        "scopes": _read(options.scopes, _list),
        "allowed_models": _read(options.models, _list),
        "rpm": _read(options.rpm, _count),
        "tpm": _read(options.tpm, _count),
        "monthly_budget_usd": _read(options.monthly_budget_usd, str),
        "total_budget_usd": _read(options.total_budget_usd, str),
        "expires_at": _read(options.expires_at, _when),
    }
    return {field: values[0] for field, values in given.items() if values}


def _read(text: str | None, read: Callable[[str], Any]) -> list[Any]:
    """Nothing, or the one value that was given; `none` is None."""
    if not text:
        return []
    return [None if text == _NONE else read(text)]


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _count(text: str) -> int:
    digits = text.replace("_", "").replace(",", "")
    if not re.fullmatch(r"[0-9]{1,18}", digits):
        raise LocalError(f"{text!r} is no number", f"give a whole number, or `{_NONE}`")
    return int(digits)


def _when(text: str) -> int:
    """A moment, in seconds since 1970. What has no time zone is UTC."""
    if span := re.fullmatch(r"([0-9]{1,6})([hd])", text):
        return int(time.time()) + int(span[1]) * _UNITS[span[2]]
    if re.fullmatch(r"[0-9]{9,12}", text):
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise LocalError(
            f"{text!r} is no moment", "give 2026-12-31, 2026-12-31T18:00, 30d, 12h, or seconds since 1970"
        ) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


# ---- to the terminal ----

_KEY_COLUMNS = (
    "id",
    "name",
    "status",
    "rpm",
    "tpm",
    "USD/month",
    "USD in all",
    "expires",
    "scopes",
    "models",
    "secrets",
)
_GROUP_COLUMNS = {"day": "day", "key_id": "key", "key_name": "name", "model": "model"}
_SUM_COLUMNS = ("requests", "failed", "cached", "tokens in", "tokens out", "USD")


def _key_row(key: Mapping[str, Any]) -> list[object]:
    prefixes = [key["prefix"], *(f"{old['prefix']} (until {_moment(old['retires_at'])})" for old in key["retiring"])]
    return [
        key["id"],
        key["name"],
        key["status"],
        key["rpm"],
        key["tpm"],
        key["monthly_budget_usd"],
        key["total_budget_usd"],
        _moment(key["expires_at"]) if key["expires_at"] else None,
        ",".join(key["scopes"] or ()),
        ",".join(key["allowed_models"] or ()),
        ", ".join(prefixes),
    ]


def _limits_line(key: Mapping[str, Any]) -> str:
    limits = {
        "rpm": key["rpm"],
        "tpm": key["tpm"],
        "USD/month": key["monthly_budget_usd"],
        "USD in all": key["total_budget_usd"],
        "scopes": ",".join(key["scopes"] or ()),
        "models": ",".join(key["allowed_models"] or ()),
        "expires": _moment(key["expires_at"]) if key["expires_at"] else None,
    }
    told = [f"{name} {value}" for name, value in limits.items() if value]
    return f"{key['name']}: {', '.join(told) or 'no limits'}"


def _circuit_row(circuit: Mapping[str, Any]) -> list[object]:
    return [
        circuit["target"],
        circuit["state"],
        _moment(circuit["opened_at"]) if circuit["opened_at"] else None,
        f"{circuit['probe_in_seconds']:g} s" if circuit["probe_in_seconds"] else None,
        circuit["failures_in_a_row"] or None,
        circuit["failed"] or None,
        circuit["ms_per_token"],
    ]


def _letters_table(report: Mapping[str, Any]) -> str:
    count = report["dead_letters"]
    title = f"{report['queue']}: {count} dead letter{'' if count == 1 else 's'}"
    columns = ("failed", "subject", "tries", "code", "why")
    rows = [
        [_moment(letter["failed_at"]), letter["subject"], letter["receives"], letter["code"], letter["message"]]
        for letter in report["data"]
    ]
    more = "\n…" if report["has_more"] else ""
    return f"{title}\n{_table(columns, rows)}{more}" if rows else f"{title}, of which none left a reason"


def _usage_table(report: Mapping[str, Any]) -> str:
    groups = [name for name in _GROUP_COLUMNS if any(row.get(name) for row in report["data"])]
    sums = ("requests", "failed_requests", "cached_requests", "input_tokens", "output_tokens", "cost_usd")
    rows = [[row.get(name) for name in (*groups, *sums)] for row in report["data"]]
    total = [["total", *[None] * (len(groups) - 1), *(report["total"][name] for name in sums)]] if groups else []
    columns = (*(_GROUP_COLUMNS[name] for name in groups), *_SUM_COLUMNS)
    title = f"{report['from']} to {report['to']}"
    return f"{title}\n{_table(columns, [*rows, *total])}" if rows else f"{title}: nothing was used"


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns under their names, as wide as they need to be; numbers to the right, what is None as a dash."""
    lines = [[str(column) for column in columns], *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    numeric = [
        any(isinstance(row[index], int | float) for row in rows) or column.startswith("USD")
        for index, column in enumerate(columns)
    ]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in lines
    )


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _moment(epoch_s: int) -> str:
    return f"{datetime.fromtimestamp(epoch_s, UTC):%Y-%m-%d %H:%M:%S}Z"
