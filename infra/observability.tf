# Who is told, and what there is to see. The alarms themselves stand beside what they watch, in the modules.

resource "aws_sns_topic" "alarms" {
  name              = "${local.prefix}-alarms"
  kms_master_key_id = module.key.arn
}

data "aws_iam_policy_document" "alarms" {
  statement {
    sid       = "AlarmsOfThisAccount"
    actions   = ["sns:Publish"]
    resources = [local.alarm_topic_arn]

    principals {
      type        = "Service"
      identifiers = ["cloudwatch.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account_id]
    }
  }
}

resource "aws_sns_topic_policy" "alarms" {
  arn    = aws_sns_topic.alarms.arn
  policy = data.aws_iam_policy_document.alarms.json
}

resource "aws_sns_topic_subscription" "alarms" {
  for_each = var.alarm_emails

  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = each.value
}

module "dashboard" {
  source = "./modules/dashboard"

  name               = local.prefix
  api_name           = local.prefix
  api_stage          = local.api_stage
  function_names     = values(local.function_names)
  queue_names        = concat(flatten([for queue in values(local.queues) : [queue.name, queue.dlq.name]]), [module.event_dlq.name])
  state_machine_arns = [module.chain.arn]
  table_name         = module.table.name

  # As published by the functions: see sluice.telemetry.metrics.
  application_namespace = "Sluice/${var.environment}"
  application_metrics = [
    { title = "Requests by operation and target", name = "Requests", stat = "Sum", dimensions = ["Operation", "Target"] },
    { title = "Provider latency (ms)", name = "LatencyMs", stat = "p95", dimensions = ["Operation", "Target"] },
    { title = "Input tokens", name = "InputTokens", stat = "Sum", dimensions = ["Operation", "Target"] },
    { title = "Output tokens", name = "OutputTokens", stat = "Sum", dimensions = ["Operation", "Target"] },
    { title = "Cost (millionths of a USD)", name = "CostMicroUsd", stat = "Sum", dimensions = ["Operation", "Target"] },
    { title = "Errors by operation and target", name = "Errors", stat = "Sum", dimensions = ["Operation", "Target"] },
  ]
}
