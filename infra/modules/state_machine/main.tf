data "aws_caller_identity" "this" {}
data "aws_partition" "this" {}
data "aws_region" "this" {}

locals {
  # Built from the name: the functions that start it do not wait for it, nor it for them.
  arn = "arn:${data.aws_partition.this.partition}:states:${data.aws_region.this.name}:${data.aws_caller_identity.this.account_id}:stateMachine:${var.name}"

  policies = {
    invoke = data.aws_iam_policy_document.invoke.json
    logs   = data.aws_iam_policy_document.logs.json
    xray   = data.aws_iam_policy_document.xray.json
  }
}

data "aws_iam_policy_document" "assume" {
  statement {
    sid     = "StepFunctionsForThisMachine"
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["states.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.this.account_id]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [local.arn]
    }
  }
}

data "aws_iam_policy_document" "invoke" {
  statement {
    sid       = "InvokeTasks"
    actions   = ["lambda:InvokeFunction"]
    resources = var.function_alias_arns
  }
}

data "aws_iam_policy_document" "logs" {
  #checkov:skip=CKV_AWS_111:Log delivery has no resource-level permissions.
  #checkov:skip=CKV_AWS_356:Log delivery has no resource-level permissions.
  statement {
    sid = "DeliverLogs"
    actions = [
      "logs:CreateLogDelivery",
      "logs:GetLogDelivery",
      "logs:UpdateLogDelivery",
      "logs:DeleteLogDelivery",
      "logs:ListLogDeliveries",
      "logs:PutResourcePolicy",
      "logs:DescribeResourcePolicies",
      "logs:DescribeLogGroups",
    ]
    # Log delivery has no resource-level permissions; AWS documents exactly this statement.
    resources = ["*"]
  }
}

data "aws_iam_policy_document" "xray" {
  #checkov:skip=CKV_AWS_111:X-Ray has no resource-level permissions for these actions.
  #checkov:skip=CKV_AWS_356:X-Ray has no resource-level permissions for these actions.
  statement {
    sid     = "Trace"
    actions = ["xray:PutTraceSegments", "xray:PutTelemetryRecords", "xray:GetSamplingRules", "xray:GetSamplingTargets"]
    # X-Ray has no resource-level permissions for these actions.
    resources = ["*"]
  }
}

resource "aws_iam_role" "this" {
  name                 = "${var.name}-machine"
  description          = "Role of the state machine ${var.name}, used by it only."
  assume_role_policy   = data.aws_iam_policy_document.assume.json
  permissions_boundary = var.permissions_boundary_arn
}

resource "aws_iam_role_policy" "this" {
  for_each = local.policies

  name   = each.key
  role   = aws_iam_role.this.id
  policy = each.value
}

resource "aws_cloudwatch_log_group" "this" {
  #checkov:skip=CKV_AWS_338:Retention is a decision of each environment; prod keeps a year.

  # Below this prefix the log resource policy does not grow with each state machine.
  name              = "/aws/vendedlogs/states/${var.name}"
  kms_key_id        = var.kms_key_arn
  retention_in_days = var.log_retention_days
}

resource "aws_sfn_state_machine" "this" {
  #checkov:skip=CKV_AWS_284:Tracing is on by default, which checkov does not see in a dynamic block; off for the local cloud only.
  #checkov:skip=CKV_AWS_285:Execution data is left out of the logs on purpose: it could hold what users wrote.
  name       = var.name
  role_arn   = aws_iam_role.this.arn
  type       = "STANDARD"
  definition = var.definition

  logging_configuration {
    level = "ALL"
    # Which state was entered when, but never what went through it.
    include_execution_data = false
    log_destination        = "${aws_cloudwatch_log_group.this.arn}:*"
  }

  dynamic "tracing_configuration" {
    for_each = var.tracing ? [true] : []

    content {
      enabled = tracing_configuration.value
    }
  }

  # Step Functions tries out the role's log delivery when the machine is created.
  depends_on = [aws_iam_role_policy.this]
}

resource "aws_cloudwatch_metric_alarm" "timed_out" {
  count = var.alarms == null ? 0 : 1

  alarm_name          = "${var.name}-timed-out"
  alarm_description   = "${var.name}: an execution ran into its time limit."
  namespace           = "AWS/States"
  metric_name         = "ExecutionsTimedOut"
  statistic           = "Sum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 300
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarms.actions
  ok_actions          = var.alarms.actions

  dimensions = {
    StateMachineArn = local.arn
  }
}
