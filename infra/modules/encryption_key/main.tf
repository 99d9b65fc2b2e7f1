data "aws_caller_identity" "this" {}
data "aws_partition" "this" {}
data "aws_region" "this" {}

locals {
  account_id = data.aws_caller_identity.this.account_id
  partition  = data.aws_partition.this.partition
  region     = data.aws_region.this.name

  account_root = "arn:${local.partition}:iam::${local.account_id}:root"
}

data "aws_iam_policy_document" "this" {
  #checkov:skip=CKV_AWS_109:A key policy speaks of its own key only; the account root is its administrator.
  #checkov:skip=CKV_AWS_111:A key policy speaks of its own key only; the account root is its administrator.
  #checkov:skip=CKV_AWS_356:A key policy speaks of its own key only; `*` is that key.

  # Leaves it to IAM policies who may use the key: each role is granted its own calls, through
  # the services that it uses (kms:ViaService). Without this statement nobody could repair the key.
  statement {
    sid     = "IamPoliciesDecide"
    actions = ["kms:*"]
    # In a key policy `*` is the key that it belongs to.
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = [local.account_root]
    }
  }

  dynamic "statement" {
    for_each = length(var.log_group_names) == 0 ? [] : ["EncryptLogGroups"]

    content {
      sid = statement.value
      actions = [
        "kms:Encrypt",
        "kms:Decrypt",
        "kms:ReEncryptFrom",
        "kms:ReEncryptTo",
        "kms:GenerateDataKey",
        "kms:GenerateDataKeyWithoutPlaintext",
        "kms:DescribeKey",
      ]
      # In a key policy `*` is the key that it belongs to.
      resources = ["*"]

      principals {
        type        = "Service"
        identifiers = ["logs.${local.region}.amazonaws.com"]
      }

      condition {
        test     = "ArnLike"
        variable = "kms:EncryptionContext:aws:logs:arn"
        values   = [for name in var.log_group_names : "arn:${local.partition}:logs:${local.region}:${local.account_id}:log-group:${name}"]
      }
    }
  }

  dynamic "statement" {
    for_each = var.service_principals

    content {
      sid     = "Use${statement.key}"
      actions = ["kms:Decrypt", "kms:GenerateDataKey", "kms:DescribeKey"]
      # In a key policy `*` is the key that it belongs to.
      resources = ["*"]

      principals {
        type        = "Service"
        identifiers = [statement.value]
      }

      # The service acts for this account only, whoever else talks to it.
      condition {
        test     = "StringEquals"
        variable = "aws:SourceAccount"
        values   = [local.account_id]
      }
    }
  }

  # EventBridge does not say for whom it publishes to an encrypted topic: with aws:SourceAccount or aws:SourceArn nothing
  # would arrive (https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html). What SNS says is the topic.
  dynamic "statement" {
    for_each = length(var.event_topic_arns) == 0 ? [] : ["PublishEventsToTopics"]

    content {
      sid     = statement.value
      actions = ["kms:Decrypt", "kms:GenerateDataKey"]
      # In a key policy `*` is the key that it belongs to.
      resources = ["*"]

      principals {
        type        = "Service"
        identifiers = ["events.amazonaws.com"]
      }

      condition {
        test     = "ArnEquals"
        variable = "kms:EncryptionContext:aws:sns:topicArn"
        values   = var.event_topic_arns
      }
    }
  }
}

resource "aws_kms_key" "this" {
  description             = var.description
  enable_key_rotation     = true
  deletion_window_in_days = var.deletion_window_days
  policy                  = data.aws_iam_policy_document.this.json
}

resource "aws_kms_alias" "this" {
  name          = "alias/${var.alias}"
  target_key_id = aws_kms_key.this.key_id
}
