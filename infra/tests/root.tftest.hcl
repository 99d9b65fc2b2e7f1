# Proves how the parts are wired: the exact environment of every function, one role for each, what every policy may
# touch, a DLQ for every queue, a key for everything that is stored, and who may call which route.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  environment          = "test"
  package_dir          = "tests/fixtures/packages"
  models_url           = "http://127.0.0.1:1"
  bedrock_endpoint_url = "http://127.0.0.1:2"

  targets = {
    "bedrock/chat" = {
      provider   = "bedrock"
      model      = "us.amazon.nova-lite-v1:0"
      operations = ["chat"]
      price      = { version = "2026-11-21", input_per_mtok = "0.06", output_per_mtok = "0.24" }
    }
    "bedrock/embed" = { provider = "bedrock", model = "amazon.titan-embed-text-v2:0", operations = ["embed", "classify"] }
    "other/chat"    = { provider = "openai_compatible", model = "chat", operations = ["chat"], secret_field = "other" }
    "inside/scorer" = { provider = "in_process", model = "lead-scorer", operations = ["score"] }
  }
  aliases = {
    auto  = { operation = "chat", targets = ["bedrock/chat", "other/chat"] }
    fast  = { operation = "chat", targets = ["other/chat"] }
    cheap = { operation = "chat", targets = ["other/chat"] }
    embed = { operation = "embed", targets = ["bedrock/embed"] }

    classify = { operation = "classify", targets = ["bedrock/embed"] }
    score    = { operation = "score", targets = ["inside/scorer"] }
  }
}

