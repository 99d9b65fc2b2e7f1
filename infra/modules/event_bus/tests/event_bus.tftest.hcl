# Proves: encryption, the archive, who else may publish, and that a rule always has a DLQ.

mock_provider "aws" {
  source = "../../tests/mocks"
}

variables {
  name        = "sluice-test"
  description = "A bus for tests."
  kms_key_arn = "arn:aws:kms:us-east-1:123456789012:key/test"
}

run "encrypts_and_archives" {
  command = plan

  assert {
    condition     = output.kms_key_arn == var.kms_key_arn && aws_cloudwatch_event_archive.this.retention_days == 30
    error_message = "Events must be encrypted with the key that is passed in and archived for 30 days."
  }

  assert {
    condition     = output.arn == "arn:aws:events:us-east-1:123456789012:event-bus/sluice-test"
    error_message = "The ARN must follow from the name."
  }
}

run "takes_events_of_its_own_account_only" {
  command = plan

  assert {
    condition     = length(aws_cloudwatch_event_bus_policy.this) == 0
    error_message = "Without other publishers there must be no policy that lets anybody in."
  }
}

run "takes_events_of_named_accounts" {
  command = plan

  variables {
    publisher_accounts = ["210987654321"]
  }

  assert {
    condition     = one(one(data.aws_iam_policy_document.this.statement).principals).identifiers == toset(["arn:aws:iam::210987654321:root"])
    error_message = "The named account must be the only one that is let in."
  }

  assert {
    condition     = length(aws_cloudwatch_event_bus_policy.this) == 1
    error_message = "The policy must be attached."
  }
}

run "delivers_by_rules_with_a_dlq" {
  command = plan

  variables {
    rules = {
      failures = {
        description     = "Everything that failed."
        pattern         = jsonencode({ source = ["sluice"] })
        target_arn      = "arn:aws:sqs:us-east-1:123456789012:failures"
        dead_letter_arn = "arn:aws:sqs:us-east-1:123456789012:failures-dlq"
      }
    }
  }

  assert {
    condition     = one(aws_cloudwatch_event_target.this["failures"].dead_letter_config).arn == "arn:aws:sqs:us-east-1:123456789012:failures-dlq"
    error_message = "What cannot be delivered must go to the rule's DLQ."
  }

  assert {
    condition     = output.rule_arns == { failures = "arn:aws:events:us-east-1:123456789012:rule/sluice-test/${aws_cloudwatch_event_rule.this["failures"].name}" }
    error_message = "The ARN of a rule must follow from its name."
  }
}

run "refuses_bad_values" {
  command = plan

  variables {
    name               = "default"
    archive_days       = 0
    publisher_accounts = ["*"]
    rules = {
      broken = { description = "x", pattern = "{", target_arn = "x", dead_letter_arn = "x" }
    }
  }

  expect_failures = [var.name, var.archive_days, var.publisher_accounts, var.rules]
}
