# Batches: files of requests -> splitter -> queue of chunks -> workers -> assembler -> files of results.
# The messages of all three queues are pointers; the bucket holds the data and the table the truth.

locals {
  batch_queues = {
    # Batches whose input is to be read and planned.
    batches = { consumer = "batch_splitter", timeout = var.batch_pipeline_timeout_seconds, concurrency = var.worker_maximum_concurrency }
    # Chunks whose lines are to be run.
    chunks = { consumer = "batch_worker", timeout = var.worker_timeout_seconds, concurrency = var.batch_worker_maximum_concurrency }
    # Batches whose results are to be put together; and those that are watched until they end.
    assembly = { consumer = "batch_assembler", timeout = var.batch_pipeline_timeout_seconds, concurrency = var.worker_maximum_concurrency }
  }
}

module "batch_queues" {
  source   = "./modules/queue_with_dlq"
  for_each = local.batch_queues

  name                     = "${local.prefix}-${each.key}"
  consumer_timeout_seconds = each.value.timeout
  # One more than are attempts: the last receive records why the others failed.
  max_receive_count = var.max_receive_count + 1
  kms_key_arn       = module.key.arn
  tls_only          = !var.local_endpoints
  alarms            = local.alarms
}

resource "aws_lambda_event_source_mapping" "batch_queues" {
  for_each = local.batch_queues

  event_source_arn = module.batch_queues[each.key].source_arn
  function_name    = module.pipeline_functions[each.value.consumer].alias.arn
  # Each message is minutes of work, which has the whole of an invocation's time and memory.
  batch_size              = 1
  function_response_types = ["ReportBatchItemFailures"]

  scaling_config {
    maximum_concurrency = each.value.concurrency
  }
}

