# Governance: who may use how much, who has used what, and who changed it. Callers ask for their own usage with their key;
# the rest is for operators, whose requests are signed with IAM credentials.

# The stream's second reader (a stream takes two): sums of the request log by key, model and day.
resource "aws_lambda_event_source_mapping" "usage" {
  event_source_arn                   = module.table.stream_arn
  function_name                      = module.governance_functions["roll_up_usage"].alias.arn
  starting_position                  = "TRIM_HORIZON"
  batch_size                         = 100
  maximum_batching_window_in_seconds = var.event_batching_window_seconds
  maximum_retry_attempts             = 5
  maximum_record_age_in_seconds      = 60 * 60
  # A batch that fails comes again whole, or in halves: the function knows what it has counted.
  bisect_batch_on_function_error = true

  filter_criteria {
    filter {
      pattern = jsonencode({
        # An entry that is rewritten is counted by what it says in the end.
        eventName = ["INSERT", "MODIFY"]
        dynamodb  = { Keys = { pk = { S = [{ prefix = "REQ#" }] } } }
      })
    }
  }

  destination_config {
    on_failure {
      destination_arn = module.event_dlq.arn
    }
  }
}

locals {
  governance_routes = {
    retrieve_usage = {
      method   = "GET"
      path     = "/v1/usage"
      function = "usage"
    }
    create_key = {
      method        = "POST"
      path          = "/v1/admin/keys"
      function      = "admin_keys"
      authorization = "AWS_IAM"
      model         = "AdminKeyRequest"
    }
    list_keys = {
      method        = "GET"
      path          = "/v1/admin/keys"
      function      = "admin_keys"
      authorization = "AWS_IAM"
    }
    retrieve_key = {
      method        = "GET"
      path          = "/v1/admin/keys/{id}"
      function      = "admin_keys"
      authorization = "AWS_IAM"
    }
    update_key = {
      method        = "PATCH"
      path          = "/v1/admin/keys/{id}"
      function      = "admin_keys"
      authorization = "AWS_IAM"
      model         = "AdminKeyUpdateRequest"
    }
    revoke_key = {
      method        = "DELETE"
      path          = "/v1/admin/keys/{id}"
      function      = "admin_keys"
      authorization = "AWS_IAM"
    }
    rotate_key = {
      method        = "POST"
      path          = "/v1/admin/keys/{id}/rotate"
      function      = "admin_keys"
      authorization = "AWS_IAM"
      model         = "AdminKeyRotateRequest"
    }
    report_usage = {
      method        = "GET"
      path          = "/v1/admin/usage"
      function      = "admin_usage"
      authorization = "AWS_IAM"
    }
    list_circuits = {
      method        = "GET"
      path          = "/v1/admin/circuits"
      function      = "admin_circuits"
      authorization = "AWS_IAM"
    }
    list_queues = {
      method        = "GET"
      path          = "/v1/admin/queues"
      function      = "admin_dead_letters"
      authorization = "AWS_IAM"
    }
    list_dead_letters = {
      method        = "GET"
      path          = "/v1/admin/queues/{name}/dead-letters"
      function      = "admin_dead_letters"
      authorization = "AWS_IAM"
    }
    redrive_queue = {
      method        = "POST"
      path          = "/v1/admin/queues/{name}/redrive"
      function      = "admin_redrive"
      authorization = "AWS_IAM"
      model         = "QueueRedriveRequest"
    }
  }

  # Every queue that has a consumer, by the name that administrators know it by.
  queues = merge(
    {
      async    = module.async_queue
      webhooks = module.webhook_queue
    },
    module.batch_queues,
  )
  queue_environment = merge([
    for name, queue in local.queues : {
      "${upper(name)}_QUEUE_URL" = queue.url
      "${upper(name)}_DLQ_URL"   = queue.dlq.url
    }
  ]...)

  governance_functions = {
    roll_up_usage = {
      description = "Table stream: adds each entry of the request log to what its key used that day, by model."
      timeout     = 30
      environment = {
        TABLE_NAME = module.table.name
      }
      policies = {
        read-stream = data.aws_iam_policy_document.read_stream.json
        write-usage = data.aws_iam_policy_document.write_usage.json
        send-to-dlq = data.aws_iam_policy_document.send_to_event_dlq.json
        use-key     = data.aws_iam_policy_document.use_key.json
      }
    }
    usage = {
      description = "GET /v1/usage: what the caller's key has used, by model, and what it still may."
      timeout     = 15
      environment = {
        TABLE_NAME = module.table.name
      }
      policies = {
        use-ledger       = data.aws_iam_policy_document.use_ledger.json
        read-request-log = data.aws_iam_policy_document.read_request_log.json
        read-usage       = data.aws_iam_policy_document.read_usage.json
        use-key          = data.aws_iam_policy_document.use_key.json
      }
    }
    admin_keys = {
      description = "Creates, shows, changes, rotates and revokes API keys, for callers with an IAM signature."
      timeout     = 10
      environment = {
        TABLE_NAME = module.table.name
      }
      policies = {
        write-keys     = data.aws_iam_policy_document.write_keys.json
        find-keys      = data.aws_iam_policy_document.find_keys.json
        record-actions = data.aws_iam_policy_document.record_actions.json
        use-key        = data.aws_iam_policy_document.use_key.json
      }
    }
    admin_usage = {
      description = "GET /v1/admin/usage: what keys used, by key, model and day, for callers with an IAM signature."
      timeout     = 29
      environment = {
        TABLE_NAME = module.table.name
      }
      policies = {
        find-keys  = data.aws_iam_policy_document.find_keys.json
        find-usage = data.aws_iam_policy_document.find_usage.json
        read-usage = data.aws_iam_policy_document.read_usage.json
        use-key    = data.aws_iam_policy_document.use_key.json
      }
    }
    admin_circuits = {
      description = "GET /v1/admin/circuits: which targets are left alone, and how quick they are, for callers with an IAM signature."
      timeout     = 10
      environment = {
        TABLE_NAME = module.table.name
      }
      policies = {
        read-routes   = data.aws_iam_policy_document.read_routes.json
        read-circuits = data.aws_iam_policy_document.read_circuits.json
        use-key       = data.aws_iam_policy_document.use_key.json
      }
    }
    admin_redrive = {
      description = "POST /v1/admin/queues/{name}/redrive: moves dead letters back, for callers with an IAM signature."
      timeout     = 29
      environment = merge(local.queue_environment, {
        TABLE_NAME = module.table.name
      })
      policies = {
        take-dead-letters = data.aws_iam_policy_document.take_dead_letters.json
        send-to-queues    = data.aws_iam_policy_document.send_to_queues.json
        forget-reasons    = data.aws_iam_policy_document.forget_reasons.json
        record-actions    = data.aws_iam_policy_document.record_actions.json
        use-key           = data.aws_iam_policy_document.use_key.json
      }
    }
    admin_dead_letters = {
      description = "GET /v1/admin/queues and below: how full queues are and why messages are dead, for callers with an IAM signature."
      timeout     = 15
      environment = merge(local.queue_environment, {
        TABLE_NAME = module.table.name
      })
      policies = {
        measure-queues = data.aws_iam_policy_document.measure_queues.json
        find-reasons   = data.aws_iam_policy_document.find_reasons.json
        use-key        = data.aws_iam_policy_document.use_key.json
      }
    }
  }
}

