data "aws_caller_identity" "this" {}
data "aws_partition" "this" {}
data "aws_region" "this" {}

locals {
  # Built from the name: the DLQ, which names the queue, is created side by side with it.
  arn = "arn:${data.aws_partition.this.partition}:sqs:${data.aws_region.this.name}:${data.aws_caller_identity.this.account_id}:${var.name}"

  # AWS asks for at least six times the consumer's timeout, so that a message in work, its
  # throttled retries included, is not handed out twice.
  visibility_timeout_seconds = 6 * var.consumer_timeout_seconds

  tls_only_policy = var.tls_only ? data.aws_iam_policy_document.tls_only.json : null
  policy          = length(var.rule_arns) > 0 ? data.aws_iam_policy_document.senders.json : local.tls_only_policy
}

module "dlq" {
  source = "../dead_letter_queue"

  name              = "${var.name}-dlq"
  source_queue_arns = [local.arn]
  retention_days    = var.dlq_retention_days
  kms_key_arn       = var.kms_key_arn
  tls_only          = var.tls_only
  alarms            = var.alarms
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
    sid       = "EventsOfRules"
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

resource "aws_sqs_queue" "this" {
  name                              = var.name
  visibility_timeout_seconds        = local.visibility_timeout_seconds
  message_retention_seconds         = var.retention_days * 24 * 60 * 60
  receive_wait_time_seconds         = 20
  kms_master_key_id                 = var.kms_key_arn
  kms_data_key_reuse_period_seconds = 300
  policy                            = local.policy
}

# SQS accepts a redrive policy only once the DLQ exists. Apart from the queue, so that the two
# queues, which take the provider 25 seconds each to see settled, do so side by side.
resource "aws_sqs_queue_redrive_policy" "this" {
  queue_url = aws_sqs_queue.this.url

  redrive_policy = jsonencode({
    deadLetterTargetArn = module.dlq.arn
    maxReceiveCount     = var.max_receive_count
  })

  depends_on = [module.dlq]
}