locals {
  file_routes = {
    create_file = {
      method   = "POST"
      path     = "/v1/files"
      function = "files"
    }
    list_files = {
      method   = "GET"
      path     = "/v1/files"
      function = "files"
    }
    retrieve_file = {
      method   = "GET"
      path     = "/v1/files/{id}"
      function = "files"
    }
    delete_file = {
      method   = "DELETE"
      path     = "/v1/files/{id}"
      function = "files"
    }
    retrieve_file_content = {
      method   = "GET"
      path     = "/v1/files/{id}/content"
      function = "files"
    }
    create_upload = {
      method   = "POST"
      path     = "/v1/uploads"
      function = "uploads"
    }
    retrieve_upload = {
      method   = "GET"
      path     = "/v1/uploads/{id}"
      function = "uploads"
    }
    create_upload_part = {
      method   = "POST"
      path     = "/v1/uploads/{id}/parts"
      function = "uploads"
    }
    complete_upload = {
      method   = "POST"
      path     = "/v1/uploads/{id}/complete"
      function = "uploads"
    }
    cancel_upload = {
      method   = "POST"
      path     = "/v1/uploads/{id}/cancel"
      function = "uploads"
    }
    create_batch = {
      method   = "POST"
      path     = "/v1/batches"
      function = "batches"
    }
    list_batches = {
      method   = "GET"
      path     = "/v1/batches"
      function = "batches"
    }
    retrieve_batch = {
      method   = "GET"
      path     = "/v1/batches/{id}"
      function = "batches"
    }
    cancel_batch = {
      method   = "POST"
      path     = "/v1/batches/{id}/cancel"
      function = "batches"
    }
  }

  # The API hands functions bytes only in bodies of these types; any other body is text.
  binary_media_types = ["multipart/form-data"]

  # Of the functions that keep files for callers.
  file_environment = merge(
    local.replay_environment,
    {
      TABLE_NAME      = module.table.name
      BUCKET_NAME     = module.bucket.name
      FILE_TTL_DAYS   = tostring(var.file_ttl_days)
      MAX_FILE_BYTES  = tostring(var.max_file_bytes)
      PRESIGN_SECONDS = tostring(var.presign_seconds)
    },
    var.presign_endpoint_url == null ? {} : { PRESIGN_ENDPOINT_URL = var.presign_endpoint_url },
  )

  # Of the functions that take messages from a queue and give each a number of attempts.
  attempts_environment = {
    MAX_RECEIVE_COUNT  = tostring(var.max_receive_count)
    RETRY_BASE_SECONDS = tostring(var.retry_base_seconds)
  }

  pipeline_functions = {
    files = {
      description = "/v1/files and below: keeps files for callers, lists, hands out and deletes them."
      timeout     = 29
      environment = local.file_environment
      policies = merge(local.replay_policies, {
        keep-files  = data.aws_iam_policy_document.keep_files.json
        find-files  = data.aws_iam_policy_document.find_files.json
        store-files = data.aws_iam_policy_document.store_files.json
        use-key     = data.aws_iam_policy_document.use_key.json
      })
    }
    uploads = {
      description = "/v1/uploads and below: takes large files in parts and puts them together."
      timeout     = 29
      environment = merge(local.file_environment, {
        UPLOAD_TTL_SECONDS = tostring(var.upload_ttl_seconds)
      })
      policies = merge(local.replay_policies, {
        keep-uploads  = data.aws_iam_policy_document.keep_uploads.json
        create-files  = data.aws_iam_policy_document.create_files.json
        read-files    = data.aws_iam_policy_document.read_files.json
        store-uploads = data.aws_iam_policy_document.store_uploads.json
        compose-files = data.aws_iam_policy_document.compose_files.json
        use-key       = data.aws_iam_policy_document.use_key.json
      })
    }
    batches = {
      description = "/v1/batches and below: creates batches, shows, lists and cancels them."
      timeout     = 15
      environment = merge(local.replay_environment, {
        TABLE_NAME             = module.table.name
        BUCKET_NAME            = module.bucket.name
        BATCHES_QUEUE_URL      = module.batch_queues["batches"].url
        ASSEMBLY_QUEUE_URL     = module.batch_queues["assembly"].url
        RESULT_TTL_DAYS        = tostring(var.result_ttl_days)
        FILE_TTL_DAYS          = tostring(var.file_ttl_days)
        WINDOW                 = tostring(var.batch_window)
        WATCH_SECONDS          = tostring(var.batch_watch_seconds)
        WEBHOOKS_ALLOW_PRIVATE = tostring(var.webhooks_allow_private)
      })
      policies = merge(local.replay_policies, {
        create-batches       = data.aws_iam_policy_document.create_batches.json
        find-batches         = data.aws_iam_policy_document.find_batches.json
        read-files           = data.aws_iam_policy_document.read_files.json
        read-webhook-secrets = data.aws_iam_policy_document.read_webhook_secrets.json
        send-batches         = data.aws_iam_policy_document.send_batches.json
        send-assembly        = data.aws_iam_policy_document.send_assembly.json
        use-key              = data.aws_iam_policy_document.use_key.json
      })
    }
    batch_splitter = {
      description = "Queue consumer: reads the input of a batch, reports what is wrong with it, plans chunks and holds the money."
      # Sends to the queue that feeds it (ADR 36).
      recursive_loop = "Allow"
      timeout        = var.batch_pipeline_timeout_seconds
      memory_mb      = var.batch_memory_mb
      environment = merge(local.attempts_environment, {
        TABLE_NAME        = module.table.name
        BUCKET_NAME       = module.bucket.name
        QUEUE_URL         = module.batch_queues["batches"].url
        CHUNKS_QUEUE_URL  = module.batch_queues["chunks"].url
        MAX_LINES         = tostring(var.batch_max_lines)
        MAX_BATCH_BYTES   = tostring(var.batch_max_bytes)
        MAX_LINE_BYTES    = tostring(var.batch_max_line_bytes)
        MAX_OUTPUT_TOKENS = tostring(var.max_output_tokens)
        CHUNK_LINES_MAX   = tostring(var.batch_chunk_lines_max)
        CHUNK_SECONDS     = tostring(floor(var.worker_timeout_seconds / 3))
        LINE_CONCURRENCY  = tostring(var.batch_line_concurrency)
        LEASE_SECONDS     = tostring(var.batch_lease_seconds)
      })
      policies = {
        split-batches       = data.aws_iam_policy_document.split_batches.json
        read-ledger         = data.aws_iam_policy_document.read_ledger.json
        use-ledger          = data.aws_iam_policy_document.use_ledger.json
        read-request-log    = data.aws_iam_policy_document.read_request_log.json
        read-routes         = data.aws_iam_policy_document.read_routes.json
        find-keys           = data.aws_iam_policy_document.find_keys.json
        read-files          = data.aws_iam_policy_document.read_files.json
        read-batch-input    = data.aws_iam_policy_document.read_batch_input.json
        read-batch-objects  = data.aws_iam_policy_document.read_batch_objects.json
        write-batch-objects = data.aws_iam_policy_document.write_batch_objects.json
        receive-batches     = data.aws_iam_policy_document.receive_batches.json
        send-batches        = data.aws_iam_policy_document.send_batches.json
        send-chunks         = data.aws_iam_policy_document.send_chunks.json
        record-dead-letters = data.aws_iam_policy_document.record_dead_letters.json
        use-key             = data.aws_iam_policy_document.use_key.json
      }
    }
    batch_worker = {
      description = "Queue consumer: runs the lines of one chunk of a batch and writes their results."
      # Sends to the queue that feeds it (ADR 36).
      recursive_loop = "Allow"
      timeout        = var.worker_timeout_seconds
      memory_mb      = var.batch_memory_mb
      environment = merge(local.scoring_environment, local.long_attempts["batch_worker"], local.attempts_environment, {
        QUEUE_URL            = module.batch_queues["chunks"].url
        ASSEMBLY_QUEUE_URL   = module.batch_queues["assembly"].url
        LINE_TRIES           = tostring(var.batch_line_tries)
        LINE_CONCURRENCY     = tostring(var.batch_line_concurrency)
        PROVIDER_CONCURRENCY = tostring(var.batch_provider_concurrency)
        LEASE_SECONDS        = tostring(var.batch_lease_seconds)
      })
      policies = merge(local.endpoint_policies, {
        run-chunks          = data.aws_iam_policy_document.run_chunks.json
        share-pace          = data.aws_iam_policy_document.share_pace.json
        read-files          = data.aws_iam_policy_document.read_files.json
        read-batch-input    = data.aws_iam_policy_document.read_batch_input.json
        read-batch-objects  = data.aws_iam_policy_document.read_batch_objects.json
        write-batch-objects = data.aws_iam_policy_document.write_batch_objects.json
        receive-chunks      = data.aws_iam_policy_document.receive_chunks.json
        send-chunks         = data.aws_iam_policy_document.send_chunks.json
        send-assembly       = data.aws_iam_policy_document.send_assembly.json
        record-dead-letters = data.aws_iam_policy_document.record_dead_letters.json
      })
    }
    batch_assembler = {
      description = "Queue consumer: puts the results of a batch together, and watches over batches until they end."
      # Sends to the queue that feeds it (ADR 36).
      recursive_loop = "Allow"
      timeout        = var.batch_pipeline_timeout_seconds
      memory_mb      = var.batch_memory_mb
      environment = merge(local.attempts_environment, {
        TABLE_NAME        = module.table.name
        BUCKET_NAME       = module.bucket.name
        QUEUE_URL         = module.batch_queues["assembly"].url
        BATCHES_QUEUE_URL = module.batch_queues["batches"].url
        CHUNKS_QUEUE_URL  = module.batch_queues["chunks"].url
        FILE_TTL_DAYS     = tostring(var.file_ttl_days)
        WATCH_SECONDS     = tostring(var.batch_watch_seconds)
        LEASE_SECONDS     = tostring(var.batch_lease_seconds)
      })
      policies = {
        assemble-batches    = data.aws_iam_policy_document.assemble_batches.json
        create-files        = data.aws_iam_policy_document.create_files.json
        use-ledger          = data.aws_iam_policy_document.use_ledger.json
        read-batch-input    = data.aws_iam_policy_document.read_batch_input.json
        read-batch-objects  = data.aws_iam_policy_document.read_batch_objects.json
        write-batch-files   = data.aws_iam_policy_document.write_batch_files.json
        receive-assembly    = data.aws_iam_policy_document.receive_assembly.json
        send-batches        = data.aws_iam_policy_document.send_batches.json
        send-chunks         = data.aws_iam_policy_document.send_chunks.json
        send-assembly       = data.aws_iam_policy_document.send_assembly.json
        record-dead-letters = data.aws_iam_policy_document.record_dead_letters.json
        use-key             = data.aws_iam_policy_document.use_key.json
      }
    }
  }
}

