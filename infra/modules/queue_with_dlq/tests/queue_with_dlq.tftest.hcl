# Proves: the visibility that follows from the consumer's timeout, the redrive to the DLQ beside it, encryption.

mock_provider "aws" {
  source = "../../tests/mocks"
}

variables {
  name                     = "work"
  consumer_timeout_seconds = 30
  kms_key_arn              = "arn:aws:kms:us-east-1:123456789012:key/test"
}

run "hides_a_message_for_six_timeouts" {
  command = plan

  assert {
    condition     = aws_sqs_queue.this.visibility_timeout_seconds == 180
    error_message = "The visibility timeout must be six times the consumer's."
  }
}

run "redrives_to_the_dlq_beside_it" {
  command = plan

  assert {
    condition     = jsondecode(output.redrive_policy) == { deadLetterTargetArn = "arn:aws:sqs:us-east-1:123456789012:work-dlq", maxReceiveCount = 5 }
    error_message = "A message must go to the DLQ after five deliveries."
  }

  assert {
    condition     = output.dlq.name == "work-dlq" && output.dlq.kms_key_arn == var.kms_key_arn && output.kms_key_arn == var.kms_key_arn
    error_message = "Both queues must be encrypted with the key that is passed in."
  }
}

run "refuses_plain_http" {
  command = plan

  assert {
    condition     = aws_sqs_queue.this.policy == data.aws_iam_policy_document.tls_only.json
    error_message = "The queue must refuse plain HTTP."
  }

  assert {
    condition     = data.aws_iam_policy_document.tls_only.statement[0].resources == toset([output.arn])
    error_message = "The policy must speak of this queue."
  }
}

run "takes_events_of_the_rules_that_are_named" {
  command = plan

  variables {
    rule_arns = ["arn:aws:events:us-east-1:123456789012:rule/bus/ended"]
  }

  assert {
    condition     = aws_sqs_queue.this.policy == data.aws_iam_policy_document.senders.json && data.aws_iam_policy_document.senders.source_policy_documents == tolist([data.aws_iam_policy_document.tls_only.json])
    error_message = "The rules must be let in, and plain HTTP still be refused."
  }

  assert {
    condition     = one(one(data.aws_iam_policy_document.senders.statement).principals).identifiers == toset(["events.amazonaws.com"]) && one(one(data.aws_iam_policy_document.senders.statement).condition).values == var.rule_arns
    error_message = "EventBridge may send for these rules only."
  }
}

run "refuses_rules_that_are_no_arns" {
  command = plan

  variables {
    rule_arns = ["*"]
  }

  expect_failures = [var.rule_arns]
}

run "names_are_known_beforehand" {
  command = plan

  assert {
    condition     = output.arn == "arn:aws:sqs:us-east-1:123456789012:work" && output.dlq.arn == "${output.arn}-dlq"
    error_message = "The ARNs must follow from the name."
  }
}

run "refuses_few_deliveries_and_bad_times" {
  command = plan

  variables {
    consumer_timeout_seconds = 901
    max_receive_count        = 4
    retention_days           = 14
    dlq_retention_days       = 14
  }

  expect_failures = [var.consumer_timeout_seconds, var.max_receive_count, var.dlq_retention_days]
}

run "refuses_a_name_that_leaves_no_room_for_the_dlq" {
  command = plan

  variables {
    name = "a-name-of-seventy-seven-characters-which-is-one-more-than-what-leaves-room-000"
  }

  # The DLQ's own name is then too long as well.
  expect_failures = [var.name]
}
