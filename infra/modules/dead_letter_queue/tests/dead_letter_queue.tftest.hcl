# Proves: encryption, who may redrive here, the alarm, and that plain HTTP is refused unless switched off.

mock_provider "aws" {
  source = "../../tests/mocks"
}

variables {
  name              = "work-dlq"
  source_queue_arns = ["arn:aws:sqs:us-east-1:123456789012:work"]
  kms_key_arn       = "arn:aws:kms:us-east-1:123456789012:key/test"
  alarms            = { actions = ["arn:aws:sns:us-east-1:123456789012:alarms"] }
}

run "keeps_failures_safe_and_long" {
  command = plan

  assert {
    condition     = aws_sqs_queue.this.kms_master_key_id == var.kms_key_arn && aws_sqs_queue.this.message_retention_seconds == 1209600
    error_message = "Messages must be encrypted with the key that is passed in and kept for 14 days."
  }

  assert {
    condition     = aws_sqs_queue.this.policy == data.aws_iam_policy_document.tls_only.json
    error_message = "The queue must refuse plain HTTP."
  }

  assert {
    condition     = data.aws_iam_policy_document.tls_only.statement[0].effect == "Deny" && one(data.aws_iam_policy_document.tls_only.statement[0].condition).variable == "aws:SecureTransport"
    error_message = "The policy must deny what is not sent over TLS."
  }
}

run "takes_failures_of_its_source_only" {
  command = plan

  assert {
    condition     = aws_sqs_queue.this.redrive_allow_policy == jsonencode({ redrivePermission = "byQueue", sourceQueueArns = var.source_queue_arns })
    error_message = "Only the source queues may redrive here."
  }
}

run "rings_at_the_first_message" {
  command = plan

  assert {
    condition     = one(aws_cloudwatch_metric_alarm.depth).threshold == 0 && one(aws_cloudwatch_metric_alarm.depth).dimensions == tomap({ QueueName = "work-dlq" })
    error_message = "One message in this queue must be enough."
  }

  assert {
    condition     = one(aws_cloudwatch_metric_alarm.depth).alarm_actions == toset(var.alarms.actions)
    error_message = "The topics must be told."
  }
}

run "serves_streams_without_a_source_queue" {
  command = apply

  variables {
    source_queue_arns = []
    tls_only          = false
    alarms            = null
  }

  assert {
    condition     = aws_sqs_queue.this.redrive_allow_policy == jsonencode({ redrivePermission = "denyAll" })
    error_message = "Without a source queue none may redrive here."
  }

  assert {
    condition     = aws_sqs_queue.this.policy != data.aws_iam_policy_document.tls_only.json && length(output.alarm_names) == 0
    error_message = "The TLS policy and the alarm must follow the variables."
  }
}

run "takes_what_rules_cannot_deliver" {
  command = plan

  variables {
    rule_arns = ["arn:aws:events:us-east-1:123456789012:rule/ended"]
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

run "refuses_bad_values" {
  command = plan

  variables {
    name           = "work"
    retention_days = 15
  }

  expect_failures = [var.name, var.retention_days]
}
