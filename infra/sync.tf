# Sync: API route -> authorizer -> function -> model provider -> request log.

locals {
  sync_routes = {
    create_chat_completion = {
      method     = "POST"
      path       = "/v1/chat/completions"
      function   = "chat_completions"
      model      = "ChatCompletionRequest"
      timeout_ms = local.sync_timeout_ms
    }
    create_completion = {
      method     = "POST"
      path       = "/v1/completions"
      function   = "completions"
      model      = "CompletionRequest"
      timeout_ms = local.sync_timeout_ms
    }
    create_chat = {
      method     = "POST"
      path       = "/v1/chat"
      function   = "chat"
      model      = "ChatRequest"
      timeout_ms = local.sync_timeout_ms
    }
    create_embedding = {
      method     = "POST"
      path       = "/v1/embeddings"
      function   = "embeddings"
      model      = "EmbeddingRequest"
      timeout_ms = local.sync_timeout_ms
    }
    create_classification = {
      method     = "POST"
      path       = "/v1/classify"
      function   = "classify"
      model      = "ClassifyRequest"
      timeout_ms = local.sync_timeout_ms
    }
    create_score = {
      method     = "POST"
      path       = "/v1/score"
      function   = "score"
      model      = "ScoreRequest"
      timeout_ms = local.sync_timeout_ms
    }
    list_models = {
      method   = "GET"
      path     = "/v1/models"
      function = "models"
    }
    # Model ids contain a slash.
    retrieve_model = {
      method   = "GET"
      path     = "/v1/models/{model+}"
      function = "models"
    }
    health = {
      method        = "GET"
      path          = "/v1/health"
      function      = "health"
      authorization = "NONE"
    }
  }

  # The function is killed, and answers nothing, later than the gateway gives up: GATEWAY_LEAD_S in runtime/invocation.py.
  sync_timeout_ms = (var.sync_timeout_seconds - 1) * 1000

  # Our own runtime, in the layer sluice: AWS's Python runtime cannot stream.
  streaming_runtime = "/opt/bin/stream"

  sync_functions = {
    authorizer = {
      description = "Checks the API key of a request and names its owner."
      timeout     = 5
      environment = {
        TABLE_NAME        = module.table.name
        KEY_CACHE_SECONDS = tostring(var.key_cache_seconds)
      }
      policies = {
        read-keys = data.aws_iam_policy_document.read_keys.json
        use-key   = data.aws_iam_policy_document.use_key.json
      }
    }
    chat_completions = {
      description = "POST /v1/chat/completions in OpenAI's wire format."
      timeout     = var.sync_timeout_seconds
      environment = merge(local.inference_environment, local.input_limits, local.replay_environment)
      policies    = merge(local.streaming_policies, local.replay_policies)
    }
    completions = {
      description = "POST /v1/completions in OpenAI's legacy wire format."
      timeout     = var.sync_timeout_seconds
      environment = merge(local.inference_environment, local.input_limits, local.replay_environment)
      policies    = merge(local.streaming_policies, local.replay_policies)
    }
    chat_stream = {
      description = "POST /v1/chat/completions and /v1/completions by a Function URL, each piece sent as it is made."
      timeout     = var.stream_timeout_seconds
      environment = merge(local.inference_environment, local.long_attempts["chat_stream"], local.input_limits, local.replay_environment, {
        # A stream whose target keeps silent goes to the next one as soon as it does on the other routes.
        FIRST_OUTPUT_TIMEOUT_SECONDS = tostring(var.attempt_timeout_seconds)
        KEY_CACHE_SECONDS            = tostring(var.key_cache_seconds)
        AWS_LAMBDA_EXEC_WRAPPER      = local.streaming_runtime
      })
      policies = merge(local.streaming_policies, local.replay_policies, {
        read-keys = data.aws_iam_policy_document.read_keys.json
      })
    }
    chat = {
      description = "POST /v1/chat: one prompt in, one response out."
      timeout     = var.sync_timeout_seconds
      environment = merge(local.inference_environment, local.input_limits, local.replay_environment)
      policies    = merge(local.inference_policies, local.replay_policies)
    }
    embeddings = {
      description = "POST /v1/embeddings in OpenAI's wire format."
      timeout     = var.sync_timeout_seconds
      environment = merge(local.inference_environment, local.input_limits, local.replay_environment)
      policies    = merge(local.inference_policies, local.replay_policies)
    }
    classify = {
      description = "POST /v1/classify: the label that fits a text best, by likeness or by asking."
      timeout     = var.sync_timeout_seconds
      environment = merge(local.inference_environment, local.input_limits, local.replay_environment)
      policies    = merge(local.inference_policies, local.replay_policies)
    }
    score = {
      description = "POST /v1/score: lead scores from an endpoint, or from the same model inside the function."
      timeout     = var.sync_timeout_seconds
      environment = merge(local.scoring_environment, local.replay_environment)
      policies    = merge(local.scoring_policies, local.replay_policies)
    }
    models = {
      description = "GET /v1/models and /v1/models/{id}: the aliases and targets a key may use."
      timeout     = 10
      environment = {
        TABLE_NAME = module.table.name
      }
      policies = {
        read-routes = data.aws_iam_policy_document.read_routes.json
        use-key     = data.aws_iam_policy_document.use_key.json
      }
    }
    health = {
      description = "GET /v1/health, without a key: whether the routes can be read."
      timeout     = 10
      environment = {
        TABLE_NAME = module.table.name
      }
      policies = {
        read-routes = data.aws_iam_policy_document.read_routes.json
        use-key     = data.aws_iam_policy_document.use_key.json
      }
    }
  }
}

data "aws_iam_policy_document" "read_keys" {
  statement {
    sid       = "GetKeyByHash"
    actions   = ["dynamodb:GetItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["KEY#*"]
    }
  }
}

module "sync_functions" {
  source   = "./modules/lambda_function"
  for_each = local.sync_functions

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

# Beside the API, which sends an answer when it is whole: this address sends it as it is made.
module "stream_url" {
  source = "./modules/function_url"

  name   = local.function_names["chat_stream"]
  alias  = module.sync_functions["chat_stream"].alias
  alarms = local.alarms
}
