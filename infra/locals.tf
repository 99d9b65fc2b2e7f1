locals {
  prefix = "${var.name}-${var.environment}"

  account_id = data.aws_caller_identity.this.account_id
  partition  = data.aws_partition.this.partition
  region     = data.aws_region.this.name

  tags = merge({
    application = var.name
    environment = var.environment
    managed-by  = "terraform"
  }, var.tags)

  # ---- Names and ARNs that follow from names ----
  # Whatever only mentions a thing takes these, and so is created at the same time as the thing.

  functions = [
    "authorizer", "chat_completions", "completions", "chat_stream", "chat", "embeddings", "classify", "score", "models", "health",
    "async_submit", "async_worker", "async_status",
    "files", "uploads", "batches", "batch_splitter", "batch_worker", "batch_assembler",
    "webhooks", "webhook_sender",
    "workflow_start", "workflow_run_step", "workflow_finish", "workflow_ended", "workflow_status",
    "publish_events", "roll_up_usage",
    "usage", "admin_keys", "admin_usage", "admin_circuits", "admin_redrive", "admin_dead_letters",
  ]
  function_names = { for function in local.functions : function => "${local.prefix}-${replace(function, "_", "-")}" }
  function_alias = "live"
  function_alias_arns = {
    for function, name in local.function_names :
    function => "arn:${local.partition}:lambda:${local.region}:${local.account_id}:function:${name}:${local.function_alias}"
  }
  function_invoke_arns = {
    for function, arn in local.function_alias_arns :
    function => "arn:${local.partition}:apigateway:${local.region}:lambda:path/2015-03-31/functions/${arn}/invocations"
  }

  alarm_topic_arn = "arn:${local.partition}:sns:${local.region}:${local.account_id}:${local.prefix}-alarms"

  alarms = var.alarms_enabled ? { actions = [local.alarm_topic_arn] } : null

  # Buckets share one namespace with the whole world, hence the account and the region.
  bucket_name          = "${local.prefix}-${local.account_id}-${local.region}"
  packages_bucket_name = "${local.prefix}-packages-${local.account_id}-${local.region}"

  permissions_boundary_arn = var.permissions_boundary == null ? null : "arn:${local.partition}:iam::${local.account_id}:policy/${var.permissions_boundary}"

  # ---- What every function has in common ----

  package_dir = "${path.root}/${var.package_dir}"

  function_platform = {
    alias                    = local.function_alias
    runtime                  = "python3.13"
    architecture             = var.architecture
    layers                   = [for layer in ["dependencies", "sluice"] : aws_lambda_layer_version.this[layer].arn]
    package_bucket           = module.packages.id
    kms_key_arn              = module.key.arn
    log_retention_days       = var.log_retention_days
    permissions_boundary_arn = local.permissions_boundary_arn
    alarms                   = local.alarms
  }

  # The layer with the static embedding model is for those who may be asked for embeddings, if there is such a target.
  embedding_functions = local.embeds_inside ? ["embeddings", "async_worker", "batch_worker"] : []
  embeds_inside       = anytrue([for target in values(var.targets) : target.provider == "in_process" && contains(target.operations, "embed")])
  function_platforms = {
    for function in local.functions : function => contains(local.embedding_functions, function) ? merge(local.function_platform, {
      layers = concat(local.function_platform.layers, [aws_lambda_layer_version.this["embeddings"].arn])
    }) : local.function_platform
  }

  # Added to each function's own variables, with SLUICE_SERVICE.
  common_environment = {
    SLUICE_ENVIRONMENT       = var.environment
    LOG_LEVEL                = var.log_level
    AWS_XRAY_CONTEXT_MISSING = "LOG_ERROR"
  }

  # Variables of the functions that call models.
  inference_environment = merge(
    {
      TABLE_NAME              = module.table.name
      BUCKET_NAME             = module.bucket.name
      PROVIDER_SECRET_ARN     = aws_secretsmanager_secret.providers.arn
      REQUEST_LOG_TTL_DAYS    = tostring(var.request_log_ttl_days)
      ATTEMPT_TIMEOUT_SECONDS = tostring(var.attempt_timeout_seconds)
      MAX_ATTEMPTS            = tostring(var.max_attempts)
      CIRCUIT_FAILURES        = tostring(var.circuit_failures)
      CIRCUIT_OPEN_SECONDS    = tostring(var.circuit_open_seconds)
      CIRCUIT_CACHE_SECONDS   = tostring(var.circuit_cache_seconds)
      MAX_OUTPUT_TOKENS       = tostring(var.max_output_tokens)
    },
    var.hedge_after_ms == null ? {} : { HEDGE_AFTER_MS = tostring(var.hedge_after_ms) },
    var.bedrock_endpoint_url == null ? {} : { AWS_ENDPOINT_URL_BEDROCK_RUNTIME = var.bedrock_endpoint_url },
  )

  # In place of the above for who does not answer through API Gateway. An attempt ends well before the function does:
  # what is left is for another target, and for writing down what came of it.
  long_attempts = {
    for function, timeout in {
      chat_stream       = var.stream_timeout_seconds
      async_worker      = var.worker_timeout_seconds
      batch_worker      = var.worker_timeout_seconds
      workflow_run_step = var.workflow_step_timeout_seconds
    } : function => { ATTEMPT_TIMEOUT_SECONDS = tostring(min(var.long_attempt_timeout_seconds, floor(timeout * 0.8))) }
  }

  # Of the functions that score. Their bodies are large by nature and limited by rows.
  scoring_environment = merge(
    local.inference_environment,
    var.sagemaker_endpoint_url == null ? {} : { AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME = var.sagemaker_endpoint_url },
  )

  # Of the functions that take a body from callers and pass it on to models.
  input_limits = {
    MAX_INPUT_BYTES = tostring(var.max_input_bytes)
  }

  # Of the functions that answer a repeated request with what they answered before.
  replay_environment = {
    IDEMPOTENCY_TTL_SECONDS = tostring(var.idempotency_ttl_seconds)
  }

  # Policies of the functions that call models, whichever mode they serve.
  routing_policies = {
    read-routes       = data.aws_iam_policy_document.read_routes.json
    share-circuits    = data.aws_iam_policy_document.share_circuits.json
    use-ledger        = data.aws_iam_policy_document.use_ledger.json
    write-request-log = data.aws_iam_policy_document.write_request_log.json
    # To settle what a function that was killed has left behind in the ledger.
    read-request-log = data.aws_iam_policy_document.read_request_log.json
    cache-answers    = data.aws_iam_policy_document.cache_answers.json
    store-responses  = data.aws_iam_policy_document.store_responses.json
    use-key          = data.aws_iam_policy_document.use_key.json
  }
  inference_policies = merge(
    local.routing_policies,
    { read-secret = data.aws_iam_policy_document.read_secret.json },
    length(local.bedrock_model_arns) == 0 ? {} : { invoke-models = data.aws_iam_policy_document.invoke_models.json },
    length(local.guardrail_arns) == 0 ? {} : { apply-guardrails = data.aws_iam_policy_document.apply_guardrails.json },
  )
  streaming_policies = merge(
    local.inference_policies,
    length(local.bedrock_model_arns) == 0 ? {} : { stream-models = data.aws_iam_policy_document.stream_models.json },
  )
  scoring_policies = merge(
    local.routing_policies,
    length(local.sagemaker_endpoint_arns) == 0 ? {} : { invoke-endpoints = data.aws_iam_policy_document.invoke_endpoints.json },
  )

  # Of every function behind a POST of a caller: see runtime/idempotency.py.
  replay_policies = {
    replay-responses = data.aws_iam_policy_document.replay_responses.json
    store-responses  = data.aws_iam_policy_document.store_responses.json
  }

  # Of the functions that call models when the caller is gone, and so ask themselves what the key may do by then.
  durable_policies = merge(local.inference_policies, { find-keys = data.aws_iam_policy_document.find_keys.json })
  # And of those among them that do whatever the sync routes do.
  endpoint_policies = merge(local.durable_policies, local.scoring_policies)
}
