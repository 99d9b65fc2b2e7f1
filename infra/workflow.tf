# Workflow: API route -> state machine -> one function call per step; each step sees the answer before it.

module "chain" {
  source = "./modules/state_machine"

  name                     = "${local.prefix}-chain"
  kms_key_arn              = module.key.arn
  log_retention_days       = var.log_retention_days
  permissions_boundary_arn = local.permissions_boundary_arn
  tracing                  = !var.local_endpoints
  alarms                   = local.alarms
  function_alias_arns      = [for function in ["workflow_run_step", "workflow_finish"] : local.function_alias_arns[function]]

  definition = templatefile("${path.root}/state_machines/chain.asl.json", {
    run_step_arn = local.function_alias_arns["workflow_run_step"]
    finish_arn   = local.function_alias_arns["workflow_finish"]
  })
}

# Step Functions announces on the account's default bus how each execution ended, also one that could not record it
# itself: stopped, timed out, or failing to record. An ordinary failure has been recorded by then, and stays as it is.
resource "aws_cloudwatch_event_rule" "workflow_ended" {
  name        = local.workflow_ended_rule
  description = "Executions of ${module.chain.name} that ended without success."

  event_pattern = jsonencode({
    source        = ["aws.states"]
    "detail-type" = ["Step Functions Execution Status Change"]
    detail = {
      stateMachineArn = [module.chain.arn]
      status          = ["ABORTED", "FAILED", "TIMED_OUT"]
    }
  })
}

resource "aws_cloudwatch_event_target" "workflow_ended" {
  rule      = aws_cloudwatch_event_rule.workflow_ended.name
  target_id = "workflow-ended"
  arn       = module.workflow_functions["workflow_ended"].alias.arn

  # For what Lambda does not accept; what it accepts is its own to repeat.
  retry_policy {
    maximum_event_age_in_seconds = 60 * 60
    maximum_retry_attempts       = 10
  }

  dead_letter_config {
    arn = module.event_dlq.arn
  }
}

resource "aws_lambda_permission" "workflow_ended" {
  statement_id  = "workflow-ended"
  action        = "lambda:InvokeFunction"
  principal     = "events.amazonaws.com"
  function_name = module.workflow_functions["workflow_ended"].alias.function_name
  qualifier     = module.workflow_functions["workflow_ended"].alias.name
  source_arn    = aws_cloudwatch_event_rule.workflow_ended.arn
}

resource "aws_lambda_function_event_invoke_config" "workflow_ended" {
  function_name                = module.workflow_functions["workflow_ended"].alias.function_name
  qualifier                    = module.workflow_functions["workflow_ended"].alias.name
  maximum_event_age_in_seconds = 60 * 60
  maximum_retry_attempts       = 2

  destination_config {
    on_failure {
      destination = module.event_dlq.arn
    }
  }
}

locals {
  workflow_ended_rule     = "${local.prefix}-workflow-ended"
  workflow_ended_rule_arn = "arn:${local.partition}:events:${local.region}:${local.account_id}:rule/${local.workflow_ended_rule}"

  workflow_routes = {
    create_workflow_execution = {
      method   = "POST"
      path     = "/v1/workflows/{name}/executions"
      function = "workflow_start"
      model    = "ChainExecutionRequest"
    }
    retrieve_workflow_execution = {
      method   = "GET"
      path     = "/v1/workflows/executions/{id}"
      function = "workflow_status"
    }
  }

  workflow_functions = {
    workflow_start = {
      description = "POST /v1/workflows/{name}/executions: keeps the steps and starts the state machine."
      timeout     = 15
      environment = merge(local.input_limits, local.replay_environment, {
        TABLE_NAME        = module.table.name
        BUCKET_NAME       = module.bucket.name
        STATE_MACHINE_ARN = module.chain.arn
        RESULT_TTL_DAYS   = tostring(var.result_ttl_days)
      })
      policies = merge(local.replay_policies, {
        read-routes            = data.aws_iam_policy_document.read_routes.json
        create-executions      = data.aws_iam_policy_document.create_executions.json
        write-workflow-objects = data.aws_iam_policy_document.write_workflow_objects.json
        start-executions       = data.aws_iam_policy_document.start_executions.json
        use-key                = data.aws_iam_policy_document.use_key.json
      })
    }
    workflow_run_step = {
      description = "State RunStep: asks a model to do one step of a chain."
      timeout     = var.workflow_step_timeout_seconds
      environment = merge(local.inference_environment, local.long_attempts["workflow_run_step"])
      policies = merge(local.durable_policies, {
        record-steps           = data.aws_iam_policy_document.record_steps.json
        read-workflow-objects  = data.aws_iam_policy_document.read_workflow_objects.json
        write-workflow-objects = data.aws_iam_policy_document.write_workflow_objects.json
      })
    }
    workflow_finish = {
      description = "States FinishSucceeded and FinishFailed: records how an execution ended."
      timeout     = 30
      environment = {
        TABLE_NAME = module.table.name
      }
      policies = {
        finish-executions = data.aws_iam_policy_document.finish_executions.json
        use-key           = data.aws_iam_policy_document.use_key.json
      }
    }
    workflow_ended = {
      description = "Step Functions' events: records executions that were stopped, timed out or could not record their end."
      timeout     = 30
      environment = {
        TABLE_NAME = module.table.name
      }
      policies = {
        finish-executions = data.aws_iam_policy_document.finish_executions.json
        send-to-dlq       = data.aws_iam_policy_document.send_to_event_dlq.json
        use-key           = data.aws_iam_policy_document.use_key.json
      }
    }
    workflow_status = {
      description = "GET /v1/workflows/executions/{id}: each step, its answer, and why it failed if it did."
      timeout     = 10
      environment = {
        TABLE_NAME        = module.table.name
        BUCKET_NAME       = module.bucket.name
        STATE_MACHINE_ARN = module.chain.arn
      }
      policies = {
        read-executions       = data.aws_iam_policy_document.read_executions.json
        settle-executions     = data.aws_iam_policy_document.settle_executions.json
        read-workflow-objects = data.aws_iam_policy_document.read_workflow_objects.json
        describe-executions   = data.aws_iam_policy_document.describe_executions.json
        use-key               = data.aws_iam_policy_document.use_key.json
      }
    }
  }
}

