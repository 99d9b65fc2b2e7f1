"""What the root grants to its roles is within the boundary that the bootstrap puts on them.

An action that the boundary lacks is denied in every environment that has one, whatever the role's own policies say.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.contract.docs import hcl
from tests.contract.docs.support import ROOT

INFRA = ROOT / "infra"
FILES = [*sorted(INFRA.glob("*.tf")), *sorted(INFRA.glob("modules/*/*.tf"))]
BOUNDARY = (INFRA / "bootstrap/permissions.tf").read_text(encoding="utf-8")
# Granted where `local_endpoints` is set only, and there is no boundary; AWS has no such action.
LOCAL = {"sqs:SendMessageBatch"}


def actions(text: str, document: str = r"\w+") -> set[str]:
    """Every action that identity-based policy documents grant; what names principals is a policy of a resource."""
    return {
        action
        for _, body in hcl.blocks(text, rf'^data "aws_iam_policy_document" "{document}" \{{')
        for _, statement in hcl.blocks(body, r"^\s*(?:statement|content) \{")
        if not re.search(r"^\s*principals \{", statement, re.MULTILINE)
        for action in hcl.strings(statement, "actions")
    }


GRANTING = [path for path in FILES if actions(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("path", GRANTING, ids=lambda path: path.relative_to(INFRA).as_posix())
def test_the_boundary_has_every_action_that_is_granted(path: Path) -> None:
    granted = actions(path.read_text(encoding="utf-8"))
    assert granted - LOCAL - actions(BOUNDARY, "boundary") == set()


def test_the_boundary_has_no_action_that_nothing_grants() -> None:
    granted = {action for path in GRANTING for action in actions(path.read_text(encoding="utf-8"))}
    # What AWS's own policy AmazonAPIGatewayPushToCloudWatchLogs grants the role of API Gateway's account.
    managed = {
        f"logs:{action}"
        for action in (
            "CreateLogGroup", "CreateLogStream", "DescribeLogGroups", "DescribeLogStreams", "PutLogEvents",
            "GetLogEvents", "FilterLogEvents",
        )
    }  # fmt: skip
    assert actions(BOUNDARY, "boundary") - granted == managed - granted


def test_the_documents_are_found() -> None:
    granted = {action for path in GRANTING for action in actions(path.read_text(encoding="utf-8"))}
    assert {
        "dynamodb:ConditionCheckItem",
        "bedrock:ApplyGuardrail",
        "logs:PutLogEvents",
        "lambda:InvokeFunction",
    } <= granted
    assert len(granted) > 35
    assert "kms:*" not in granted  # of a key's own policy