data "aws_iam_policy_document" "write_keys" {
  statement {
    sid       = "PutAndUpdateKeys"
    actions   = ["dynamodb:PutItem", "dynamodb:UpdateItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["KEY#*"]
    }
  }

  statement {
    sid       = "WriteKeysWithAudit"
    actions   = ["dynamodb:PutItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["KEY#*", "AUDIT#*"]
    }

    condition {
      test     = "ForAnyValue:StringEquals"
      variable = "dynamodb:EnclosingOperation"
      values   = ["TransactWriteItems"]
    }
  }
}

data "aws_iam_policy_document" "record_actions" {
  statement {
    sid       = "PutActions"
    actions   = ["dynamodb:PutItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["AUDIT#*"]
    }
  }
}

data "aws_iam_policy_document" "read_usage" {
  statement {
    sid       = "GetUsage"
    actions   = ["dynamodb:BatchGetItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["USAGE#*"]
    }
  }
}

data "aws_iam_policy_document" "write_usage" {
  statement {
    sid       = "AddToUsage"
    actions   = ["dynamodb:GetItem", "dynamodb:PutItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["USAGE#*"]
    }
  }
}

data "aws_iam_policy_document" "find_usage" {
  statement {
    sid       = "QueryUsageByDay"
    actions   = ["dynamodb:Query"]
    resources = [module.table.index_arns["gsi1"]]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["USAGE#*"]
    }
  }
}

# To look, not to mend: whoever calls models decides what becomes of a circuit.
data "aws_iam_policy_document" "read_circuits" {
  statement {
    sid       = "GetTargetState"
    actions   = ["dynamodb:BatchGetItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["CIRCUIT#*", "HEALTH#*"]
    }
  }
}

data "aws_iam_policy_document" "take_dead_letters" {
  statement {
    sid = "TakeDeadLetters"
    actions = [
      "sqs:ReceiveMessage",
      "sqs:DeleteMessage",
      "sqs:GetQueueAttributes",
      # What could not be moved is put back to be seen at once.
      "sqs:ChangeMessageVisibility",
    ]
    resources = [for queue in values(local.queues) : queue.dlq.arn]
  }
}

data "aws_iam_policy_document" "send_to_queues" {
  statement {
    sid       = "SendThemAgain"
    actions   = ["sqs:SendMessage"]
    resources = [for queue in values(local.queues) : queue.arn]
  }
}

data "aws_iam_policy_document" "forget_reasons" {
  statement {
    sid       = "DeleteReasons"
    actions   = ["dynamodb:DeleteItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["DLQ#*"]
    }
  }
}

data "aws_iam_policy_document" "find_reasons" {
  statement {
    sid       = "QueryReasonsByQueue"
    actions   = ["dynamodb:Query"]
    resources = [module.table.index_arns["gsi1"]]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["DLQ#*"]
    }
  }
}

# To look at their numbers, not at their messages.
data "aws_iam_policy_document" "measure_queues" {
  statement {
    sid       = "CountMessages"
    actions   = ["sqs:GetQueueAttributes"]
    resources = flatten([for queue in values(local.queues) : [queue.arn, queue.dlq.arn]])
  }
}

# Keys were made and revoked by the functions of no mode, before there was more to govern.
moved {
  from = module.shared_functions["admin_keys"]
  to   = module.governance_functions["admin_keys"]
}

module "governance_functions" {
  source   = "./modules/lambda_function"
  for_each = local.governance_functions

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
