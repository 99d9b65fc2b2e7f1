from __future__ import annotations

from local.terraform import Run

START = {"type": "apply_start", "hook": {"resource": {"addr": "aws_sqs_queue.a"}}}
DONE = {"type": "apply_complete", "hook": {"resource": {"addr": "aws_sqs_queue.a"}}}


def test_progress_counts_resources_and_names_one_that_is_waited_for() -> None:
    run = Run()
    run.read({"type": "change_summary", "changes": {"add": 3, "change": 1, "remove": 0, "operation": "plan"}})
    run.read(START)
    assert run.progress == "0 of 4 resources, waiting for aws_sqs_queue.a"
    run.read({"type": "apply_start", "hook": {"resource": {"addr": "data.aws_region.this"}, "action": "read"}})
    run.read(DONE)
    assert run.progress == "1 of 4 resources"
    assert run.summary == "1 resource changed"


def test_errors_keep_their_place_and_detail() -> None:
    run = Run()
    run.read(
        {
            "type": "diagnostic",
            "diagnostic": {
                "severity": "error",
                "summary": "Unsupported attribute",
                "detail": "This object has no attribute.\nReally.",
                "range": {"filename": "sync.tf", "start": {"line": 7}},
            },
        }
    )
    for _ in range(3):
        run.read({"type": "diagnostic", "diagnostic": {"severity": "error", "summary": "denied", "address": "aws_x.y"}})
    run.read({"type": "diagnostic", "diagnostic": {"severity": "warning", "summary": "deprecated"}})
    assert run.report == (
        "Unsupported attribute (sync.tf:7)",
        "  This object has no attribute.",
        "  Really.",
        "denied (aws_x.y)  (3 times)",
    )


def test_outputs_are_taken_without_their_wrapping() -> None:
    run = Run()
    run.read(
        {"type": "outputs", "outputs": {"api_id": {"value": "x", "type": "string"}, "later": {"action": "create"}}}
    )
    assert run.outputs == {"api_id": "x"}


def test_what_terraform_may_add_to_its_language_is_ignored() -> None:
    run = Run()
    for event in ({}, {"type": "refresh_start"}, {"type": "diagnostic"}, {"@message": "plain text"}):
        run.read(event)
    assert run == Run()