# ---- Files and uploads ----

data "aws_iam_policy_document" "keep_files" {
  statement {
    sid       = "KeepFiles"
    actions   = ["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:DeleteItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["FILE#*"]
    }
  }
}

data "aws_iam_policy_document" "create_files" {
  statement {
    sid       = "CreateFiles"
    actions   = ["dynamodb:PutItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["FILE#*"]
    }
  }
}

data "aws_iam_policy_document" "read_files" {
  statement {
    sid       = "GetFiles"
    actions   = ["dynamodb:GetItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["FILE#*"]
    }
  }
}

data "aws_iam_policy_document" "find_files" {
  statement {
    sid       = "QueryFilesByKey"
    actions   = ["dynamodb:Query"]
    resources = [module.table.index_arns["gsi1"]]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["FILES#*"]
    }
  }
}

data "aws_iam_policy_document" "keep_uploads" {
  statement {
    sid       = "KeepUploads"
    actions   = ["dynamodb:GetItem", "dynamodb:Query", "dynamodb:PutItem", "dynamodb:UpdateItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["UPLOAD#*"]
    }
  }

  statement {
    sid       = "EndUploadsWithFiles"
    actions   = ["dynamodb:PutItem", "dynamodb:UpdateItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["UPLOAD#*", "FILE#*"]
    }

    condition {
      test     = "ForAnyValue:StringEquals"
      variable = "dynamodb:EnclosingOperation"
      values   = ["TransactWriteItems"]
    }
  }
}

