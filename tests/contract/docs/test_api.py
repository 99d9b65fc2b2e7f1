"""docs/api.md describes the routes that are deployed, no more and no fewer, with their errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from sluice.domain import errors
from sluice.domain.ledger import NO_LIMITS, Limit, Standing
from sluice.runtime.http import status_of
from tests.contract.docs import hcl
from tests.contract.docs.support import ROOT, document, terraform

ROUTE = re.compile(r'method\s*=\s*"([A-Z]+)"\s*path\s*=\s*"([^"]+)"')
RESPONSES = ROOT / "infra/modules/rest_api/gateway_responses.tf"


def deployed() -> set[str]:
    """The root's route tables; a greedy parameter is written like any other."""
    return {f"{method} {path.replace('+}', '}')}" for method, path in ROUTE.findall(terraform())}


def test_routes_are_those_of_the_route_table() -> None:
    described = re.findall(r"^#{2,4} `([A-Z]+ /[^`]+)`$", document("docs/api.md").text, re.MULTILINE)
    assert sorted(described) == sorted(deployed())


def test_the_gateways_own_errors_are_listed() -> None:
    answered = set(
        re.findall(r'status\s*=\s*(\d+|null), type\s*=\s*"(\w+)", code\s*=\s*"(\w+)"', RESPONSES.read_text())
    )
    rows = [row for row in document("docs/api.md").tables() if len(row) == 4]
    listed = {(row[0], row[1].strip("`"), row[2].strip("`")) for row in rows}
    assert {entry for entry in answered if entry[0] != "null"} <= listed


def test_the_models_are_those_that_the_gateway_has() -> None:
    models = set(hcl.strings(terraform(), "request_models"))
    assert {path.stem for path in (ROOT / "infra/schemas").glob("*.json")} == models


def test_the_functions_errors_are_listed_with_their_status() -> None:
    rows = [row for row in document("docs/api.md").tables() if len(row) == 3 and row[0].isdigit()]
    listed = {(int(row[0]), code) for row in rows for code in re.findall(r"`(\w+)`", row[1])}
    raised = {(status_of(error), error.default_code) for error in default_errors() if error.default_code}
    # A key is checked by the gateway's authorizer, never by a function.
    assert raised - {(401, "invalid_api_key")} <= listed


def default_errors() -> Iterator[errors.SluiceError]:
    """One error of each kind, with nothing but what its kind gives it."""
    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.SluiceError)]
    for kind in kinds:
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