# One run, because each costs a plan of the whole platform; an assertion that fails says what is wrong.
run "wires_the_parts" {
  command = apply

  # Gives every function exactly its environment.
  assert {
    condition     = toset(keys(local.functions_made)) == toset(local.functions) && length(local.functions) == 34
    error_message = "Every function must be made by one of the modes."
  }

  assert {
    condition = alltrue([
      for function, made in local.functions_made : alltrue([
        made.environment.SLUICE_ENVIRONMENT == "test",
        made.environment.SLUICE_SERVICE == function,
        made.environment.LOG_LEVEL == "INFO",
        made.environment.AWS_XRAY_CONTEXT_MISSING == "LOG_ERROR",
      ])
    ])
    error_message = "What every function gets is miswired."
  }

  assert {
    condition = alltrue([
      for function in ["chat_completions", "completions", "chat", "embeddings", "classify"] : {
        for name, value in local.functions_made[function].environment : name => value
        if !contains(["SLUICE_ENVIRONMENT", "SLUICE_SERVICE", "LOG_LEVEL", "AWS_XRAY_CONTEXT_MISSING"], name)
        } == {
        TABLE_NAME                       = "sluice-test"
        BUCKET_NAME                      = "sluice-test-123456789012-us-east-1"
        PROVIDER_SECRET_ARN              = "arn:aws:secretsmanager:us-east-1:123456789012:secret:mock"
        REQUEST_LOG_TTL_DAYS             = "90"
        ATTEMPT_TIMEOUT_SECONDS          = "20"
        MAX_ATTEMPTS                     = "2"
        CIRCUIT_FAILURES                 = "5"
        CIRCUIT_OPEN_SECONDS             = "30"
        CIRCUIT_CACHE_SECONDS            = "3"
        MAX_OUTPUT_TOKENS                = "16384"
        MAX_INPUT_BYTES                  = "1048576"
        IDEMPOTENCY_TTL_SECONDS          = "86400"
        AWS_ENDPOINT_URL_BEDROCK_RUNTIME = "http://127.0.0.1:2"
      }
    ])
    error_message = "The environment of a function that asks models for callers is miswired."
  }

  assert {
    condition = {
      for name, value in local.functions_made["chat_stream"].environment : name => value
      if try(local.functions_made["chat_completions"].environment[name], null) != value
      } == {
      SLUICE_SERVICE               = "chat_stream"
      ATTEMPT_TIMEOUT_SECONDS      = "240"
      FIRST_OUTPUT_TIMEOUT_SECONDS = "20"
      KEY_CACHE_SECONDS            = "60"
      AWS_LAMBDA_EXEC_WRAPPER      = "/opt/bin/stream"
    }
    error_message = "chat_stream must have what chat_completions has, more time for whole answers, the authorizer's memory of keys, and our runtime."
  }

  assert {
    condition     = length(setsubtract(keys(local.functions_made["chat_completions"].environment), keys(local.functions_made["chat_stream"].environment))) == 0
    error_message = "chat_stream must have all that chat_completions has."
  }

  assert {
    condition = { for name, value in local.functions_made["score"].environment : name => value if !startswith(name, "SLUICE_") } == {
      LOG_LEVEL                = "INFO"
      AWS_XRAY_CONTEXT_MISSING = "LOG_ERROR"
      TABLE_NAME               = "sluice-test"
      BUCKET_NAME              = "sluice-test-123456789012-us-east-1"
      PROVIDER_SECRET_ARN      = "arn:aws:secretsmanager:us-east-1:123456789012:secret:mock"
      REQUEST_LOG_TTL_DAYS     = "90"
      ATTEMPT_TIMEOUT_SECONDS  = "20"
      MAX_ATTEMPTS             = "2"
      CIRCUIT_FAILURES         = "5"
      CIRCUIT_OPEN_SECONDS     = "30"
      CIRCUIT_CACHE_SECONDS    = "3"
      MAX_OUTPUT_TOKENS        = "16384"
      IDEMPOTENCY_TTL_SECONDS  = "86400"

      AWS_ENDPOINT_URL_BEDROCK_RUNTIME = "http://127.0.0.1:2"
    }
    error_message = "The environment of score is miswired."
  }

  assert {
    condition = { for name, value in local.functions_made["authorizer"].environment : name => value if !startswith(name, "SLUICE_") } == {
      LOG_LEVEL                = "INFO"
      AWS_XRAY_CONTEXT_MISSING = "LOG_ERROR"
      TABLE_NAME               = "sluice-test"
      KEY_CACHE_SECONDS        = "60"
    }
    error_message = "The environment of authorizer is miswired."
  }

  assert {
    condition = alltrue([
      for function in [
        "models", "health", "webhooks", "workflow_finish", "workflow_ended", "roll_up_usage", "usage", "admin_keys", "admin_usage", "admin_circuits",
      ] :
      { for name, value in local.functions_made[function].environment : name => value if !startswith(name, "SLUICE_") } == {
        LOG_LEVEL                = "INFO"
        AWS_XRAY_CONTEXT_MISSING = "LOG_ERROR"
        TABLE_NAME               = "sluice-test"
      }
    ])
    error_message = "The environment of a function that needs no more than the table is miswired."
  }

  assert {
    condition = { for name, value in local.functions_made["async_submit"].environment : name => value if !startswith(name, "SLUICE_") } == {
      LOG_LEVEL                = "INFO"
      AWS_XRAY_CONTEXT_MISSING = "LOG_ERROR"
      TABLE_NAME               = "sluice-test"
      BUCKET_NAME              = "sluice-test-123456789012-us-east-1"
      QUEUE_URL                = "https://sqs.us-east-1.amazonaws.com/123456789012/mock"
      RESULT_TTL_DAYS          = "30"
      MAX_INPUT_BYTES          = "1048576"
      IDEMPOTENCY_TTL_SECONDS  = "86400"
      WEBHOOKS_ALLOW_PRIVATE   = "false"
    }
    error_message = "The environment of async_submit is miswired."
  }

  assert {
    condition = { for name, value in local.functions_made["async_worker"].environment : name => value if !startswith(name, "SLUICE_") } == {
      LOG_LEVEL                        = "INFO"
      AWS_XRAY_CONTEXT_MISSING         = "LOG_ERROR"
      TABLE_NAME                       = "sluice-test"
      BUCKET_NAME                      = "sluice-test-123456789012-us-east-1"
      QUEUE_URL                        = "https://sqs.us-east-1.amazonaws.com/123456789012/mock"
      PROVIDER_SECRET_ARN              = "arn:aws:secretsmanager:us-east-1:123456789012:secret:mock"
      REQUEST_LOG_TTL_DAYS             = "90"
      ATTEMPT_TIMEOUT_SECONDS          = "240"
      MAX_ATTEMPTS                     = "2"
      CIRCUIT_FAILURES                 = "5"
      CIRCUIT_OPEN_SECONDS             = "30"
      CIRCUIT_CACHE_SECONDS            = "3"
      MAX_OUTPUT_TOKENS                = "16384"
      MAX_RECEIVE_COUNT                = "5"
      RETRY_BASE_SECONDS               = "5"
      AWS_ENDPOINT_URL_BEDROCK_RUNTIME = "http://127.0.0.1:2"
    }
    error_message = "The environment of async_worker is miswired."
  }

  assert {
    condition = { for name, value in local.functions_made["async_status"].environment : name => value if !startswith(name, "SLUICE_") } == {
      LOG_LEVEL                = "INFO"
      AWS_XRAY_CONTEXT_MISSING = "LOG_ERROR"
      TABLE_NAME               = "sluice-test"
      BUCKET_NAME              = "sluice-test-123456789012-us-east-1"
      IDEMPOTENCY_TTL_SECONDS  = "86400"
    }
    error_message = "The environment of async_status is miswired."
  }

  assert {
    condition = { for name, value in local.functions_made["workflow_start"].environment : name => value if !startswith(name, "SLUICE_") } == {
      LOG_LEVEL                = "INFO"
      AWS_XRAY_CONTEXT_MISSING = "LOG_ERROR"
      TABLE_NAME               = "sluice-test"
      BUCKET_NAME              = "sluice-test-123456789012-us-east-1"
      STATE_MACHINE_ARN        = "arn:aws:states:us-east-1:123456789012:stateMachine:sluice-test-chain"
      RESULT_TTL_DAYS          = "30"
      MAX_INPUT_BYTES          = "1048576"
      IDEMPOTENCY_TTL_SECONDS  = "86400"
    }
    error_message = "The environment of workflow_start is miswired."
  }

  assert {
    condition = { for name, value in local.functions_made["workflow_run_step"].environment : name => value if !startswith(name, "SLUICE_") } == {
      LOG_LEVEL                        = "INFO"
      AWS_XRAY_CONTEXT_MISSING         = "LOG_ERROR"
      TABLE_NAME                       = "sluice-test"
      BUCKET_NAME                      = "sluice-test-123456789012-us-east-1"
      PROVIDER_SECRET_ARN              = "arn:aws:secretsmanager:us-east-1:123456789012:secret:mock"
      REQUEST_LOG_TTL_DAYS             = "90"
      ATTEMPT_TIMEOUT_SECONDS          = "96"
      MAX_ATTEMPTS                     = "2"
      CIRCUIT_FAILURES                 = "5"
      CIRCUIT_OPEN_SECONDS             = "30"
      CIRCUIT_CACHE_SECONDS            = "3"
      MAX_OUTPUT_TOKENS                = "16384"
      AWS_ENDPOINT_URL_BEDROCK_RUNTIME = "http://127.0.0.1:2"
    }
    error_message = "The environment of workflow_run_step is miswired."
  }

  assert {
    condition = { for name, value in local.functions_made["workflow_status"].environment : name => value if !startswith(name, "SLUICE_") } == {
      LOG_LEVEL                = "INFO"
      AWS_XRAY_CONTEXT_MISSING = "LOG_ERROR"
      TABLE_NAME               = "sluice-test"
      BUCKET_NAME              = "sluice-test-123456789012-us-east-1"
      STATE_MACHINE_ARN        = "arn:aws:states:us-east-1:123456789012:stateMachine:sluice-test-chain"
    }
    error_message = "The environment of workflow_status is miswired."
  }

  assert {
    condition = { for name, value in local.functions_made["publish_events"].environment : name => value if !startswith(name, "SLUICE_") } == {
      LOG_LEVEL                = "INFO"
      AWS_XRAY_CONTEXT_MISSING = "LOG_ERROR"
      EVENT_BUS_NAME           = "sluice-test"
    }
    error_message = "The environment of publish_events is miswired."
  }

  assert {
    condition = alltrue([
      for function in ["admin_redrive", "admin_dead_letters"] :
      { for name, value in local.functions_made[function].environment : name => value if !startswith(name, "SLUICE_") } == {
        LOG_LEVEL                = "INFO"
        AWS_XRAY_CONTEXT_MISSING = "LOG_ERROR"
        TABLE_NAME               = "sluice-test"
        ASYNC_QUEUE_URL          = "https://sqs.us-east-1.amazonaws.com/123456789012/mock"
        ASYNC_DLQ_URL            = "https://sqs.us-east-1.amazonaws.com/123456789012/mock"
        BATCHES_QUEUE_URL        = "https://sqs.us-east-1.amazonaws.com/123456789012/mock"
        BATCHES_DLQ_URL          = "https://sqs.us-east-1.amazonaws.com/123456789012/mock"
        CHUNKS_QUEUE_URL         = "https://sqs.us-east-1.amazonaws.com/123456789012/mock"
        CHUNKS_DLQ_URL           = "https://sqs.us-east-1.amazonaws.com/123456789012/mock"
        ASSEMBLY_QUEUE_URL       = "https://sqs.us-east-1.amazonaws.com/123456789012/mock"
        ASSEMBLY_DLQ_URL         = "https://sqs.us-east-1.amazonaws.com/123456789012/mock"
        WEBHOOKS_QUEUE_URL       = "https://sqs.us-east-1.amazonaws.com/123456789012/mock"
        WEBHOOKS_DLQ_URL         = "https://sqs.us-east-1.amazonaws.com/123456789012/mock"
      }
    ])
    error_message = "The environment of a function that looks after the queues is miswired."
  }

  assert {
    condition = { for name, value in local.functions_made["files"].environment : name => value if !startswith(name, "SLUICE_") } == {
      LOG_LEVEL                = "INFO"
      AWS_XRAY_CONTEXT_MISSING = "LOG_ERROR"
      TABLE_NAME               = "sluice-test"
      BUCKET_NAME              = "sluice-test-123456789012-us-east-1"
      IDEMPOTENCY_TTL_SECONDS  = "86400"
      FILE_TTL_DAYS            = "30"
      MAX_FILE_BYTES           = "5368709120"
      PRESIGN_SECONDS          = "900"
    }
    error_message = "The environment of files is miswired."
  }

  assert {
    condition = { for name, value in local.functions_made["uploads"].environment : name => value if !startswith(name, "SLUICE_") } == {
      LOG_LEVEL                = "INFO"
      AWS_XRAY_CONTEXT_MISSING = "LOG_ERROR"
      TABLE_NAME               = "sluice-test"
      BUCKET_NAME              = "sluice-test-123456789012-us-east-1"
      IDEMPOTENCY_TTL_SECONDS  = "86400"
      FILE_TTL_DAYS            = "30"
      MAX_FILE_BYTES           = "5368709120"
      PRESIGN_SECONDS          = "900"
      UPLOAD_TTL_SECONDS       = "3600"
    }
    error_message = "The environment of uploads is miswired."
  }

  assert {
    condition = { for name, value in local.functions_made["batches"].environment : name => value if !startswith(name, "SLUICE_") } == {
      LOG_LEVEL                = "INFO"
      AWS_XRAY_CONTEXT_MISSING = "LOG_ERROR"
      TABLE_NAME               = "sluice-test"
      BUCKET_NAME              = "sluice-test-123456789012-us-east-1"
      IDEMPOTENCY_TTL_SECONDS  = "86400"
      BATCHES_QUEUE_URL        = "https://sqs.us-east-1.amazonaws.com/123456789012/mock"
      ASSEMBLY_QUEUE_URL       = "https://sqs.us-east-1.amazonaws.com/123456789012/mock"
      RESULT_TTL_DAYS          = "30"
      FILE_TTL_DAYS            = "30"
      WINDOW                   = "20"
      WATCH_SECONDS            = "60"
      WEBHOOKS_ALLOW_PRIVATE   = "false"
    }
    error_message = "The environment of batches is miswired."
  }

  assert {
    condition = { for name, value in local.functions_made["batch_splitter"].environment : name => value if !startswith(name, "SLUICE_") } == {
      LOG_LEVEL                = "INFO"
      AWS_XRAY_CONTEXT_MISSING = "LOG_ERROR"
      TABLE_NAME               = "sluice-test"
      BUCKET_NAME              = "sluice-test-123456789012-us-east-1"
      MAX_RECEIVE_COUNT        = "5"
      RETRY_BASE_SECONDS       = "5"
      QUEUE_URL                = "https://sqs.us-east-1.amazonaws.com/123456789012/mock"
      CHUNKS_QUEUE_URL         = "https://sqs.us-east-1.amazonaws.com/123456789012/mock"
      MAX_LINES                = "50000"
      MAX_BATCH_BYTES          = "209715200"
      MAX_LINE_BYTES           = "6291456"
      MAX_OUTPUT_TOKENS        = "16384"
      CHUNK_LINES_MAX          = "10000"
      CHUNK_SECONDS            = "100"
      LINE_CONCURRENCY         = "16"
      LEASE_SECONDS            = "60"
    }
    error_message = "The environment of batch_splitter is miswired."
  }

  assert {
    condition = { for name, value in local.functions_made["batch_worker"].environment : name => value if !startswith(name, "SLUICE_") } == {
      LOG_LEVEL                        = "INFO"
      AWS_XRAY_CONTEXT_MISSING         = "LOG_ERROR"
      TABLE_NAME                       = "sluice-test"
      BUCKET_NAME                      = "sluice-test-123456789012-us-east-1"
      PROVIDER_SECRET_ARN              = "arn:aws:secretsmanager:us-east-1:123456789012:secret:mock"
      REQUEST_LOG_TTL_DAYS             = "90"
      ATTEMPT_TIMEOUT_SECONDS          = "240"
      MAX_ATTEMPTS                     = "2"
      CIRCUIT_FAILURES                 = "5"
      CIRCUIT_OPEN_SECONDS             = "30"
      CIRCUIT_CACHE_SECONDS            = "3"
      MAX_OUTPUT_TOKENS                = "16384"
      AWS_ENDPOINT_URL_BEDROCK_RUNTIME = "http://127.0.0.1:2"
      MAX_RECEIVE_COUNT                = "5"
      RETRY_BASE_SECONDS               = "5"
      QUEUE_URL                        = "https://sqs.us-east-1.amazonaws.com/123456789012/mock"
      ASSEMBLY_QUEUE_URL               = "https://sqs.us-east-1.amazonaws.com/123456789012/mock"
      LINE_TRIES                       = "5"
      LINE_CONCURRENCY                 = "16"
      PROVIDER_CONCURRENCY             = "25"
      LEASE_SECONDS                    = "60"
    }
    error_message = "The environment of batch_worker is miswired."
  }

  assert {
    condition = { for name, value in local.functions_made["batch_assembler"].environment : name => value if !startswith(name, "SLUICE_") } == {
      LOG_LEVEL                = "INFO"
      AWS_XRAY_CONTEXT_MISSING = "LOG_ERROR"
      TABLE_NAME               = "sluice-test"
      BUCKET_NAME              = "sluice-test-123456789012-us-east-1"
      MAX_RECEIVE_COUNT        = "5"
      RETRY_BASE_SECONDS       = "5"
      QUEUE_URL                = "https://sqs.us-east-1.amazonaws.com/123456789012/mock"
      BATCHES_QUEUE_URL        = "https://sqs.us-east-1.amazonaws.com/123456789012/mock"
      CHUNKS_QUEUE_URL         = "https://sqs.us-east-1.amazonaws.com/123456789012/mock"
      FILE_TTL_DAYS            = "30"
      WATCH_SECONDS            = "60"
      LEASE_SECONDS            = "60"
    }
    error_message = "The environment of batch_assembler is miswired."
  }

  assert {
    condition = { for name, value in local.functions_made["webhook_sender"].environment : name => value if !startswith(name, "SLUICE_") } == {
      LOG_LEVEL                = "INFO"
      AWS_XRAY_CONTEXT_MISSING = "LOG_ERROR"
      TABLE_NAME               = "sluice-test"
      QUEUE_URL                = "https://sqs.us-east-1.amazonaws.com/123456789012/mock"
      MAX_RECEIVE_COUNT        = "12"
      RETRY_BASE_SECONDS       = "5"
      WEBHOOKS_ALLOW_PRIVATE   = "false"
      WEBHOOK_TIMEOUT_SECONDS  = "10"
    }
    error_message = "The environment of webhook_sender is miswired."
  }

  # Gives every function a role of its own.
  assert {
    condition     = length(distinct([for made in values(local.functions_made) : made.role_name])) == 34
    error_message = "No two functions may share a role."
  }

  assert {
    condition = { for function, made in local.functions_made : function => join(" ", setsubtract(made.concerns, ["logs", "xray", "use-key"])) } == {
      authorizer         = "read-keys"
      chat_completions   = "cache-answers invoke-models read-request-log read-routes read-secret replay-responses share-circuits store-responses stream-models use-ledger write-request-log"
      chat_stream        = "cache-answers invoke-models read-keys read-request-log read-routes read-secret replay-responses share-circuits store-responses stream-models use-ledger write-request-log"
      completions        = "cache-answers invoke-models read-request-log read-routes read-secret replay-responses share-circuits store-responses stream-models use-ledger write-request-log"
      chat               = "cache-answers invoke-models read-request-log read-routes read-secret replay-responses share-circuits store-responses use-ledger write-request-log"
      embeddings         = "cache-answers invoke-models read-request-log read-routes read-secret replay-responses share-circuits store-responses use-ledger write-request-log"
      classify           = "cache-answers invoke-models read-request-log read-routes read-secret replay-responses share-circuits store-responses use-ledger write-request-log"
      score              = "cache-answers read-request-log read-routes replay-responses share-circuits store-responses use-ledger write-request-log"
      models             = "read-routes"
      health             = "read-routes"
      async_submit       = "create-jobs read-routes read-webhook-secrets replay-responses send-jobs store-responses write-job-objects"
      async_worker       = "cache-answers find-keys invoke-models read-job-objects read-request-log read-routes read-secret receive-jobs record-dead-letters send-jobs share-circuits store-responses use-ledger work-on-jobs write-job-objects write-request-log"
      async_status       = "find-jobs read-job-objects read-jobs replay-responses settle-jobs store-responses"
      files              = "find-files keep-files replay-responses store-files store-responses"
      uploads            = "compose-files create-files keep-uploads read-files replay-responses store-responses store-uploads"
      batches            = "create-batches find-batches read-files read-webhook-secrets replay-responses send-assembly send-batches store-responses"
      batch_splitter     = "find-keys read-batch-input read-batch-objects read-files read-ledger read-request-log read-routes receive-batches record-dead-letters send-batches send-chunks split-batches use-ledger write-batch-objects"
      batch_worker       = "cache-answers find-keys invoke-models read-batch-input read-batch-objects read-files read-request-log read-routes read-secret receive-chunks record-dead-letters run-chunks send-assembly send-chunks share-circuits share-pace store-responses use-ledger write-batch-objects write-request-log"
      batch_assembler    = "assemble-batches create-files read-batch-input read-batch-objects receive-assembly record-dead-letters send-assembly send-batches send-chunks use-ledger write-batch-files"
      webhooks           = "keep-webhook-secrets"
      webhook_sender     = "find-keys read-callbacks read-webhook-secrets receive-webhooks record-dead-letters send-webhooks"
      workflow_start     = "create-executions read-routes replay-responses start-executions store-responses write-workflow-objects"
      workflow_run_step  = "cache-answers find-keys invoke-models read-request-log read-routes read-secret read-workflow-objects record-steps share-circuits store-responses use-ledger write-request-log write-workflow-objects"
      workflow_finish    = "finish-executions"
      workflow_ended     = "finish-executions send-to-dlq"
      workflow_status    = "describe-executions read-executions read-workflow-objects settle-executions"
      publish_events     = "put-events read-stream send-to-dlq"
      roll_up_usage      = "read-stream send-to-dlq write-usage"
      usage              = "read-request-log read-usage use-ledger"
      admin_keys         = "find-keys record-actions write-keys"
      admin_usage        = "find-keys find-usage read-usage"
      admin_circuits     = "read-circuits read-routes"
      admin_redrive      = "forget-reasons record-actions send-to-queues take-dead-letters"
      admin_dead_letters = "find-reasons measure-queues"
    }
    error_message = "A function has a concern too many or too few."
  }

  assert {
    condition     = alltrue([for made in values(local.functions_made) : contains(made.concerns, "logs") && contains(made.concerns, "xray")])
    error_message = "Every function must be able to log and to trace."
  }

  # Grants exact actions on exact things.
  assert {
    condition = alltrue(flatten([
      for document in [
        data.aws_iam_policy_document.alarms,
        data.aws_iam_policy_document.apply_guardrails,
        data.aws_iam_policy_document.assemble_batches,
        data.aws_iam_policy_document.cache_answers,
        data.aws_iam_policy_document.compose_files,
        data.aws_iam_policy_document.create_batches,
        data.aws_iam_policy_document.create_executions,
        data.aws_iam_policy_document.create_files,
        data.aws_iam_policy_document.create_jobs,
        data.aws_iam_policy_document.describe_executions,
        data.aws_iam_policy_document.find_batches,
        data.aws_iam_policy_document.find_files,
        data.aws_iam_policy_document.find_jobs,
        data.aws_iam_policy_document.find_keys,
        data.aws_iam_policy_document.find_reasons,
        data.aws_iam_policy_document.find_usage,
        data.aws_iam_policy_document.finish_executions,
        data.aws_iam_policy_document.forget_reasons,
        data.aws_iam_policy_document.invoke_endpoints,
        data.aws_iam_policy_document.invoke_models,
        data.aws_iam_policy_document.keep_files,
        data.aws_iam_policy_document.keep_uploads,
        data.aws_iam_policy_document.keep_webhook_secrets,
        data.aws_iam_policy_document.measure_queues,
        data.aws_iam_policy_document.put_events,
        data.aws_iam_policy_document.read_batch_input,
        data.aws_iam_policy_document.read_batch_objects,
        data.aws_iam_policy_document.read_callbacks,
        data.aws_iam_policy_document.read_circuits,
        data.aws_iam_policy_document.read_executions,
        data.aws_iam_policy_document.read_files,
        data.aws_iam_policy_document.read_job_objects,
        data.aws_iam_policy_document.read_jobs,
        data.aws_iam_policy_document.read_keys,
        data.aws_iam_policy_document.read_ledger,
        data.aws_iam_policy_document.read_request_log,
        data.aws_iam_policy_document.read_routes,
        data.aws_iam_policy_document.read_secret,
        data.aws_iam_policy_document.read_stream,
        data.aws_iam_policy_document.read_usage,
        data.aws_iam_policy_document.read_webhook_secrets,
        data.aws_iam_policy_document.read_workflow_objects,
        data.aws_iam_policy_document.receive_assembly,
        data.aws_iam_policy_document.receive_batches,
        data.aws_iam_policy_document.receive_chunks,
        data.aws_iam_policy_document.receive_jobs,
        data.aws_iam_policy_document.receive_webhooks,
        data.aws_iam_policy_document.record_actions,
        data.aws_iam_policy_document.record_dead_letters,
        data.aws_iam_policy_document.record_steps,
        data.aws_iam_policy_document.replay_responses,
        data.aws_iam_policy_document.run_chunks,
        data.aws_iam_policy_document.send_assembly,
        data.aws_iam_policy_document.send_batches,
        data.aws_iam_policy_document.send_chunks,
        data.aws_iam_policy_document.send_jobs,
        data.aws_iam_policy_document.send_to_event_dlq,
        data.aws_iam_policy_document.send_to_queues,
        data.aws_iam_policy_document.send_webhooks,
        data.aws_iam_policy_document.settle_executions,
        data.aws_iam_policy_document.settle_jobs,
        data.aws_iam_policy_document.share_circuits,
        data.aws_iam_policy_document.share_pace,
        data.aws_iam_policy_document.split_batches,
        data.aws_iam_policy_document.start_executions,
        data.aws_iam_policy_document.store_files,
        data.aws_iam_policy_document.store_responses,
        data.aws_iam_policy_document.store_uploads,
        data.aws_iam_policy_document.stream_models,
        data.aws_iam_policy_document.take_dead_letters,
        data.aws_iam_policy_document.use_key,
        data.aws_iam_policy_document.use_ledger,
        data.aws_iam_policy_document.work_on_jobs,
        data.aws_iam_policy_document.write_batch_files,
        data.aws_iam_policy_document.write_batch_objects,
        data.aws_iam_policy_document.write_job_objects,
        data.aws_iam_policy_document.write_keys,
        data.aws_iam_policy_document.write_request_log,
        data.aws_iam_policy_document.write_usage,
        data.aws_iam_policy_document.write_workflow_objects,
        ] : [
        for statement in document.statement : concat(
          [for action in statement.actions : !strcontains(action, "*")],
          [for resource in statement.resources : resource != "*" && startswith(resource, "arn:aws:")],
        )
      ]
    ]))
    error_message = "Every action must be named in full, and no statement may be about everything."
  }

  # X-Ray has no resource-level permissions, so these two actions are allowed on `*`; nothing else is.
  assert {
    condition = alltrue(flatten([
      for made in values(local.functions_made) : [
        for concern, statements in made.statements : [
          for statement in statements : !contains(statement.resources, "*") || (concern == "xray" && statement.actions == toset(["xray:PutTelemetryRecords", "xray:PutTraceSegments"]))
        ]
      ]
    ]))
    error_message = "Only X-Ray's actions may be allowed on everything."
  }

  assert {
    condition = alltrue([
      for document, prefix in {
        read_keys            = { document = data.aws_iam_policy_document.read_keys, keys = "KEY#*" }
        write_keys           = { document = data.aws_iam_policy_document.write_keys, keys = "KEY#*" }
        find_keys            = { document = data.aws_iam_policy_document.find_keys, keys = "KEYS" }
        find_usage           = { document = data.aws_iam_policy_document.find_usage, keys = "USAGE#*" }
        read_usage           = { document = data.aws_iam_policy_document.read_usage, keys = "USAGE#*" }
        write_usage          = { document = data.aws_iam_policy_document.write_usage, keys = "USAGE#*" }
        record_actions       = { document = data.aws_iam_policy_document.record_actions, keys = "AUDIT#*" }
        use_ledger           = { document = data.aws_iam_policy_document.use_ledger, keys = "LEDGER#*" }
        cache_answers        = { document = data.aws_iam_policy_document.cache_answers, keys = "CACHE#*" }
        replay_responses     = { document = data.aws_iam_policy_document.replay_responses, keys = "IDEM#*" }
        read_request_log     = { document = data.aws_iam_policy_document.read_request_log, keys = "REQ#*" }
        read_routes          = { document = data.aws_iam_policy_document.read_routes, keys = "ROUTES" }
        write_request_log    = { document = data.aws_iam_policy_document.write_request_log, keys = "REQ#*" }
        create_jobs          = { document = data.aws_iam_policy_document.create_jobs, keys = "ASYNC#*" }
        work_on_jobs         = { document = data.aws_iam_policy_document.work_on_jobs, keys = "ASYNC#*" }
        read_jobs            = { document = data.aws_iam_policy_document.read_jobs, keys = "ASYNC#*" }
        settle_jobs          = { document = data.aws_iam_policy_document.settle_jobs, keys = "ASYNC#*" }
        create_executions    = { document = data.aws_iam_policy_document.create_executions, keys = "EXEC#*" }
        record_steps         = { document = data.aws_iam_policy_document.record_steps, keys = "EXEC#*" }
        finish_executions    = { document = data.aws_iam_policy_document.finish_executions, keys = "EXEC#*" }
        read_executions      = { document = data.aws_iam_policy_document.read_executions, keys = "EXEC#*" }
        settle_executions    = { document = data.aws_iam_policy_document.settle_executions, keys = "EXEC#*" }
        find_jobs            = { document = data.aws_iam_policy_document.find_jobs, keys = "ASYNC#*" }
        keep_files           = { document = data.aws_iam_policy_document.keep_files, keys = "FILE#*" }
        create_files         = { document = data.aws_iam_policy_document.create_files, keys = "FILE#*" }
        read_files           = { document = data.aws_iam_policy_document.read_files, keys = "FILE#*" }
        find_files           = { document = data.aws_iam_policy_document.find_files, keys = "FILES#*" }
        keep_uploads         = { document = data.aws_iam_policy_document.keep_uploads, keys = "UPLOAD#*" }
        create_batches       = { document = data.aws_iam_policy_document.create_batches, keys = "BATCH#*" }
        find_batches         = { document = data.aws_iam_policy_document.find_batches, keys = "BATCHES#*" }
        split_batches        = { document = data.aws_iam_policy_document.split_batches, keys = "BATCH#*" }
        run_chunks           = { document = data.aws_iam_policy_document.run_chunks, keys = "BATCH#*" }
        read_ledger          = { document = data.aws_iam_policy_document.read_ledger, keys = "LEDGER#*" }
        assemble_batches     = { document = data.aws_iam_policy_document.assemble_batches, keys = "BATCH#*" }
        share_pace           = { document = data.aws_iam_policy_document.share_pace, keys = "PACE#*" }
        keep_webhook_secrets = { document = data.aws_iam_policy_document.keep_webhook_secrets, keys = "WEBHOOK#*" }
        read_webhook_secrets = { document = data.aws_iam_policy_document.read_webhook_secrets, keys = "WEBHOOK#*" }
        record_dead_letters  = { document = data.aws_iam_policy_document.record_dead_letters, keys = "DLQ#*" }
        forget_reasons       = { document = data.aws_iam_policy_document.forget_reasons, keys = "DLQ#*" }
        find_reasons         = { document = data.aws_iam_policy_document.find_reasons, keys = "DLQ#*" }
      } : alltrue([for statement in prefix.document.statement : one(statement.condition).variable == "dynamodb:LeadingKeys" && one(statement.condition).values == tolist([prefix.keys]) if length(statement.condition) < 2])
    ])
    error_message = "Each concern must be kept to its own items of the table."
  }

  # Lets transactions be about several concerns, and nothing else.
  assert {
    condition = {
      for document in [
        data.aws_iam_policy_document.write_keys,
        data.aws_iam_policy_document.keep_uploads,
        data.aws_iam_policy_document.split_batches,
        data.aws_iam_policy_document.run_chunks,
        data.aws_iam_policy_document.assemble_batches,
        ] : document.statement[1].sid => join(" ", concat(
          sort(document.statement[1].actions),
          flatten([for condition in document.statement[1].condition : concat([condition.test, condition.variable], condition.values)]),
      ))
      } == {
      WriteKeysWithAudit      = "dynamodb:PutItem ForAllValues:StringLike dynamodb:LeadingKeys KEY#* AUDIT#* ForAnyValue:StringEquals dynamodb:EnclosingOperation TransactWriteItems"
      EndUploadsWithFiles     = "dynamodb:PutItem dynamodb:UpdateItem ForAllValues:StringLike dynamodb:LeadingKeys UPLOAD#* FILE#* ForAnyValue:StringEquals dynamodb:EnclosingOperation TransactWriteItems"
      BeginWithMoney          = "dynamodb:UpdateItem ForAllValues:StringLike dynamodb:LeadingKeys BATCH#* LEDGER#* ForAnyValue:StringEquals dynamodb:EnclosingOperation TransactWriteItems"
      RecordWithMoneyAndLog   = "dynamodb:PutItem dynamodb:UpdateItem ForAllValues:StringLike dynamodb:LeadingKeys BATCH#* LEDGER#* REQ#* ForAnyValue:StringEquals dynamodb:EnclosingOperation TransactWriteItems"
      FinishWithFilesAndMoney = "dynamodb:PutItem dynamodb:UpdateItem ForAllValues:StringLike dynamodb:LeadingKeys BATCH#* FILE#* LEDGER#* ForAnyValue:StringEquals dynamodb:EnclosingOperation TransactWriteItems"
    }
    error_message = "A transaction over several concerns must be allowed as a whole, and only as a transaction."
  }

  assert {
    condition = one(data.aws_iam_policy_document.invoke_models.statement).resources == toset([
      "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-lite-v1:0",
      "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-lite-v1:0",
      "arn:aws:bedrock:us-east-1::foundation-model/amazon.titan-embed-text-v2:0",
      "arn:aws:bedrock:us-east-2::foundation-model/amazon.nova-lite-v1:0",
      "arn:aws:bedrock:us-west-2::foundation-model/amazon.nova-lite-v1:0",
    ])
    error_message = "Only the targets' models may be invoked, a cross-region one in each of its regions."
  }

  assert {
    condition     = toset(one(data.aws_iam_policy_document.use_key.statement).actions) == toset(["kms:Decrypt", "kms:GenerateDataKey"]) && one(one(data.aws_iam_policy_document.use_key.statement).condition).variable == "kms:ViaService"
    error_message = "The key may be used through the services that store something only."
  }

  # Has a DLQ for every queue and stream.
  assert {
    condition     = jsondecode(module.async_queue.redrive_policy).deadLetterTargetArn == module.async_queue.dlq.arn && jsondecode(module.async_queue.redrive_policy).maxReceiveCount == tonumber(module.batch_functions["async_worker"].environment.MAX_RECEIVE_COUNT) + 1
    error_message = "The async queue must redrive to its DLQ, after one delivery more than the worker makes attempts."
  }

  assert {
    condition     = module.async_queue.visibility_timeout_seconds == 6 * var.worker_timeout_seconds
    error_message = "A message must stay hidden for six timeouts of the worker."
  }

  assert {
    condition     = one(one(aws_lambda_event_source_mapping.table_stream.destination_config).on_failure).destination_arn == module.event_dlq.arn && aws_lambda_event_source_mapping.table_stream.bisect_batch_on_function_error
    error_message = "A change that cannot be published must be told from its batch, and go to the DLQ."
  }

  assert {
    condition     = aws_lambda_event_source_mapping.async_queue.function_response_types == toset(["ReportBatchItemFailures"]) && one(aws_lambda_event_source_mapping.async_queue.scaling_config).maximum_concurrency == var.worker_maximum_concurrency
    error_message = "The worker must report each failed message, and be bounded."
  }

  # Lets those come back that send to the queue that feeds them.
  assert {
    condition     = toset([for function, made in local.functions_made : function if made.recursive_loop == "Allow"]) == toset(["async_worker", "batch_splitter", "batch_worker", "batch_assembler", "webhook_sender"])
    error_message = "Lambda must stop every loop but those that are meant."
  }

  # Looks after every queue.
  assert {
    condition     = toset(keys(local.queues)) == toset(["async", "assembly", "batches", "chunks", "webhooks"])
    error_message = "A queue with a consumer must be one that administrators can look at and redrive."
  }

  assert {
    condition     = length(data.aws_iam_policy_document.take_dead_letters.statement[0].resources) == 5 && length(data.aws_iam_policy_document.send_to_queues.statement[0].resources) == 5 && length(data.aws_iam_policy_document.measure_queues.statement[0].resources) == 10
    error_message = "Dead letters of every queue must be there to be looked at and moved."
  }

  assert {
    condition = alltrue([
      for name, queue in local.queues :
      jsondecode(queue.redrive_policy).deadLetterTargetArn == queue.dlq.arn && length(queue.alarm_names) == 1
    ])
    error_message = "Every queue must redrive to its DLQ, which must have an alarm."
  }

  assert {
    condition = alltrue([
      for name, queue in local.batch_queues :
      jsondecode(module.batch_queues[name].redrive_policy).maxReceiveCount == tonumber(module.pipeline_functions[queue.consumer].environment.MAX_RECEIVE_COUNT) + 1 && module.batch_queues[name].visibility_timeout_seconds == 6 * queue.timeout
    ])
    error_message = "A message must be delivered once more than there are attempts, and stay hidden for six timeouts of its consumer."
  }

  assert {
    condition     = jsondecode(module.webhook_queue.redrive_policy).maxReceiveCount == tonumber(module.webhook_functions["webhook_sender"].environment.MAX_RECEIVE_COUNT) + 1 && module.webhook_queue.visibility_timeout_seconds == 6 * 30
    error_message = "A webhook must be delivered once more than there are attempts, and stay hidden for six timeouts of its sender."
  }

  assert {
    condition = { for name, mapping in aws_lambda_event_source_mapping.batch_queues : name => "${mapping.function_name} ${mapping.batch_size} ${join(",", mapping.function_response_types)} ${one(mapping.scaling_config).maximum_concurrency}" } == {
      batches  = "${module.pipeline_functions["batch_splitter"].alias.arn} 1 ReportBatchItemFailures 50"
      chunks   = "${module.pipeline_functions["batch_worker"].alias.arn} 1 ReportBatchItemFailures 50"
      assembly = "${module.pipeline_functions["batch_assembler"].alias.arn} 1 ReportBatchItemFailures 50"
    }
    error_message = "Each message of the pipeline must have an invocation of its own consumer, and workers be bounded."
  }

  assert {
    condition     = aws_lambda_event_source_mapping.webhook_queue.function_response_types == toset(["ReportBatchItemFailures"])
    error_message = "The sender must report each webhook that was not taken."
  }

  # Tells what has ended.
  assert {
    condition = { for name, rule in local.completion_rules : name => jsondecode(rule.pattern) } == {
      webhooks = { source = ["sluice"], detail = { callback = [true] } }
    }
    error_message = "Webhooks are for what names a callback, and without a topic there is nothing else to tell."
  }

  assert {
    condition     = local.completion_rules["webhooks"].target_arn == "arn:aws:sqs:us-east-1:123456789012:sluice-test-webhooks" && alltrue([for rule in values(local.completion_rules) : rule.dead_letter_arn == module.event_dlq.arn])
    error_message = "Events must lead to the queue of the sender, and what cannot be delivered to the events' DLQ."
  }

  assert {
    condition     = length(aws_sns_topic.completion) == 0 && output.completion_topic_arn == null
    error_message = "There must be no topic unless it is asked for."
  }

  # Keeps files and results as long as they are seen.
  assert {
    condition     = module.bucket.expiration_days["files/"] == var.file_ttl_days + 1 && module.bucket.expiration_days["uploads/"] * 86400 > var.upload_ttl_seconds && module.bucket.expiration_days["batches/"] > 14
    error_message = "The bucket must not delete what its owner can still see, nor the parts of what is not done or may be redriven."
  }

  # Lets the assembler make objects between parts and output, and none of them stay.
  assert {
    condition = {
      for statement in data.aws_iam_policy_document.write_batch_files.statement : statement.sid => sort(concat(tolist(statement.actions), tolist(statement.resources)))
      } == {
      ComposeResults   = sort(["s3:PutObject", "s3:ListMultipartUploadParts", "${module.bucket.arn}/files/*", "${module.bucket.arn}/composing/*"])
      GetWhatIsBetween = sort(["s3:GetObject", "${module.bucket.arn}/composing/*"])
    } && module.bucket.expiration_days["composing/"] == 2
    error_message = "What is put together in two levels needs a place to do so, which is emptied."
  }

  # Leaves the embedding model out where no target needs it.
  assert {
    condition     = toset(keys(aws_lambda_layer_version.this)) == toset(["dependencies", "sluice"]) && alltrue([for platform in values(local.function_platforms) : length(platform.layers) == 2])
    error_message = "A layer that nobody needs costs every cold start."
  }

  # Gives what works on batches its own memory.
  assert {
    condition     = { for function, made in module.pipeline_functions : function => made.memory_mb } == { files = 512, uploads = 512, batches = 512, batch_splitter = 1769, batch_worker = 1769, batch_assembler = 1769 }
    error_message = "What reads inputs, runs lines and assembles results must have the memory that its variable says, all others that of every function."
  }

  # Hears of executions that end without success.
  assert {
    condition = jsondecode(aws_cloudwatch_event_rule.workflow_ended.event_pattern) == jsondecode(jsonencode({
      source        = ["aws.states"]
      "detail-type" = ["Step Functions Execution Status Change"]
      detail = {
        stateMachineArn = ["arn:aws:states:us-east-1:123456789012:stateMachine:sluice-test-chain"]
        status          = ["ABORTED", "FAILED", "TIMED_OUT"]
      }
    }))
    error_message = "Every end without success of this state machine, and of no other, must be heard of."
  }

  assert {
    condition     = aws_cloudwatch_event_rule.workflow_ended.name == local.workflow_ended_rule && aws_cloudwatch_event_target.workflow_ended.arn == module.workflow_functions["workflow_ended"].alias.arn && aws_lambda_permission.workflow_ended.source_arn == aws_cloudwatch_event_rule.workflow_ended.arn && aws_lambda_permission.workflow_ended.qualifier == "live"
    error_message = "The rule, and nothing else, must invoke the function's alias."
  }

  assert {
    condition     = one(aws_cloudwatch_event_target.workflow_ended.dead_letter_config).arn == module.event_dlq.arn && one(one(aws_lambda_function_event_invoke_config.workflow_ended.destination_config).on_failure).destination == module.event_dlq.arn
    error_message = "What is not delivered and what fails must go to the DLQ."
  }

  # Publishes what has ended.
  assert {
    condition = toset([for filter in one(aws_lambda_event_source_mapping.table_stream.filter_criteria).filter : one(jsondecode(filter.pattern).dynamodb.Keys.pk.S).prefix]) == toset([
      "AUDIT#", "REQ#", "ASYNC#", "BATCH#", "EXEC#",
    ])
    error_message = "Only requests, jobs, batches, executions and what administrators did become events."
  }

  # Adds up what was used.
  assert {
    condition = jsondecode(one(one(aws_lambda_event_source_mapping.usage.filter_criteria).filter).pattern) == jsondecode(jsonencode({
      eventName = ["INSERT", "MODIFY"]
      dynamodb  = { Keys = { pk = { S = [{ prefix = "REQ#" }] } } }
    }))
    error_message = "Usage must be added up from the request log, of which nothing is left out, and from nothing else."
  }

  assert {
    condition     = aws_lambda_event_source_mapping.usage.function_name == module.governance_functions["roll_up_usage"].alias.arn && aws_lambda_event_source_mapping.usage.event_source_arn == module.table.stream_arn
    error_message = "The table's stream must lead to the function that adds up."
  }

  assert {
    condition     = one(one(aws_lambda_event_source_mapping.usage.destination_config).on_failure).destination_arn == module.event_dlq.arn && aws_lambda_event_source_mapping.usage.bisect_batch_on_function_error
    error_message = "An entry that cannot be counted must be told from its batch, and go to the DLQ."
  }

  # Forgets stored answers.
  assert {
    condition     = module.bucket.expiration_days["responses/"] * 86400 >= 2 * var.idempotency_ttl_seconds
    error_message = "A response must outlive the record that leads to it."
  }

  # Encrypts everything that is stored.
  assert {
    condition = alltrue([
      for key in concat(
        [module.table.kms_key_arn, module.bucket.kms_key_arn, module.packages.kms_key_arn, module.event_bus.kms_key_arn],
        flatten([for queue in values(local.queues) : [queue.kms_key_arn, queue.dlq.kms_key_arn]]),
        [module.event_dlq.kms_key_arn],
        [aws_secretsmanager_secret.providers.kms_key_id, aws_sns_topic.alarms.kms_master_key_id],
        # Environment and logs of each function.
        [for made in values(local.functions_made) : made.kms_key_arn],
      ) : key == module.key.arn
    ])
    error_message = "Table, buckets, bus, queues, secret, topic, logs and environments must be encrypted with the one key."
  }

  # Routes and authorises.
  assert {
    condition = { for operation, route in output.routes : operation => "${route.request} ${route.authorization} ${route.function}" } == {
      create_chat_completion       = "POST /v1/chat/completions CUSTOM chat_completions"
      create_completion            = "POST /v1/completions CUSTOM completions"
      create_chat                  = "POST /v1/chat CUSTOM chat"
      create_classification        = "POST /v1/classify CUSTOM classify"
      create_score                 = "POST /v1/score CUSTOM score"
      create_embedding             = "POST /v1/embeddings CUSTOM embeddings"
      list_models                  = "GET /v1/models CUSTOM models"
      retrieve_model               = "GET /v1/models/{model+} CUSTOM models"
      health                       = "GET /v1/health NONE health"
      create_async_chat_completion = "POST /v1/async/chat/completions CUSTOM async_submit"
      create_async_completion      = "POST /v1/async/completions CUSTOM async_submit"
      create_async_chat            = "POST /v1/async/chat CUSTOM async_submit"
      create_async_embedding       = "POST /v1/async/embeddings CUSTOM async_submit"
      create_async_classification  = "POST /v1/async/classify CUSTOM async_submit"
      create_async_score           = "POST /v1/async/score CUSTOM async_submit"
      create_async_summary         = "POST /v1/async/summarize CUSTOM async_submit"
      list_async                   = "GET /v1/async CUSTOM async_status"
      retrieve_async               = "GET /v1/async/{id} CUSTOM async_status"
      cancel_async                 = "POST /v1/async/{id}/cancel CUSTOM async_status"
      create_file                  = "POST /v1/files CUSTOM files"
      list_files                   = "GET /v1/files CUSTOM files"
      retrieve_file                = "GET /v1/files/{id} CUSTOM files"
      delete_file                  = "DELETE /v1/files/{id} CUSTOM files"
      retrieve_file_content        = "GET /v1/files/{id}/content CUSTOM files"
      create_upload                = "POST /v1/uploads CUSTOM uploads"
      retrieve_upload              = "GET /v1/uploads/{id} CUSTOM uploads"
      create_upload_part           = "POST /v1/uploads/{id}/parts CUSTOM uploads"
      complete_upload              = "POST /v1/uploads/{id}/complete CUSTOM uploads"
      cancel_upload                = "POST /v1/uploads/{id}/cancel CUSTOM uploads"
      create_batch                 = "POST /v1/batches CUSTOM batches"
      list_batches                 = "GET /v1/batches CUSTOM batches"
      retrieve_batch               = "GET /v1/batches/{id} CUSTOM batches"
      cancel_batch                 = "POST /v1/batches/{id}/cancel CUSTOM batches"
      create_webhook_secret        = "POST /v1/webhooks/secret CUSTOM webhooks"
      retrieve_webhook_secret      = "GET /v1/webhooks/secret CUSTOM webhooks"
      delete_webhook_secret        = "DELETE /v1/webhooks/secret CUSTOM webhooks"
      create_workflow_execution    = "POST /v1/workflows/{name}/executions CUSTOM workflow_start"
      retrieve_workflow_execution  = "GET /v1/workflows/executions/{id} CUSTOM workflow_status"
      retrieve_usage               = "GET /v1/usage CUSTOM usage"
      create_key                   = "POST /v1/admin/keys AWS_IAM admin_keys"
      list_keys                    = "GET /v1/admin/keys AWS_IAM admin_keys"
      retrieve_key                 = "GET /v1/admin/keys/{id} AWS_IAM admin_keys"
      update_key                   = "PATCH /v1/admin/keys/{id} AWS_IAM admin_keys"
      revoke_key                   = "DELETE /v1/admin/keys/{id} AWS_IAM admin_keys"
      rotate_key                   = "POST /v1/admin/keys/{id}/rotate AWS_IAM admin_keys"
      report_usage                 = "GET /v1/admin/usage AWS_IAM admin_usage"
      list_circuits                = "GET /v1/admin/circuits AWS_IAM admin_circuits"
      list_queues                  = "GET /v1/admin/queues AWS_IAM admin_dead_letters"
      list_dead_letters            = "GET /v1/admin/queues/{name}/dead-letters AWS_IAM admin_dead_letters"
      redrive_queue                = "POST /v1/admin/queues/{name}/redrive AWS_IAM admin_redrive"
    }
    error_message = "A route is missing, is open to the wrong callers or leads to the wrong function."
  }

  assert {
    condition     = [for operation, route in output.routes : operation if route.validates != null] == []
    error_message = "No body may be validated by the gateway, whose message cannot name the field."
  }

  # Streams by a URL of its own.
  assert {
    condition     = output.stream_url == "https://mockurl.lambda-url.us-east-1.on.aws/v1"
    error_message = "An OpenAI client must be able to take the URL as it is."
  }

  # Puts targets and aliases into the table.
  assert {
    condition = jsondecode(aws_dynamodb_table_item.target["bedrock/chat"].item) == jsondecode(jsonencode({
      pk           = { S = "ROUTES" }
      sk           = { S = "TARGET#bedrock/chat" }
      name         = { S = "bedrock/chat" }
      provider     = { S = "bedrock" }
      model        = { S = "us.amazon.nova-lite-v1:0" }
      operations   = { L = [{ S = "chat" }] }
      created      = { N = "1795219200" }
      capabilities = { L = [{ S = "streaming" }] }
      price        = { M = { version = { S = "2026-11-21" }, input_per_mtok = { S = "0.06" }, output_per_mtok = { S = "0.24" } } }
    }))
    error_message = "A target must be stored as the functions read it."
  }

  assert {
    condition     = jsondecode(aws_dynamodb_table_item.target["other/chat"].item).base_url.S == "http://127.0.0.1:1/openai/v1" && jsondecode(aws_dynamodb_table_item.target["other/chat"].item).secret_field.S == "other"
    error_message = "A target without a base URL must be the local model server's."
  }

  assert {
    condition     = [for target in jsondecode(aws_dynamodb_table_item.alias["auto"].item).targets.L : target.M.target.S] == ["bedrock/chat", "other/chat"]
    error_message = "An alias must keep the order of its targets."
  }

  # Has alarms for everything.
  assert {
    condition     = length(output.alarm_names) == 34 * 3 + 1 + 2 + 6 + 1 && length(distinct(output.alarm_names)) == length(output.alarm_names)
    error_message = "Functions, URL, API, dead-letter queues and state machine must be watched."
  }

  assert {
    condition     = length(output.log_group_names) == 34 + 2 + 1
    error_message = "Every function, the API and the state machine must have a log group of ours."
  }

  # Has no firewall, no domain and no snapshots by default.
  assert {
    condition     = alltrue([for made in values(local.functions_made) : !made.snap_start]) && length(aws_wafv2_web_acl.this) == 0 && length(aws_api_gateway_domain_name.this) == 0 && output.api_url == "https://mockapi.execute-api.us-east-1.amazonaws.com/api/v1"
    error_message = "What costs money while nobody calls must be asked for."
  }
}

