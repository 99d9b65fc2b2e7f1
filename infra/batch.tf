# Asynchronous requests: API route -> queue (+DLQ) -> worker -> result in the bucket, status in the table. (Whole files of
# requests: batches.tf.)

module "async_queue" {
  source = "./modules/queue_with_dlq"

  name                     = "${local.prefix}-async"
  consumer_timeout_seconds = var.worker_timeout_seconds
  # One more than are attempts: the last receive records what a worker that died on the last attempt could not.
  max_receive_count = var.max_receive_count + 1
  kms_key_arn       = module.key.arn
  tls_only          = !var.local_endpoints
  alarms            = local.alarms
}

resource "aws_lambda_event_source_mapping" "async_queue" {
  event_source_arn        = module.async_queue.source_arn
  function_name           = module.batch_functions["async_worker"].alias.arn
  batch_size              = 10
  function_response_types = ["ReportBatchItemFailures"]

  scaling_config {
    maximum_concurrency = var.worker_maximum_concurrency
  }
}

locals {
  batch_routes = {
    create_async_chat_completion = {
      method   = "POST"
      path     = "/v1/async/chat/completions"
      function = "async_submit"
      model    = "ChatCompletionRequest"
    }
    create_async_completion = {
      method   = "POST"
      path     = "/v1/async/completions"
      function = "async_submit"
      model    = "CompletionRequest"
    }
    create_async_chat = {
      method   = "POST"
      path     = "/v1/async/chat"
      function = "async_submit"
      model    = "ChatRequest"
    }
    create_async_embedding = {
      method   = "POST"
      path     = "/v1/async/embeddings"
      function = "async_submit"
      model    = "EmbeddingRequest"
    }
    create_async_classification = {
      method   = "POST"
      path     = "/v1/async/classify"
      function = "async_submit"
      model    = "ClassifyRequest"
    }
    create_async_score = {
      method   = "POST"
      path     = "/v1/async/score"
      function = "async_submit"
      model    = "ScoreRequest"
    }
    create_async_summary = {
      method   = "POST"
      path     = "/v1/async/summarize"
      function = "async_submit"
      model    = "SummarizeRequest"
    }
    list_async = {
      method   = "GET"
      path     = "/v1/async"
      function = "async_status"
    }
    retrieve_async = {
      method   = "GET"
      path     = "/v1/async/{id}"
      function = "async_status"
    }
    cancel_async = {
      method   = "POST"
      path     = "/v1/async/{id}/cancel"
      function = "async_status"
    }
  }

  batch_functions = {
    async_submit = {
      description = "POST /v1/async/...: keeps the request, queues it and answers 202 with an id."
      timeout     = 15
      environment = merge(local.input_limits, local.replay_environment, {
        TABLE_NAME             = module.table.name
        BUCKET_NAME            = module.bucket.name
        QUEUE_URL              = module.async_queue.url
        RESULT_TTL_DAYS        = tostring(var.result_ttl_days)
        WEBHOOKS_ALLOW_PRIVATE = tostring(var.webhooks_allow_private)
      })
      policies = merge(local.replay_policies, {
        read-routes       = data.aws_iam_policy_document.read_routes.json
        create-jobs       = data.aws_iam_policy_document.create_jobs.json
        write-job-objects = data.aws_iam_policy_document.write_job_objects.json
        send-jobs         = data.aws_iam_policy_document.send_jobs.json
        # Nothing is told to a callback URL that nothing could be signed for.
        read-webhook-secrets = data.aws_iam_policy_document.read_webhook_secrets.json
        use-key              = data.aws_iam_policy_document.use_key.json
      })
    }
    async_worker = {
      description = "Queue consumer: does the work of /v1/async, a batch side by side, and reports each failure."
      # Sends to the queue that feeds it (ADR 36).
      recursive_loop = "Allow"
      timeout        = var.worker_timeout_seconds
      environment = merge(local.scoring_environment, local.long_attempts["async_worker"], local.attempts_environment, {
        QUEUE_URL = module.async_queue.url
      })
      policies = merge(local.endpoint_policies, {
        receive-jobs      = data.aws_iam_policy_document.receive_jobs.json
        work-on-jobs      = data.aws_iam_policy_document.work_on_jobs.json
        read-job-objects  = data.aws_iam_policy_document.read_job_objects.json
        write-job-objects = data.aws_iam_policy_document.write_job_objects.json
        # A message it could not start on its last receive is sent again, instead of ending in the DLQ untried.
        send-jobs           = data.aws_iam_policy_document.send_jobs.json
        record-dead-letters = data.aws_iam_policy_document.record_dead_letters.json
      })
    }
    async_status = {
      description = "/v1/async and below: lists requests, shows one with its result once there is one, cancels."
      timeout     = 10
      environment = merge(local.replay_environment, {
        TABLE_NAME  = module.table.name
        BUCKET_NAME = module.bucket.name
      })
      # To cancel is a POST, which may carry an Idempotency-Key.
      policies = merge(local.replay_policies, {
        find-jobs        = data.aws_iam_policy_document.find_jobs.json
        read-jobs        = data.aws_iam_policy_document.read_jobs.json
        settle-jobs      = data.aws_iam_policy_document.settle_jobs.json
        read-job-objects = data.aws_iam_policy_document.read_job_objects.json
        use-key          = data.aws_iam_policy_document.use_key.json
      })
    }
  }
}

