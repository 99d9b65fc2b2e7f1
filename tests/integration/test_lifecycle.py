"""The platform as a thing that is put up and taken down."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from local.instance import Instance
from local.platform import driver
from tests.integration.support import ROOT, STATE, Platform, local

FUNCTIONS = [folder for folder in (ROOT / "functions").iterdir() if (folder / "handler.py").is_file()]

QUEUES = ("ASYNC", "BATCHES", "CHUNKS", "ASSEMBLY", "WEBHOOKS")
VARIABLES = {
    "SLUICE_URL", "SLUICE_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_KEY", "SLUICE_MCP_URL", "AWS_ENDPOINT_URL",
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "SLUICE_MODELS_URL", "SLUICE_TABLE",
    "SLUICE_BUCKET", "SLUICE_EVENT_BUS", "SLUICE_STATE_MACHINE_ARN",
    *(f"SLUICE_{queue}_{kind}_URL" for queue in QUEUES
      for kind in ("QUEUE", "DLQ")),
}  # fmt: skip


def test_the_env_file_names_everything_a_user_needs(platform: Platform) -> None:
    assert set(platform.env) >= VARIABLES
    assert platform.url.endswith("/v1")
    assert platform.env["OPENAI_BASE_URL"] == platform.url
    assert platform.env["OPENAI_API_KEY"] == platform.key
    assert (STATE / "env").stat().st_mode & 0o077 == 0


def test_a_plan_right_after_the_apply_is_empty(platform: Platform) -> None:
    plan = local("plan")
    assert plan.returncode == 0, plan.stdout + plan.stderr


def test_a_second_up_is_quick_and_changes_nothing(platform: Platform) -> None:
    functions = platform.aws("lambda").list_functions()["Functions"]
    key, processes = platform.key, (STATE / "env").read_text()
    started = time.monotonic()
    up = local("up")
    assert up.returncode == 0, up.stdout + up.stderr
    assert time.monotonic() - started < 30
    assert (STATE / "env").read_text() == processes
    assert f"SLUICE_API_KEY={key}" in processes
    assert platform.aws("lambda").list_functions()["Functions"] == functions


def test_status_is_healthy(platform: Platform) -> None:
    status = local("status")
    assert status.returncode == 0, status.stdout + status.stderr


@pytest.mark.last
def test_the_first_alarms_can_be_applied_and_watch_what_they_should(platform: Platform) -> None:
    """The local cloud tells Terraform only a part of an alarm, so no plan would be empty with them (local.tfvars).

    So they are applied here, at the end, and read back through the API that tells all of it.
    """
    terraform = driver(Instance.named("test", ROOT, os.environ))
    terraform.variables["alarms_enabled"] = "true"
    terraform.apply(lambda _: None)
    pages = platform.aws("cloudwatch").get_paginator("describe_alarms").paginate()
    alarms = [alarm for page in pages for alarm in page["MetricAlarms"]]

    def watching(metric: str) -> list[dict[str, Any]]:
        return [alarm for alarm in alarms if alarm["MetricName"] == metric]

    functions = {f"sluice-local-{folder.name.replace('_', '-')}" for folder in FUNCTIONS}
    for metric in ("Errors", "Throttles", "Duration"):
        watched = {d["Value"] for alarm in watching(metric) for d in alarm["Dimensions"] if d["Name"] == "FunctionName"}
        assert watched == functions
    assert all(alarm["ExtendedStatistic"] == "p95" for alarm in watching("Duration"))
    queues = {d["Value"] for alarm in watching("ApproximateNumberOfMessagesVisible") for d in alarm["Dimensions"]}
    assert queues == {f"sluice-local-{queue.lower()}-dlq" for queue in (*QUEUES, "EVENTS")}
    assert all(alarm["AlarmActions"] for alarm in alarms)


@pytest.mark.last
def test_destroy_leaves_nothing_behind(platform: Platform) -> None:
    destroyed = local("destroy")
    assert destroyed.returncode == 0, destroyed.stdout + destroyed.stderr
    assert platform.aws("lambda").list_functions()["Functions"] == []
    assert platform.aws("dynamodb").list_tables()["TableNames"] == []
    assert platform.aws("sqs").list_queues().get("QueueUrls", []) == []
    assert platform.aws("sns").list_topics()["Topics"] == []
    assert platform.aws("stepfunctions").list_state_machines()["stateMachines"] == []
    assert platform.aws("apigateway").get_rest_apis()["items"] == []
    assert platform.aws("logs").describe_log_groups()["logGroups"] == []
    assert platform.aws("cloudwatch").describe_alarms()["MetricAlarms"] == []
    assert [bus["Name"] for bus in platform.aws("events").list_event_buses()["EventBuses"]] == ["default"]
    assert platform.aws("lambda").list_layers()["Layers"] == []
    roles = platform.aws("iam").list_roles()["Roles"]
    assert [role["RoleName"] for role in roles if role["RoleName"].startswith("sluice")] == []
    # The state bucket is made before Terraform runs, here as in a real account, so it is not Terraform's to remove.
    buckets = [bucket["Name"] for bucket in platform.aws("s3").list_buckets()["Buckets"]]
    assert buckets == ["sluice-terraform-state"]