run "takes_what_is_optional" {
  command = apply

  variables {
    bedrock_endpoint_url     = null
    completion_topic_enabled = true
    targets                  = merge(var.targets, { "inside/embed" = { provider = "in_process", model = "static-embeddings", operations = ["embed"] } })
    waf                      = { requests_per_5_minutes = 500 }
    domain                   = { name = "api.example.com", certificate_arn = "arn:aws:acm:us-east-1:123456789012:certificate/1", zone_id = "Z1" }
    permissions_boundary     = "sluice-test-boundary"
    snap_start               = ["authorizer", "chat_stream", "webhook_sender"]

    long_attempt_timeout_seconds = 720
  }

  # Keeps snapshots of the functions that are named.
  assert {
    condition     = [for function, made in local.functions_made : function if made.snap_start] == ["authorizer", "chat_stream", "webhook_sender"]
    error_message = "A snapshot is billed while nobody calls: only what is named may have one."
  }

  # Ends every attempt before its function, whatever it is told.
  assert {
    condition = {
      for function in ["async_worker", "batch_worker", "chat_stream", "workflow_run_step"] :
      function => local.functions_made[function].environment.ATTEMPT_TIMEOUT_SECONDS
    } == { async_worker = "240", batch_worker = "240", chat_stream = "240", workflow_run_step = "96" }
    error_message = "An attempt must leave a fifth of its function's time for another target."
  }

  # Calls Bedrock itself unless told otherwise.
  assert {
    condition     = alltrue([for made in values(local.functions_made) : !contains(keys(made.environment), "AWS_ENDPOINT_URL_BEDROCK_RUNTIME")])
    error_message = "On AWS no function may have another endpoint for Bedrock."
  }

  # Tells a topic if asked to.
  assert {
    condition     = jsondecode(local.completion_rules["completion"].pattern) == jsondecode(jsonencode({ source = ["sluice"], "detail-type" = [{ prefix = "sluice.batch." }, { prefix = "sluice.async." }] })) && local.completion_rules["completion"].target_arn == "arn:aws:sns:us-east-1:123456789012:sluice-test-completion"
    error_message = "The topic must be told of batches and asynchronous requests, and of nothing else."
  }

  assert {
    condition     = one(aws_sns_topic.completion).name == "sluice-test-completion" && one(aws_sns_topic.completion).kms_master_key_id == module.key.arn
    error_message = "What is told must be encrypted with the one key."
  }

  assert {
    condition     = length(one(data.aws_iam_policy_document.completion.statement).condition) == 0 && one(data.aws_iam_policy_document.completion.statement).resources == toset([local.completion_topic_arn])
    error_message = "EventBridge must be let in without a condition, which SNS does not support for it."
  }

  assert {
    condition     = contains([for statement in module.key.statements : join(" ", concat([statement.sid], statement.conditions))], "PublishEventsToTopics kms:EncryptionContext:aws:sns:topicArn")
    error_message = "EventBridge must be able to encrypt for the topic."
  }

  # Gives the embedding model to those who embed.
  assert {
    condition     = toset(keys(aws_lambda_layer_version.this)) == toset(["dependencies", "sluice", "embeddings"]) && [for function in sort(local.functions) : function if length(local.function_platforms[function].layers) == 3] == ["async_worker", "batch_worker", "embeddings"]
    error_message = "Functions that may be asked for embeddings must have the model, and no others."
  }

  # Takes a firewall and a domain.
  assert {
    condition     = toset([for rule in one(aws_wafv2_web_acl.this).rule : rule.name]) == toset(["rate-limit", "common", "known-bad-inputs"])
    error_message = "The firewall must limit rates and hold AWS's common and known-bad-input rules."
  }

  assert {
    condition = {
      for rule in one(aws_wafv2_web_acl.this).rule : rule.name => join(" ", sort([
        for override in one(one(rule.statement).managed_rule_group_statement).rule_action_override : override.name if length(one(override.action_to_use).count) == 1
      ])) if rule.name != "rate-limit"
      } == {
      common           = "CrossSiteScripting_BODY EC2MetaDataSSRF_BODY GenericLFI_BODY GenericRFI_BODY SizeRestrictions_BODY"
      known-bad-inputs = "JavaDeserializationRCE_BODY Log4JRCE_BODY ReactJSRCE_BODY"
    }
    error_message = "A prompt may speak of anything: rules about bodies must count, not block."
  }

  assert {
    condition     = output.api_url == "https://api.example.com/v1" && length(aws_route53_record.this) == 1
    error_message = "The URL must be the domain's."
  }

  # Carries the boundary.
  assert {
    condition     = local.permissions_boundary_arn == "arn:aws:iam::123456789012:policy/sluice-test-boundary" && local.function_platform.permissions_boundary_arn == local.permissions_boundary_arn
    error_message = "Every role must carry the boundary."
  }
}

