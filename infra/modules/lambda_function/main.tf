data "aws_caller_identity" "this" {}
data "aws_partition" "this" {}
data "aws_region" "this" {}

locals {
  account_id = data.aws_caller_identity.this.account_id
  partition  = data.aws_partition.this.partition
  region     = data.aws_region.this.name

  log_group_name = "/aws/lambda/${var.name}"
  package_sha256 = fileexists(var.package) ? filesha256(var.package) : "missing"

  # Provisioned concurrency and SnapStart exclude each other; the warmer of the two wins.
  snap_start = var.snap_start && var.provisioned_concurrency == 0

  policies = merge(var.policies, {
    logs = data.aws_iam_policy_document.logs.json
    xray = data.aws_iam_policy_document.xray.json
  })

  alarms = var.platform.alarms == null ? {} : {
    errors = {
      description = "${var.name}: invocations end in an unhandled error."
      metric      = "Errors"
      statistic   = "Sum"
      threshold   = var.platform.alarms.errors
    }
    throttles = {
      description = "${var.name}: invocations are refused for lack of concurrency."
      metric      = "Throttles"
      statistic   = "Sum"
      threshold   = var.platform.alarms.throttles
    }
    p95-duration = {
      description = "${var.name}: one invocation in twenty comes close to the timeout of ${var.timeout} s."
      metric      = "Duration"
      percentile  = "p95"
      threshold   = var.timeout * 1000 * var.platform.alarms.p95_duration_share
    }
  }
}

# ---- Role: one per function, one inline policy per concern ----

data "aws_iam_policy_document" "assume" {
  statement {
    sid     = "LambdaOfThisAccount"
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "logs" {
  statement {
    sid       = "WriteOwnLogStreams"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["arn:${local.partition}:logs:${local.region}:${local.account_id}:log-group:${local.log_group_name}:*"]
  }
}

data "aws_iam_policy_document" "xray" {
  #checkov:skip=CKV_AWS_356:X-Ray has no resource-level permissions for sending segments.
  #checkov:skip=CKV_AWS_111:X-Ray has no resource-level permissions for sending segments.
  statement {
    sid     = "SendSegments"
    actions = ["xray:PutTraceSegments", "xray:PutTelemetryRecords"]
    # X-Ray has no resource-level permissions for these two actions.
    resources = ["*"]
  }
}

resource "aws_iam_role" "this" {
  name                 = var.name
  description          = "Execution role of ${var.name}, used by this function only."
  assume_role_policy   = data.aws_iam_policy_document.assume.json
  permissions_boundary = var.platform.permissions_boundary_arn
}

resource "aws_iam_role_policy" "this" {
  for_each = local.policies

  name   = each.key
  role   = aws_iam_role.this.id
  policy = each.value
}

# ---- Function ----

resource "aws_cloudwatch_log_group" "this" {
  #checkov:skip=CKV_AWS_338:Retention is a decision of each environment; prod keeps a year.
  name              = local.log_group_name
  kms_key_id        = var.platform.kms_key_arn
  retention_in_days = var.platform.log_retention_days
}

# By way of S3, because the provider creates functions from local files one at a time.
resource "aws_s3_object" "package" {
  bucket      = var.platform.package_bucket
  key         = "functions/${var.name}/${local.package_sha256}.zip"
  source      = var.package
  source_hash = local.package_sha256
  kms_key_id  = var.platform.kms_key_arn

  lifecycle {
    # The version that is live until the next one is published still names the old object.
    create_before_destroy = true

    precondition {
      condition     = fileexists(var.package)
      error_message = "The package ${var.package} does not exist: run `make package` first."
    }
  }
}

resource "aws_lambda_function" "this" {
  #checkov:skip=CKV_AWS_115:Reserved concurrency is a variable; a default would starve the account's other functions.
  #checkov:skip=CKV_AWS_116:Queues and streams have their own DLQ, and what is invoked asynchronously a destination for failures.
  #checkov:skip=CKV_AWS_117:No private network is reached; a VPC would add cold start and NAT cost for nothing.
  #checkov:skip=CKV_AWS_272:Packages come from this pipeline only and are pinned by their SHA-256.
  function_name = var.name
  description   = var.description
  role          = aws_iam_role.this.arn

  s3_bucket        = aws_s3_object.package.bucket
  s3_key           = aws_s3_object.package.key
  source_code_hash = fileexists(var.package) ? filebase64sha256(var.package) : null
  handler          = var.handler
  runtime          = var.platform.runtime
  architectures    = [var.platform.architecture]
  layers           = var.platform.layers

  memory_size                    = var.memory_mb
  timeout                        = var.timeout
  reserved_concurrent_executions = coalesce(var.reserved_concurrency, -1)
  publish                        = true

  kms_key_arn = var.platform.kms_key_arn

  environment {
    variables = var.environment
  }

  tracing_config {
    mode = "Active"
  }

  logging_config {
    # What the function prints is stored as it is: one JSON object a line, made by the code.
    log_format = "Text"
    log_group  = aws_cloudwatch_log_group.this.name
  }

  dynamic "snap_start" {
    for_each = local.snap_start ? ["PublishedVersions"] : []

    content {
      apply_on = snap_start.value
    }
  }
}

resource "aws_lambda_alias" "this" {
  name             = var.platform.alias
  description      = "The version that serves traffic."
  function_name    = aws_lambda_function.this.function_name
  function_version = aws_lambda_function.this.version

  # A version goes live only when it is allowed to do what it does.
  depends_on = [aws_iam_role_policy.this]
}

resource "aws_lambda_provisioned_concurrency_config" "this" {
  count = var.provisioned_concurrency > 0 ? 1 : 0

  function_name                     = aws_lambda_function.this.function_name
  qualifier                         = aws_lambda_alias.this.name
  provisioned_concurrent_executions = var.provisioned_concurrency
}

# Without this Lambda stops, at about the sixteenth link, a chain of messages that lead to one another.
resource "aws_lambda_function_recursion_config" "this" {
  count = var.recursive_loop == "Terminate" ? 0 : 1

  function_name  = aws_lambda_function.this.function_name
  recursive_loop = var.recursive_loop
}

# ---- Alarms ----

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.alarms

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.description
  namespace           = "AWS/Lambda"
  metric_name         = each.value.metric
  statistic           = try(each.value.statistic, null)
  extended_statistic  = try(each.value.percentile, null)
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.threshold
  period              = 60
  evaluation_periods  = 5
  datapoints_to_alarm = 2
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.platform.alarms.actions
  ok_actions          = var.platform.alarms.actions

  dimensions = {
    FunctionName = var.name
  }
}
