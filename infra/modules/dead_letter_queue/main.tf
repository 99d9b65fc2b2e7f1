data "aws_caller_identity" "this" {}
data "aws_partition" "this" {}
data "aws_region" "this" {}

locals {
  # Built from the name: whoever sends here is created at the same time, not afterwards.
  arn = "arn:${data.aws_partition.this.partition}:sqs:${data.aws_region.this.name}:${data.aws_caller_identity.this.account_id}:${var.name}"

  redrive_allow_policy = length(var.source_queue_arns) == 0 ? jsonencode({ redrivePermission = "denyAll" }) : jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = var.source_queue_arns
  })

  tls_only_policy = var.tls_only ? data.aws_iam_policy_document.tls_only.json : null
  policy          = length(var.rule_arns) > 0 ? data.aws_iam_policy_document.senders.json : local.tls_only_policy
}

data "aws_iam_policy_document" "tls_only" {
  statement {
    sid       = "RefusePlainHttp"
    effect    = "Deny"
    actions   = ["sqs:*"]
    resources = [local.arn]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

data "aws_iam_policy_document" "senders" {
  source_policy_documents = var.tls_only ? [data.aws_iam_policy_document.tls_only.json] : []

  statement {
    sid       = "UndeliveredEvents"
    actions   = ["sqs:SendMessage"]
    resources = [local.arn]

    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = var.rule_arns
    }
  }
}

# The policies are attributes of the queue, not resources of their own: the provider lets
# each of those settle for 25 seconds, one after the other.
resource "aws_sqs_queue" "this" {
  name                              = var.name
  message_retention_seconds         = var.retention_days * 24 * 60 * 60
  kms_master_key_id                 = var.kms_key_arn
  kms_data_key_reuse_period_seconds = 300
  redrive_allow_policy              = local.redrive_allow_policy
  policy                            = local.policy
}

resource "aws_cloudwatch_metric_alarm" "depth" {
  count = var.alarms == null ? 0 : 1

  alarm_name          = "${var.name}-depth"
  alarm_description   = "${var.name} holds what could not be processed: find out why (see the runbook), then redrive or purge it."
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 60
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarms.actions
  ok_actions          = var.alarms.actions

  dimensions = {
    QueueName = var.name
  }
}