run "asks_for_the_packages" {
  command = plan

  variables {
    package_dir = "tests/fixtures/nothing"
  }

  expect_failures = [aws_s3_object.layer]
}

run "refuses_aliases_that_lead_nowhere" {
  command = plan

  variables {
    aliases = {
      auto  = { operation = "chat", targets = ["bedrock/missing"] }
      fast  = { operation = "chat", targets = [] }
      cheap = { operation = "embed", targets = ["other/chat"] }
    }
  }

  expect_failures = [var.aliases]
}

run "refuses_an_alias_for_another_operation" {
  command = plan

  variables {
    aliases = {
      auto  = { operation = "chat", targets = ["other/chat"] }
      fast  = { operation = "chat", targets = ["other/chat"] }
      cheap = { operation = "chat", targets = ["bedrock/embed"] }
      embed = { operation = "embed", targets = ["bedrock/embed"] }
    }
  }

  expect_failures = [var.aliases]
}

run "refuses_prices_that_are_no_decimals" {
  command = plan

  variables {
    targets = {
      "bedrock/chat"  = { provider = "bedrock", model = "m", operations = ["chat"], price = { version = "2026-11-21", input_per_mtok = "1e-3", output_per_mtok = "-1" } }
      "bedrock/embed" = { provider = "bedrock", model = "m", operations = ["embed"] }
      "other/chat"    = { provider = "openai_compatible", model = "m", operations = ["chat"] }
    }
  }

  expect_failures = [var.targets]
}

