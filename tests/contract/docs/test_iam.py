"""docs/iam.md says what the Terraform grants: no function, no policy and no action more or less."""

from __future__ import annotations

import re

import pytest

from tests.contract.docs import hcl
from tests.contract.docs.support import ROOT, document, functions, terraform

MODULE = (ROOT / "infra/modules/lambda_function/main.tf").read_text(encoding="utf-8")
# The module gives these to every function.
OF_EVERY_FUNCTION = {"logs", "xray"}


def deployed_policies(function: str) -> dict[str, str]:
    """Policy => document of one function, from the root's maps of functions."""
    return _policies(deployed(function))


def deployed(function: str) -> str:
    """What the root's maps of functions say of one."""
    return hcl.block(terraform(), rf"^    {function} = \{{(?=\n      description)")


def _policies(body: str) -> dict[str, str]:
    """Policy => document, of what stands there itself and of every shared set that is named there."""
    found = hcl.policies_of(body)
    for shared in re.findall(r"local\.(\w+_policies)", body):
        found |= _policies(hcl.block(terraform(), rf"^  {shared} = (?:merge\(|\{{)"))
    return found


def granted() -> dict[str, tuple[hcl.Statement, ...]]:
    """Policy => statements, over all functions."""
    documents = hcl.policy_documents(terraform()) | hcl.policy_documents(MODULE)
    used = {policy: name for function in functions() for policy, name in deployed_policies(function).items()}
    return {policy: documents[name] for policy, name in used.items()} | {
        policy: documents[policy] for policy in OF_EVERY_FUNCTION
    }


def codes(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def rows(width: int) -> list[list[str]]:
    return [row for row in document("docs/iam.md").tables() if len(row) == width]


def test_every_function_is_listed_once() -> None:
    assert sorted(codes(row[0])[0] for row in rows(3)) == functions()


@pytest.mark.parametrize("row", rows(3), ids=lambda row: str(row[0]))
def test_a_function_has_exactly_the_policies_that_are_listed(row: list[str]) -> None:
    assert sorted(codes(row[2])) == sorted(deployed_policies(codes(row[0])[0]))


def test_whoever_answers_repeats_may_look_them_up() -> None:
    """``@idempotent`` works with the table and the bucket, on routes that hardly anybody repeats too."""
    handlers = {name: (ROOT / f"functions/{name}/handler.py").read_text(encoding="utf-8") for name in functions()}
    repeating = {name for name, code in handlers.items() if "@idempotent(" in code}
    replaying = {name for name in functions() if "replay-responses" in deployed_policies(name)}
    assert repeating == replaying


def test_whoever_sends_to_the_queue_that_feeds_it_may_come_back() -> None:
    """Lambda stops a message that leads to another of the same queue, and so on, at about the sixteenth.

    https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html
    """
    assert {name for name in functions() if queues(name, "sqs:ReceiveMessage") & queues(name, "sqs:SendMessage")} == {
        name for name in functions() if re.search(r'^ +recursive_loop += "Allow"$', deployed(name), re.MULTILINE)
    }


def queues(function: str, action: str) -> set[str]:
    """The resources on which a function has the permission, as they are written."""
    documents = hcl.policy_documents(terraform())
    names = deployed_policies(function).values()
    return {statement.resources for name in names for statement in documents[name] if action in statement.actions}


def test_every_policy_is_listed_once() -> None:
    assert sorted(codes(row[0])[0] for row in rows(4)) == sorted(granted())


@pytest.mark.parametrize("row", rows(4), ids=lambda row: str(row[0]))
def test_a_policy_grants_exactly_what_is_listed(row: list[str]) -> None:
    statements = granted()[codes(row[0])[0]]
    # A transaction over the items of several policies has a statement of its own, with some of the same actions.
    assert sorted(codes(row[1])) == sorted({action for statement in statements for action in statement.actions})


@pytest.mark.parametrize("row", rows(4), ids=lambda row: str(row[0]))
def test_the_items_that_a_policy_is_limited_to_are_listed(row: list[str]) -> None:
    keys = {key for statement in granted()[codes(row[0])[0]] for key in statement.leading_keys}
    assert {code for code in codes(row[2]) if code.isupper()} == keys