data "aws_iam_policy_document" "create_jobs" {
  statement {
    sid       = "PutAndUpdateJobs"
    actions   = ["dynamodb:PutItem", "dynamodb:UpdateItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["ASYNC#*"]
    }
  }
}

data "aws_iam_policy_document" "work_on_jobs" {
  statement {
    sid       = "GetAndUpdateJobs"
    actions   = ["dynamodb:GetItem", "dynamodb:UpdateItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["ASYNC#*"]
    }
  }
}

data "aws_iam_policy_document" "read_jobs" {
  statement {
    sid       = "GetJobs"
    actions   = ["dynamodb:GetItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["ASYNC#*"]
    }
  }
}

data "aws_iam_policy_document" "find_jobs" {
  statement {
    sid       = "QueryJobsByKey"
    actions   = ["dynamodb:Query"]
    resources = [module.table.index_arns["gsi1"]]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["ASYNC#*"]
    }
  }
}

data "aws_iam_policy_document" "settle_jobs" {
  statement {
    sid = "UpdateJobs"
    # Only to cancel, and to record that a worker was lost, which it could not do itself.
    actions   = ["dynamodb:UpdateItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["ASYNC#*"]
    }
  }
}

data "aws_iam_policy_document" "read_job_objects" {
  statement {
    sid       = "GetJobObjects"
    actions   = ["s3:GetObject"]
    resources = ["${module.bucket.arn}/async/*"]
  }
}

data "aws_iam_policy_document" "write_job_objects" {
  statement {
    sid       = "PutJobObjects"
    actions   = ["s3:PutObject"]
    resources = ["${module.bucket.arn}/async/*"]
  }
}

data "aws_iam_policy_document" "send_jobs" {
  statement {
    sid       = "SendJobs"
    actions   = ["sqs:SendMessage"]
    resources = [module.async_queue.arn]
  }
}

data "aws_iam_policy_document" "receive_jobs" {
  statement {
    sid = "ReceiveJobs"
    actions = [
      "sqs:ReceiveMessage",
      "sqs:DeleteMessage",
      "sqs:GetQueueAttributes",
      # The worker spaces out the retries of a message by its visibility.
      "sqs:ChangeMessageVisibility",
    ]
    resources = [module.async_queue.arn]
  }
}

module "batch_functions" {
  source   = "./modules/lambda_function"
  for_each = local.batch_functions

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
  recursive_loop          = try(each.value.recursive_loop, "Terminate")
  reserved_concurrency    = lookup(var.reserved_concurrency, each.key, null)
  provisioned_concurrency = lookup(var.provisioned_concurrency, each.key, 0)
}