data "aws_iam_policy_document" "store_files" {
  statement {
    sid = "StoreFiles"
    # Links to a file are good for what their maker may do.
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
    resources = ["${module.bucket.arn}/files/*"]
  }
}

data "aws_iam_policy_document" "store_uploads" {
  statement {
    sid       = "StoreParts"
    actions   = ["s3:GetObject", "s3:PutObject"]
    resources = ["${module.bucket.arn}/uploads/*"]
  }
}

data "aws_iam_policy_document" "compose_files" {
  statement {
    sid       = "ComposeFiles"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
    resources = ["${module.bucket.arn}/files/*"]
  }
}

# ---- Batches and their chunks ----

data "aws_iam_policy_document" "create_batches" {
  statement {
    sid       = "CreateAndHaltBatches"
    actions   = ["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["BATCH#*"]
    }
  }
}

data "aws_iam_policy_document" "find_batches" {
  statement {
    sid       = "QueryBatchesByKey"
    actions   = ["dynamodb:Query"]
    resources = [module.table.index_arns["gsi1"]]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["BATCHES#*"]
    }
  }
}

data "aws_iam_policy_document" "split_batches" {
  statement {
    sid       = "PlanAndBegin"
    actions   = ["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:ConditionCheckItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["BATCH#*"]
    }
  }

  statement {
    sid       = "BeginWithMoney"
    actions   = ["dynamodb:UpdateItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["BATCH#*", "LEDGER#*"]
    }

    condition {
      test     = "ForAnyValue:StringEquals"
      variable = "dynamodb:EnclosingOperation"
      values   = ["TransactWriteItems"]
    }
  }
}

# What was held is set aside for good in one transaction with the batch's beginning, which has to see the ledger as it is.
data "aws_iam_policy_document" "read_ledger" {
  statement {
    sid       = "GetLedger"
    actions   = ["dynamodb:GetItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["LEDGER#*"]
    }
  }
}

data "aws_iam_policy_document" "run_chunks" {
  statement {
    sid       = "ClaimAndRecord"
    actions   = ["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["BATCH#*"]
    }
  }

  statement {
    sid       = "RecordWithMoneyAndLog"
    actions   = ["dynamodb:PutItem", "dynamodb:UpdateItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["BATCH#*", "LEDGER#*", "REQ#*"]
    }

    condition {
      test     = "ForAnyValue:StringEquals"
      variable = "dynamodb:EnclosingOperation"
      values   = ["TransactWriteItems"]
    }
  }
}

