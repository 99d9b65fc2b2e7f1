# Proves: rotation, and exactly who may use the key for what.

mock_provider "aws" {
  source = "../../tests/mocks"
}

variables {
  alias              = "sluice-test"
  description        = "A key for tests."
  log_group_names    = ["/aws/lambda/sluice-test-*"]
  service_principals = { EventBridge = "events.amazonaws.com" }
}

run "rotates_and_has_an_alias" {
  command = plan

  assert {
    condition     = aws_kms_key.this.enable_key_rotation && aws_kms_key.this.deletion_window_in_days == 30 && output.alias == "alias/sluice-test"
    error_message = "The key must rotate, be recoverable for 30 days and have its alias."
  }
}

run "leaves_its_use_to_iam_and_named_services" {
  command = plan

  assert {
    condition = { for statement in output.statements : statement.sid => statement.principals } == {
      IamPoliciesDecide = ["arn:aws:iam::123456789012:root"]
      EncryptLogGroups  = ["logs.us-east-1.amazonaws.com"]
      UseEventBridge    = ["events.amazonaws.com"]
    }
    error_message = "Only the account, CloudWatch Logs and the named services may be principals."
  }

  assert {
    condition     = alltrue([for statement in output.statements : length(statement.conditions) > 0 if statement.sid != "IamPoliciesDecide"])
    error_message = "A service may use the key only for something of this account."
  }

  assert {
    condition = one([
      for statement in data.aws_iam_policy_document.this.statement : one(statement.condition).values if statement.sid == "EncryptLogGroups"
    ]) == tolist(["arn:aws:logs:us-east-1:123456789012:log-group:/aws/lambda/sluice-test-*"])
    error_message = "CloudWatch Logs may encrypt the named groups only."
  }
}

# SNS: "Adding the aws:SourceAccount, aws:SourceArn, and aws:SourceOrgID to a AWS KMS policy is not supported for
# EventBridge-to-encrypted topics."
run "lets_events_reach_encrypted_topics" {
  command = plan

  variables {
    event_topic_arns = ["arn:aws:sns:us-east-1:123456789012:sluice-test-completion"]
  }

  assert {
    condition = one([
      for statement in data.aws_iam_policy_document.this.statement :
      { actions = statement.actions, conditions = { for condition in statement.condition : condition.variable => condition.values } }
      if statement.sid == "PublishEventsToTopics"
      ]) == {
      actions    = toset(["kms:Decrypt", "kms:GenerateDataKey"])
      conditions = { "kms:EncryptionContext:aws:sns:topicArn" = tolist(["arn:aws:sns:us-east-1:123456789012:sluice-test-completion"]) }
    }
    error_message = "EventBridge must be known by the topic alone, as it names no source."
  }
}

run "needs_no_log_groups_and_no_services" {
  command = plan

  variables {
    log_group_names    = []
    service_principals = {}
  }

  assert {
    condition     = [for statement in output.statements : statement.sid] == ["IamPoliciesDecide"]
    error_message = "Without log groups and services only IAM may decide."
  }
}

run "refuses_what_is_too_wide_or_wrong" {
  command = plan

  variables {
    alias                = "alias/sluice"
    deletion_window_days = 3
    log_group_names      = ["*"]
    service_principals   = { "Event Bridge" = "events" }
    event_topic_arns     = ["arn:aws:sns:us-east-1:123456789012:*"]
  }

  expect_failures = [var.alias, var.deletion_window_days, var.log_group_names, var.service_principals, var.event_topic_arns]
}