data "aws_iam_policy_document" "create_executions" {
  statement {
    sid       = "PutAndUpdateExecutions"
    actions   = ["dynamodb:PutItem", "dynamodb:UpdateItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["EXEC#*"]
    }
  }
}

data "aws_iam_policy_document" "record_steps" {
  statement {
    sid       = "QueryAndPutSteps"
    actions   = ["dynamodb:Query", "dynamodb:PutItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["EXEC#*"]
    }
  }
}

data "aws_iam_policy_document" "finish_executions" {
  statement {
    sid       = "QueryAndUpdateExecutions"
    actions   = ["dynamodb:Query", "dynamodb:UpdateItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["EXEC#*"]
    }
  }
}

data "aws_iam_policy_document" "read_executions" {
  statement {
    sid       = "QueryExecutions"
    actions   = ["dynamodb:Query"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["EXEC#*"]
    }
  }
}

data "aws_iam_policy_document" "settle_executions" {
  statement {
    sid = "UpdateExecutions"
    # Only to record an end that could not record itself.
    actions   = ["dynamodb:UpdateItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["EXEC#*"]
    }
  }
}

data "aws_iam_policy_document" "read_workflow_objects" {
  statement {
    sid       = "GetWorkflowObjects"
    actions   = ["s3:GetObject"]
    resources = ["${module.bucket.arn}/workflows/*"]
  }
}

data "aws_iam_policy_document" "write_workflow_objects" {
  statement {
    sid       = "PutWorkflowObjects"
    actions   = ["s3:PutObject"]
    resources = ["${module.bucket.arn}/workflows/*"]
  }
}

data "aws_iam_policy_document" "start_executions" {
  statement {
    sid       = "StartChain"
    actions   = ["states:StartExecution"]
    resources = [module.chain.arn]
  }
}

data "aws_iam_policy_document" "describe_executions" {
  statement {
    sid     = "DescribeChainExecutions"
    actions = ["states:DescribeExecution"]
    # Executions of this state machine only; their names are made when they start.
    resources = ["${replace(module.chain.arn, ":stateMachine:", ":execution:")}:*"]
  }
}

module "workflow_functions" {
  source   = "./modules/lambda_function"
  for_each = local.workflow_functions

  name        = local.function_names[each.key]
  description = each.value.description
  package     = "${local.package_dir}/functions/${each.key}.zip"
  handler     = "functions.${each.key}.handler.handler"
  memory_mb   = var.function_memory_mb
  timeout     = each.value.timeout
  environment = merge(local.common_environment, { SLUICE_SERVICE = each.key }, each.value.environment)
  policies    = each.value.policies
  platform    = local.function_platforms[each.key]

  snap_start              = contains(var.snap_start, each.key)
  reserved_concurrency    = lookup(var.reserved_concurrency, each.key, null)
  provisioned_concurrency = lookup(var.provisioned_concurrency, each.key, 0)
}
