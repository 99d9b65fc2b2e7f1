# Completion: what has ended is told by webhooks and, by variable, by an SNS topic. Both follow the events on the bus.

module "webhook_queue" {
  source = "./modules/queue_with_dlq"

  name                     = "${local.prefix}-webhooks"
  consumer_timeout_seconds = local.webhook_sender_timeout_seconds
  # One more than are attempts: the last receive records why the others failed.
  max_receive_count = var.webhook_attempts + 1
  rule_arns         = [module.event_bus.rule_arns["webhooks"]]
  kms_key_arn       = module.key.arn
  tls_only          = !var.local_endpoints
  alarms            = local.alarms
}

resource "aws_lambda_event_source_mapping" "webhook_queue" {
  event_source_arn        = module.webhook_queue.source_arn
  function_name           = module.webhook_functions["webhook_sender"].alias.arn
  batch_size              = local.webhooks_at_once
  function_response_types = ["ReportBatchItemFailures"]

  scaling_config {
    maximum_concurrency = var.worker_maximum_concurrency
  }
}

locals {
  webhooks_at_once = 10
  # Those of one invocation are sent side by side; what is left is for the table and the queue.
  webhook_sender_timeout_seconds = var.webhook_timeout_seconds + 20

  completion_rules = merge(
    {
      webhooks = {
        description = "What has ended and is to be told by a webhook."
        pattern = jsonencode({
          source = ["sluice"]
          detail = { callback = [true] }
        })
        target_arn      = module.webhook_queue.arn
        dead_letter_arn = module.event_dlq.arn
      }
    },
    var.completion_topic_enabled ? {
      completion = {
        description = "Every batch and asynchronous request that has ended."
        pattern = jsonencode({
          source        = ["sluice"]
          "detail-type" = [{ prefix = "sluice.batch." }, { prefix = "sluice.async." }]
        })
        target_arn      = local.completion_topic_arn
        dead_letter_arn = module.event_dlq.arn
      }
    } : {},
  )

  completion_topic_arn = "arn:${local.partition}:sns:${local.region}:${local.account_id}:${local.prefix}-completion"

  webhook_routes = {
    create_webhook_secret = {
      method   = "POST"
      path     = "/v1/webhooks/secret"
      function = "webhooks"
    }
    retrieve_webhook_secret = {
      method   = "GET"
      path     = "/v1/webhooks/secret"
      function = "webhooks"
    }
    delete_webhook_secret = {
      method   = "DELETE"
      path     = "/v1/webhooks/secret"
      function = "webhooks"
    }
  }

  webhook_functions = {
    webhooks = {
      description = "/v1/webhooks/secret: makes, shows the prefix of, and deletes the secret that signs a key's webhooks."
      timeout     = 10
      environment = {
        TABLE_NAME = module.table.name
      }
      policies = {
        keep-webhook-secrets = data.aws_iam_policy_document.keep_webhook_secrets.json
        use-key              = data.aws_iam_policy_document.use_key.json
      }
    }
    webhook_sender = {
      description = "Queue consumer: tells callers' own servers what has ended, signed, until it is taken."
      # Sends to the queue that feeds it (ADR 36).
      recursive_loop = "Allow"
      timeout        = local.webhook_sender_timeout_seconds
      environment = {
        TABLE_NAME              = module.table.name
        QUEUE_URL               = module.webhook_queue.url
        MAX_RECEIVE_COUNT       = tostring(var.webhook_attempts)
        RETRY_BASE_SECONDS      = tostring(var.retry_base_seconds)
        WEBHOOKS_ALLOW_PRIVATE  = tostring(var.webhooks_allow_private)
        WEBHOOK_TIMEOUT_SECONDS = tostring(var.webhook_timeout_seconds)
      }
      policies = {
        read-webhook-secrets = data.aws_iam_policy_document.read_webhook_secrets.json
        read-callbacks       = data.aws_iam_policy_document.read_callbacks.json
        find-keys            = data.aws_iam_policy_document.find_keys.json
        receive-webhooks     = data.aws_iam_policy_document.receive_webhooks.json
        send-webhooks        = data.aws_iam_policy_document.send_webhooks.json
        record-dead-letters  = data.aws_iam_policy_document.record_dead_letters.json
        use-key              = data.aws_iam_policy_document.use_key.json
      }
    }
  }
}

# ---- The topic ----

resource "aws_sns_topic" "completion" {
  count = var.completion_topic_enabled ? 1 : 0

  name              = "${local.prefix}-completion"
  kms_master_key_id = module.key.arn
}

# Without a condition, which would be the rule: "You can't use Condition blocks in Amazon SNS topic policies for
# EventBridge" (https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html#eb-sns-permissions).
data "aws_iam_policy_document" "completion" {
  statement {
    sid       = "Events"
    actions   = ["sns:Publish"]
    resources = [local.completion_topic_arn]

    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }
  }
}

resource "aws_sns_topic_policy" "completion" {
  count = var.completion_topic_enabled ? 1 : 0

  arn    = aws_sns_topic.completion[0].arn
  policy = data.aws_iam_policy_document.completion.json
}

# ---- Who may do what ----

data "aws_iam_policy_document" "keep_webhook_secrets" {
  statement {
    sid       = "KeepSecrets"
    actions   = ["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:DeleteItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["WEBHOOK#*"]
    }
  }
}

data "aws_iam_policy_document" "read_webhook_secrets" {
  statement {
    sid       = "GetSecrets"
    actions   = ["dynamodb:GetItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["WEBHOOK#*"]
    }
  }
}

data "aws_iam_policy_document" "read_callbacks" {
  statement {
    sid       = "GetWhatHasEnded"
    actions   = ["dynamodb:GetItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["ASYNC#*", "BATCH#*"]
    }
  }
}

data "aws_iam_policy_document" "send_webhooks" {
  statement {
    sid       = "SendWebhooks"
    actions   = ["sqs:SendMessage"]
    resources = [module.webhook_queue.arn]
  }
}

data "aws_iam_policy_document" "receive_webhooks" {
  statement {
    sid = "ReceiveWebhooks"
    actions = [
      "sqs:ReceiveMessage",
      "sqs:DeleteMessage",
      "sqs:GetQueueAttributes",
      # Retries of a message are spaced out by its visibility.
      "sqs:ChangeMessageVisibility",
    ]
    resources = [module.webhook_queue.arn]
  }
}

module "webhook_functions" {
  source   = "./modules/lambda_function"
  for_each = local.webhook_functions

  name        = local.function_names[each.key]
  description = each.value.description
  package     = "${local.package_dir}/functions/${each.key}.zip"
  handler     = "functions.${each.key}.handler.handler"
  memory_mb   = try(each.value.memory_mb, var.function_memory_mb)
  timeout     = each.value.timeout
  environment = merge(local.common_environment, { SLUICE_SERVICE = each.key }, each.value.environment)
  policies    = each.value.policies
  platform    = local.function_platforms[each.key]

  snap_start              = contains(var.snap_start, each.key)
  recursive_loop          = try(each.value.recursive_loop, "Terminate")
  reserved_concurrency    = lookup(var.reserved_concurrency, each.key, null)
  provisioned_concurrency = lookup(var.provisioned_concurrency, each.key, 0)
}
