"""What the platform takes for granted of the local cloud: IAM is enforced, and it can hold Terraform's state."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from local import cloud
from local.errors import LocalError
from local.instance import Instance
from local.terraform import Driver

from .conftest import ROOT

ACCOUNT_TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
}
ALLOW_LISTING = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "dynamodb:ListTables", "Resource": "*"}],
}
TERRAFORM_ROOT = """
terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
  backend "s3" {}
}

provider "aws" {}

variable "policy_name" {
  type = string
}

resource "aws_iam_policy" "this" {
  name   = var.policy_name
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "s3:GetObject", Resource = "*" }]
  })
}

output "arn" {
  value = aws_iam_policy.this.arn
}
"""


def as_role(instance: Instance, role: str) -> Any:
    """A DynamoDB client with the credentials of an assumed role."""
    found = cloud.client(instance, "sts").assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
    return boto3.client(
        "dynamodb",
        endpoint_url=instance.cloud_url,
        region_name="us-east-1",
        aws_access_key_id=found["AccessKeyId"],
        aws_secret_access_key=found["SecretAccessKey"],
        aws_session_token=found["SessionToken"],
    )


def test_a_role_may_do_what_its_policy_says_and_nothing_else(running: Instance) -> None:
    iam = cloud.client(running, "iam")
    role = iam.create_role(RoleName="reader", AssumeRolePolicyDocument=json.dumps(ACCOUNT_TRUST))["Role"]["Arn"]
    with pytest.raises(ClientError, match="AccessDenied"):
        as_role(running, role).list_tables()
    iam.put_role_policy(RoleName="reader", PolicyName="list", PolicyDocument=json.dumps(ALLOW_LISTING))
    assert as_role(running, role).list_tables()["TableNames"] == []
    with pytest.raises(ClientError, match="AccessDenied"):
        as_role(running, role).describe_table(TableName="x")


def test_a_caller_without_known_credentials_is_refused(running: Instance) -> None:
    stranger = boto3.client(
        "s3",
        endpoint_url=running.cloud_url,
        region_name="us-east-1",
        aws_access_key_id="AKIASTRANGERSTRANGER",
        aws_secret_access_key="x",
    )
    with pytest.raises(ClientError) as refused:
        stranger.list_buckets()
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_the_callers_own_profile_does_not_reach_the_local_cloud(
    running: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "missing-from-every-file")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    cloud.ensure_state_bucket(running)
    cloud.ensure_state_bucket(running)
    names = [bucket["Name"] for bucket in cloud.client(running, "s3").list_buckets()["Buckets"]]
    assert names == [cloud.STATE_BUCKET]


def test_terraform_keeps_its_state_in_the_cloud_it_describes(
    running: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_CLI_CONFIG_FILE", str(tmp_path / "absent"))
    (tmp_path / "main.tf").write_text(TERRAFORM_ROOT)
    shutil.copy(ROOT / "infra" / ".terraform.lock.hcl", tmp_path)
    driver = Driver(running, {"policy_name": "sluice"}, tmp_path)
    cloud.ensure_state_bucket(running)
    assert driver.initialise() is True
    assert driver.initialise() is False

    shown: list[str] = []
    run = driver.apply(shown.append)
    assert run.outputs["arn"].endswith(":policy/sluice")
    assert shown[-1] == "1 of 1 resources"
    assert driver.plan() == 0
    assert Driver(running, {"policy_name": "other"}, tmp_path).plan() == 2

    [state] = cloud.client(running, "s3").list_objects_v2(Bucket=cloud.STATE_BUCKET)["Contents"]
    assert state["Key"] == "sluice/terraform.tfstate"
    # Nothing of a run is left beside the sources.
    assert {path.name for path in tmp_path.iterdir()} == {"main.tf", ".terraform.lock.hcl"}

    # Somebody else's lock is respected: locking works without DynamoDB.
    cloud.client(running, "s3").put_object(
        Bucket=cloud.STATE_BUCKET, Key="sluice/terraform.tfstate.tflock", Body=b'{"ID": "x", "Who": "somebody"}'
    )
    with pytest.raises(LocalError, match="terraform destroy failed") as locked:
        driver.destroy(shown.append)
    assert "Error acquiring the state lock" in locked.value.details[0]
    cloud.client(running, "s3").delete_object(Bucket=cloud.STATE_BUCKET, Key="sluice/terraform.tfstate.tflock")
    assert driver.destroy(shown.append).summary == "1 resource changed"
    assert cloud.client(running, "iam").list_policies(Scope="Local")["Policies"] == []