run "refuses_targets_without_an_address" {
  command = plan

  variables {
    models_url = null
  }

  expect_failures = [var.targets]
}

run "refuses_keys_sent_over_plain_http" {
  command = plan

  variables {
    targets = {
      "bedrock/chat"  = { provider = "bedrock", model = "m", operations = ["chat"] }
      "bedrock/embed" = { provider = "bedrock", model = "m", operations = ["embed"] }
      "other/chat"    = { provider = "openai_compatible", model = "m", operations = ["chat"], base_url = "http://models.example.com/v1" }
    }
  }

  expect_failures = [var.targets]
}

run "refuses_more_workers_than_may_run" {
  command = plan

  variables {
    reserved_concurrency = { async_worker = 10 }
  }

  expect_failures = [var.worker_maximum_concurrency]
}

run "refuses_more_chunks_than_may_run" {
  command = plan

  variables {
    reserved_concurrency = { batch_worker = 10 }
  }

  expect_failures = [var.batch_worker_maximum_concurrency]
}

run "refuses_batches_larger_than_files" {
  command = plan

  variables {
    max_file_bytes = 1048576
  }

  expect_failures = [var.batch_max_bytes]
}

run "refuses_webhooks_into_the_account" {
  command = plan

  variables {
    webhooks_allow_private = true
  }

  expect_failures = [var.webhooks_allow_private]
}

