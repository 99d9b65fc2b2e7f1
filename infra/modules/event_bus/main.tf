data "aws_caller_identity" "this" {}
data "aws_partition" "this" {}
data "aws_region" "this" {}

locals {
  # Built from the name: the publisher's role does not wait for the bus.
  arn = "arn:${data.aws_partition.this.partition}:events:${data.aws_region.this.name}:${data.aws_caller_identity.this.account_id}:event-bus/${var.name}"
}

resource "aws_cloudwatch_event_bus" "this" {
  name               = var.name
  description        = var.description
  kms_key_identifier = var.kms_key_arn
}

resource "aws_cloudwatch_event_archive" "this" {
  name             = var.name
  description      = "What happened in the last ${var.archive_days} days, for replay."
  event_source_arn = aws_cloudwatch_event_bus.this.arn
  retention_days   = var.archive_days
}

# Without a policy the bus takes events from its own account only, which is what IAM then decides.
data "aws_iam_policy_document" "this" {
  statement {
    sid       = "PublishFromAccounts"
    actions   = ["events:PutEvents"]
    resources = [local.arn]

    principals {
      type        = "AWS"
      identifiers = [for account in var.publisher_accounts : "arn:${data.aws_partition.this.partition}:iam::${account}:root"]
    }
  }
}

resource "aws_cloudwatch_event_bus_policy" "this" {
  count = length(var.publisher_accounts) == 0 ? 0 : 1

  event_bus_name = aws_cloudwatch_event_bus.this.name
  policy         = data.aws_iam_policy_document.this.json
}

resource "aws_cloudwatch_event_rule" "this" {
  for_each = var.rules

  name           = "${var.name}-${each.key}"
  description    = each.value.description
  event_bus_name = aws_cloudwatch_event_bus.this.name
  event_pattern  = each.value.pattern
}

resource "aws_cloudwatch_event_target" "this" {
  for_each = var.rules

  rule           = aws_cloudwatch_event_rule.this[each.key].name
  event_bus_name = aws_cloudwatch_event_bus.this.name
  target_id      = each.key
  arn            = each.value.target_arn
  role_arn       = each.value.role_arn

  dead_letter_config {
    arn = each.value.dead_letter_arn
  }
}
