"""docs/api.md describes the routes that are deployed, no more and no fewer, with their errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from sluice.domain import errors
from sluice.domain.ledger import NO_LIMITS, Limit, Standing
from sluice.runtime.http import status_of
from sluice.services.classify import UnknownLabelError
from tests.contract.docs import hcl
from tests.contract.docs.support import ROOT, document, terraform
from tests.contract.docs.syntax import error_codes

ROUTE = re.compile(r'method\s*=\s*"([A-Z]+)"\s*path\s*=\s*"([^"]+)"')
RESPONSES = ROOT / "infra/modules/rest_api/gateway_responses.tf"
# Of failures that are always tried again, and told as something else if that is of no use; the log has them.
NEVER_TOLD = {"execution_unreadable", "pace_contended"}


def deployed() -> set[str]:
    """The root's route tables; a greedy parameter is written like any other."""
    return {f"{method} {path.replace('+}', '}')}" for method, path in ROUTE.findall(terraform())}


def test_routes_are_those_of_the_route_table() -> None:
    described = re.findall(r"^#{2,4} `([A-Z]+ /[^`]+)`$", document("docs/api.md").text, re.MULTILINE)
    assert sorted(described) == sorted(deployed())


def test_the_gateways_own_errors_are_listed() -> None:
    rows = [row for row in document("docs/api.md").tables() if len(row) == 4]
    listed = [(row[0], row[1].strip("`"), row[2].strip("`")) for row in rows]
    assert sorted(listed) == sorted(set(gateway_errors()))


def gateway_errors() -> Iterator[tuple[str, str, str]]:
    """Status, type and code of what the gateway answers by itself."""
    responses = hcl.block(RESPONSES.read_text(encoding="utf-8"), r"^  gateway_responses = \{")
    for named, body in hcl.blocks(responses, r"^    ([0-9A-Z_]+) = \{"):
        told = dict(re.findall(r'^\s*(status|type|code)\s*=\s*"?(\w+)', body, re.MULTILINE))
        if told["status"] == "null":
            # The two defaults keep the status of whatever they stand for.
            told["status"] = f"any other {named[1].removeprefix('DEFAULT_').lower()}"
        yield told["status"], told["type"], told["code"]


def test_the_models_are_those_that_the_gateway_has() -> None:
    models = set(hcl.strings(terraform(), "request_models"))
    assert {path.stem for path in (ROOT / "infra/schemas").glob("*.json")} == models


def test_the_functions_errors_are_listed_with_their_status() -> None:
    rows = [row for row in document("docs/api.md").tables() if len(row) == 3 and row[0].isdigit()]
    listed = {(int(row[0]), code) for row in rows for code in re.findall(r"`(\w+)`", row[1])}
    statuses = {type(error).__name__: status_of(error) for error in default_errors()}
    raised = {(statuses[each.made_by], each.code) for each in error_codes() if each.made_by in statuses}
    assert {(404, "model_not_found"), (429, "insufficient_quota"), (502, "unknown_label")} <= raised
    with_status = {code for _, code in listed} | {each.code for each in error_codes()} - elsewhere()
    # A key is checked by the gateway's authorizer, never by a function.
    assert {each for each in raised if each[1] in with_status - NEVER_TOLD} - {(401, "invalid_api_key")} <= listed


def test_every_code_is_explained() -> None:
    codes = {each.code for each in error_codes()}
    assert {"worker_lost", "line_too_long", "batch_expired", "webhook_tls", "unreadable_message"} <= codes
    listed = {code for row in document("docs/api.md").tables() for code in re.findall(r"`(\w+)`", " ".join(row[:-1]))}
    assert codes - listed - elsewhere() == NEVER_TOLD


def elsewhere() -> set[str]:
    """The codes that no response has as its own: of work that is answered later, and of dead letters."""
    rows = [row for path in ("docs/api.md", "docs/runbook.md") for row in document(path).tables() if len(row) == 2]
    return {code for row in rows for code in re.findall(r"`(\w+)`", row[0])}


def default_errors() -> Iterator[errors.SluiceError]:
    """One error of each kind, with nothing but what its kind gives it."""
    # The last one is defined beside what raises it.
    defined = [*vars(errors).values(), UnknownLabelError]
    for kind in (each for each in defined if isinstance(each, type) and issubclass(each, errors.SluiceError)):
        # Between workers of one queue, and never told to a caller.
        if kind is not errors.LeasedError:
            yield kind("x", **details(kind))


def details(kind: type[errors.SluiceError]) -> dict[str, Any]:
    """What errors of this kind have to be told besides their message."""
    if issubclass(kind, errors.ProviderError):
        return {"target": "y"}
    if issubclass(kind, errors.RequestInFlightError):
        return {"retry_after_s": 1.0}
    if issubclass(kind, errors.LimitError):
        standing = Standing(limits=NO_LIMITS, month="202611", reset_s=1.0, month_reset_s=1.0)
        return {"limit": Limit.REQUESTS, "standing": standing, "retry_after_s": 1.0}
    return {}