run "refuses_bad_values_of_batches" {
  command = plan

  variables {
    batch_memory_mb                = 256
    batch_pipeline_timeout_seconds = 901
    batch_window                   = 0
    batch_provider_concurrency     = 1.5
    batch_line_concurrency         = 257
    batch_line_tries               = 0
    batch_chunk_lines_max          = 0
    batch_max_lines                = 5000001
    batch_max_line_bytes           = 6291457
    batch_watch_seconds            = 901
    batch_lease_seconds            = 4
    file_ttl_days                  = 0
    upload_ttl_seconds             = 86401
    presign_seconds                = 3601
    presign_endpoint_url           = "localhost"
    webhook_timeout_seconds        = 31
    webhook_attempts               = 4
  }

  expect_failures = [
    var.batch_memory_mb,
    var.batch_pipeline_timeout_seconds,
    var.batch_window,
    var.batch_provider_concurrency,
    var.batch_line_concurrency,
    var.batch_line_tries,
    var.batch_chunk_lines_max,
    var.batch_max_lines,
    var.batch_max_line_bytes,
    var.batch_watch_seconds,
    var.batch_lease_seconds,
    var.file_ttl_days,
    var.upload_ttl_seconds,
    var.presign_seconds,
    var.presign_endpoint_url,
    var.webhook_timeout_seconds,
    var.webhook_attempts,
  ]
}