data "aws_iam_policy_document" "assemble_batches" {
  statement {
    sid       = "ReadChunksAndFinish"
    actions   = ["dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query", "dynamodb:UpdateItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["BATCH#*"]
    }
  }

  statement {
    sid       = "FinishWithFilesAndMoney"
    actions   = ["dynamodb:PutItem", "dynamodb:UpdateItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["BATCH#*", "FILE#*", "LEDGER#*"]
    }

    condition {
      test     = "ForAnyValue:StringEquals"
      variable = "dynamodb:EnclosingOperation"
      values   = ["TransactWriteItems"]
    }
  }
}

data "aws_iam_policy_document" "share_pace" {
  statement {
    sid       = "TakeTurns"
    actions   = ["dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:PutItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["PACE#*"]
    }
  }
}

data "aws_iam_policy_document" "read_batch_input" {
  statement {
    sid       = "GetInput"
    actions   = ["s3:GetObject"]
    resources = ["${module.bucket.arn}/files/*"]
  }
}

data "aws_iam_policy_document" "read_batch_objects" {
  statement {
    sid       = "GetPlansAndParts"
    actions   = ["s3:GetObject"]
    resources = ["${module.bucket.arn}/batches/*"]
  }
}

data "aws_iam_policy_document" "write_batch_objects" {
  statement {
    sid       = "PutPlansAndParts"
    actions   = ["s3:PutObject"]
    resources = ["${module.bucket.arn}/batches/*"]
  }
}

data "aws_iam_policy_document" "write_batch_files" {
  statement {
    sid       = "ComposeResults"
    actions   = ["s3:PutObject", "s3:ListMultipartUploadParts"]
    resources = ["${module.bucket.arn}/files/*", "${module.bucket.arn}/composing/*"]
  }

  statement {
    sid       = "GetWhatIsBetween"
    actions   = ["s3:GetObject"]
    resources = ["${module.bucket.arn}/composing/*"]
  }
}

# ---- Messages ----

data "aws_iam_policy_document" "send_batches" {
  statement {
    sid       = "SendBatches"
    actions   = ["sqs:SendMessage"]
    resources = [module.batch_queues["batches"].arn]
  }
}

data "aws_iam_policy_document" "send_chunks" {
  statement {
    sid       = "SendChunks"
    actions   = ["sqs:SendMessage"]
    resources = [module.batch_queues["chunks"].arn]
  }

  # AWS authorises SendMessageBatch as SendMessage; the local cloud asks for an action that AWS does not have.
  dynamic "statement" {
    for_each = var.local_endpoints ? ["SendChunksByTens"] : []

    content {
      sid       = statement.value
      actions   = ["sqs:SendMessageBatch"]
      resources = [module.batch_queues["chunks"].arn]
    }
  }
}

data "aws_iam_policy_document" "send_assembly" {
  statement {
    sid       = "SendAssembly"
    actions   = ["sqs:SendMessage"]
    resources = [module.batch_queues["assembly"].arn]
  }
}

data "aws_iam_policy_document" "receive_batches" {
  statement {
    sid = "ReceiveBatches"
    actions = [
      "sqs:ReceiveMessage",
      "sqs:DeleteMessage",
      "sqs:GetQueueAttributes",
      # Retries of a message are spaced out by its visibility.
      "sqs:ChangeMessageVisibility",
    ]
    resources = [module.batch_queues["batches"].arn]
  }
}

data "aws_iam_policy_document" "receive_chunks" {
  statement {
    sid = "ReceiveChunks"
    actions = [
      "sqs:ReceiveMessage",
      "sqs:DeleteMessage",
      "sqs:GetQueueAttributes",
      # Retries of a message are spaced out by its visibility.
      "sqs:ChangeMessageVisibility",
    ]
    resources = [module.batch_queues["chunks"].arn]
  }
}

data "aws_iam_policy_document" "receive_assembly" {
  statement {
    sid = "ReceiveAssembly"
    actions = [
      "sqs:ReceiveMessage",
      "sqs:DeleteMessage",
      "sqs:GetQueueAttributes",
      # Retries of a message are spaced out by its visibility.
      "sqs:ChangeMessageVisibility",
    ]
    resources = [module.batch_queues["assembly"].arn]
  }
}

module "pipeline_functions" {
  source   = "./modules/lambda_function"
  for_each = local.pipeline_functions

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