run "refuses_other_bad_values" {
  command = plan

  variables {
    name                          = "Sluice"
    environment                   = "a-b"
    region                        = "here"
    architecture                  = "mips"
    log_level                     = "warn"
    log_retention_days            = 2
    max_receive_count             = 4
    worker_timeout_seconds        = 901
    workflow_step_timeout_seconds = 121
    sync_timeout_seconds          = 60
    long_attempt_timeout_seconds  = 19
    stream_timeout_seconds        = 901
    secret_recovery_window_days   = 1
    alarm_emails                  = ["nobody"]
    reserved_concurrency          = { nothing = 1 }
    snap_start                    = ["chat-stream"]
    key_cache_seconds             = 61
    idempotency_ttl_seconds       = 86401
  }

  expect_failures = [
    var.name,
    var.environment,
    var.region,
    var.architecture,
    var.log_level,
    var.log_retention_days,
    var.max_receive_count,
    var.worker_timeout_seconds,
    var.workflow_step_timeout_seconds,
    var.sync_timeout_seconds,
    var.long_attempt_timeout_seconds,
    var.stream_timeout_seconds,
    var.secret_recovery_window_days,
    var.alarm_emails,
    var.reserved_concurrency,
    var.snap_start,
    var.key_cache_seconds,
    var.idempotency_ttl_seconds,
  ]
}
