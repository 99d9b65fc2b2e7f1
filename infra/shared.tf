# What the three modes share: key, table, bucket, bus, secret, routes, layers, and who may do what with them.

module "key" {
  source = "./modules/encryption_key"

  alias                = local.prefix
  description          = "Encrypts the data, queues, logs and function environments of ${local.prefix}."
  deletion_window_days = var.key_deletion_window_days

  log_group_names = [
    "/aws/lambda/${local.prefix}-*",
    "/aws/vendedlogs/states/${local.prefix}-*",
    "/aws/apigateway/${local.prefix}/*",
    "aws-waf-logs-${local.prefix}",
    # API Gateway names its execution logs by the id of the API, which is not known beforehand.
    "API-Gateway-Execution-Logs_*/${local.api_stage}",
  ]

  service_principals = {
    # For the bus and the queues.
    EventBridge = "events.amazonaws.com"
    CloudWatch  = "cloudwatch.amazonaws.com"
  }
  event_topic_arns = var.completion_topic_enabled ? [local.completion_topic_arn] : []
}

module "table" {
  source = "./modules/table"

  name                = local.prefix
  deletion_protection = var.deletion_protection
  kms_key_arn         = module.key.arn
}

module "bucket" {
  source = "./modules/bucket"

  name          = local.bucket_name
  versioning    = var.bucket_versioning
  force_destroy = !var.deletion_protection
  tls_only      = !var.local_endpoints
  kms_key_arn   = module.key.arn

  expiration_days = {
    "async/" = var.result_ttl_days
    # A day more than their owners can see them at most; also of those that are to expire sooner.
    "files/" = var.file_ttl_days + 1
    # Parts on their way to a file, which have a day at most.
    "uploads/" = 2
    # Objects between the parts of a batch and its output, which is put together within hours; or they are made again.
    "composing/" = 2
    # Plans and parts of batches, which must outlive the messages that are about them: see the DLQs.
    "batches/"   = 16
    "workflows/" = var.result_ttl_days
    # Answers to be given again that are too large for the table. None is of use for more than a day.
    "responses/" = 2
  }
}

# Keys of OpenAI-compatible providers: a JSON object, field => key. The value is put out of band,
# so that it is neither in the code nor in the state.
resource "aws_secretsmanager_secret" "providers" {
  #checkov:skip=CKV2_AWS_57:The keys belong to other companies, which offer no interface to rotate them.
  name                    = "${local.prefix}/providers"
  description             = "API keys of model providers, by the secret_field of the target."
  kms_key_id              = module.key.arn
  recovery_window_in_days = var.secret_recovery_window_days
}

# ---- Packages: what `make package` built, on its way to Lambda ----

module "packages" {
  source = "./modules/bucket"

  name          = local.packages_bucket_name
  force_destroy = true
  tls_only      = !var.local_endpoints
  kms_key_arn   = module.key.arn
}

resource "aws_s3_object" "layer" {
  for_each = local.layer_packages

  bucket      = module.packages.id
  key         = "layers/${each.key}/${local.layer_sha256[each.key]}.zip"
  source      = each.value
  source_hash = local.layer_sha256[each.key]
  kms_key_id  = module.key.arn

  # Without tags of its own: the bucket has them, and the local cloud forgets those of an upload in several parts.
  override_provider {
    default_tags {
      tags = {}
    }
  }

  lifecycle {
    create_before_destroy = true

    precondition {
      condition     = fileexists(each.value)
      error_message = "The layer ${each.value} does not exist: run `make package` first."
    }
  }
}

resource "aws_lambda_layer_version" "this" {
  for_each = local.layer_packages

  layer_name               = "${local.prefix}-${each.key}"
  description              = local.layer_descriptions[each.key]
  s3_bucket                = aws_s3_object.layer[each.key].bucket
  s3_key                   = aws_s3_object.layer[each.key].key
  source_code_hash         = fileexists(each.value) ? filebase64sha256(each.value) : null
  compatible_runtimes      = ["python3.13"]
  compatible_architectures = [var.architecture]

  lifecycle {
    # Functions let go of a version only when they have the next one.
    create_before_destroy = true
  }
}

locals {
  layer_descriptions = merge(
    {
      dependencies = "Third-party packages, hash-pinned."
      sluice       = "Sluice's own package."
    },
    local.embeds_inside ? { embeddings = "The static embedding model, and what it takes to run it." } : {},
  )
  layer_packages = { for layer in keys(local.layer_descriptions) : layer => "${local.package_dir}/layers/${layer}.zip" }
  layer_sha256   = { for layer, path in local.layer_packages : layer => fileexists(path) ? filesha256(path) : "missing" }
}

# ---- Routes: data that functions read within a minute, not code ----

resource "aws_dynamodb_table_item" "target" {
  for_each = var.targets

  table_name = module.table.id
  hash_key   = "pk"
  range_key  = "sk"

  item = jsonencode(merge(
    {
      pk         = { S = "ROUTES" }
      sk         = { S = "TARGET#${each.key}" }
      name       = { S = each.key }
      provider   = { S = each.value.provider }
      model      = { S = each.value.model }
      operations = { L = [for operation in each.value.operations : { S = operation }] }
      created    = { N = tostring(each.value.created) }
    },
    { capabilities = { L = [for capability in sort(each.value.capabilities) : { S = capability }] } },
    local.target_base_urls[each.key] == null ? {} : { base_url = { S = local.target_base_urls[each.key] } },
    each.value.secret_field == null ? {} : { secret_field = { S = each.value.secret_field } },
    each.value.region == null ? {} : { region = { S = each.value.region } },
    each.value.context_length == null ? {} : { context_length = { N = tostring(each.value.context_length) } },
    each.value.max_output_tokens == null ? {} : { max_output_tokens = { N = tostring(each.value.max_output_tokens) } },
    each.value.max_tokens_field == null ? {} : { max_tokens_field = { S = each.value.max_tokens_field } },
    each.value.attempt_timeout_s == null ? {} : { attempt_timeout_s = { N = tostring(each.value.attempt_timeout_s) } },
    each.value.guardrail == null ? {} : {
      guardrail = { M = { id = { S = each.value.guardrail.id }, version = { S = each.value.guardrail.version } } }
    },
    each.value.price == null ? {} : { price = { M = local.target_prices[each.key] } },
  ))
}

resource "aws_dynamodb_table_item" "alias" {
  for_each = var.aliases

  table_name = module.table.id
  hash_key   = "pk"
  range_key  = "sk"

  item = jsonencode(merge(
    {
      pk        = { S = "ROUTES" }
      sk        = { S = "ALIAS#${each.key}" }
      name      = { S = each.key }
      operation = { S = each.value.operation }
      strategy  = { S = each.value.strategy }
      targets = {
        L = [
          for target in each.value.targets : {
            M = { target = { S = target }, weight = { N = tostring(lookup(each.value.weights, target, 1)) } }
          }
        ]
      }
    },
    length(each.value.regions) == 0 ? {} : { regions = { L = [for region in each.value.regions : { S = region }] } },
    each.value.hedge_after_ms == null ? {} : { hedge_after_ms = { N = tostring(each.value.hedge_after_ms) } },
    each.value.cache_ttl_seconds == null ? {} : { cache_ttl_s = { N = tostring(each.value.cache_ttl_seconds) } },
  ))
}

resource "aws_dynamodb_table_item" "intent_set" {
  for_each = var.intent_sets

  table_name = module.table.id
  hash_key   = "pk"
  range_key  = "sk"

  item = jsonencode({
    pk   = { S = "ROUTES" }
    sk   = { S = "INTENTS#${each.key}" }
    name = { S = each.key }
    labels = {
      L = [for label, meaning in each.value : { M = { name = { S = label }, description = { S = meaning } } }]
    }
  })
}

locals {
  target_base_urls = {
    for name, target in var.targets : name => (
      target.provider != "openai_compatible" ? null :
      target.base_url != null ? target.base_url : "${var.models_url}/openai/v1"
    )
  }

  # A rate that is not given is left out of the item: the code knows what stands in for it.
  target_prices = {
    for name, target in var.targets : name => merge(
      { for field, rate in target.price : field => { S = rate } if !contains(["tiers", "batch"], field) && rate != null },
      length(target.price.tiers) == 0 ? {} : {
        tiers = {
          L = [
            for tier in target.price.tiers : {
              M = merge(
                { for field, rate in tier : field => { S = rate } if field != "above_input_tokens" && rate != null },
                { above_input_tokens = { N = tostring(tier.above_input_tokens) } },
              )
            }
          ]
        }
      },
      target.price.batch == null ? {} : {
        batch = { M = { for field, rate in target.price.batch : field => { S = rate } if rate != null } }
      },
    ) if target.price != null
  }

  # ---- Exact ARNs of what the targets name ----

  sagemaker_endpoint_arns = sort(distinct([
    for target in values(var.targets) :
    # SageMaker writes the names of endpoints in lower case into their ARNs.
    "arn:${local.partition}:sagemaker:${local.region}:${local.account_id}:endpoint/${lower(target.model)}" if target.provider == "sagemaker"
  ]))

  guardrail_arns = sort(distinct([
    for target in values(var.targets) :
    "arn:${local.partition}:bedrock:${local.region}:${local.account_id}:guardrail/${target.guardrail.id}" if target.guardrail != null
  ]))

  # An inference profile (us.…) needs its own ARN and the model's in every region it may send to.

  bedrock_models = toset([for target in values(var.targets) : target.model if target.provider == "bedrock"])
  bedrock_profiles = {
    for model in local.bedrock_models : model => {
      base    = replace(model, "/^[a-z]+\\./", "")
      regions = var.bedrock_profile_regions[split(".", model)[0]]
    } if contains(keys(var.bedrock_profile_regions), split(".", model)[0])
  }
  bedrock_model_arns = sort(flatten([
    for model in local.bedrock_models : contains(keys(local.bedrock_profiles), model) ? concat(
      ["arn:${local.partition}:bedrock:${local.region}:${local.account_id}:inference-profile/${model}"],
      [for region in local.bedrock_profiles[model].regions : "arn:${local.partition}:bedrock:${region}::foundation-model/${local.bedrock_profiles[model].base}"],
    ) : ["arn:${local.partition}:bedrock:${local.region}::foundation-model/${model}"]
  ]))
}

# ---- Concerns that several functions share: one document each ----
# dynamodb:LeadingKeys keeps each concern to the items it is about, in a table that holds everything. AWS does not say whether
# it holds the keys of a whole transaction or those of the item at hand. Where a transaction is about several concerns a
# statement of its own has the keys of all of them, for transactions only, so that either is allowed.

data "aws_iam_policy_document" "read_routes" {
  statement {
    sid       = "QueryRoutes"
    actions   = ["dynamodb:Query"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["ROUTES"]
    }
  }
}

data "aws_iam_policy_document" "write_request_log" {
  statement {
    sid       = "PutRequestLog"
    actions   = ["dynamodb:PutItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["REQ#*"]
    }
  }
}

# What keys may use and have used: admission, settling, and telling how a key stands.
data "aws_iam_policy_document" "use_ledger" {
  statement {
    sid       = "HoldAndSettle"
    actions   = ["dynamodb:UpdateItem", "dynamodb:BatchGetItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["LEDGER#*"]
    }
  }
}

data "aws_iam_policy_document" "read_request_log" {
  statement {
    sid       = "QueryRequestLog"
    actions   = ["dynamodb:Query"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["REQ#*"]
    }
  }
}

data "aws_iam_policy_document" "cache_answers" {
  statement {
    sid       = "GetAndPutAnswers"
    actions   = ["dynamodb:GetItem", "dynamodb:PutItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["CACHE#*"]
    }
  }
}

data "aws_iam_policy_document" "replay_responses" {
  statement {
    sid       = "ClaimAndKeepResponses"
    actions   = ["dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["IDEM#*"]
    }
  }
}

# What is too large for an item: cached answers, and responses to be replayed.
data "aws_iam_policy_document" "store_responses" {
  statement {
    sid       = "GetAndPutResponses"
    actions   = ["s3:GetObject", "s3:PutObject"]
    resources = ["${module.bucket.arn}/responses/*"]
  }
}

data "aws_iam_policy_document" "find_keys" {
  statement {
    sid       = "QueryKeysById"
    actions   = ["dynamodb:Query"]
    resources = [module.table.index_arns["gsi1"]]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["KEYS"]
    }
  }
}

data "aws_iam_policy_document" "invoke_models" {
  statement {
    sid = "InvokeTargets"
    # Converse is authorised as InvokeModel.
    actions   = ["bedrock:InvokeModel"]
    resources = local.bedrock_model_arns
  }
}

data "aws_iam_policy_document" "stream_models" {
  statement {
    sid = "StreamTargets"
    # Likewise ConverseStream.
    actions   = ["bedrock:InvokeModelWithResponseStream"]
    resources = local.bedrock_model_arns
  }
}

data "aws_iam_policy_document" "apply_guardrails" {
  statement {
    sid       = "ApplyGuardrails"
    actions   = ["bedrock:ApplyGuardrail"]
    resources = local.guardrail_arns
  }
}

data "aws_iam_policy_document" "invoke_endpoints" {
  statement {
    sid       = "InvokeEndpoints"
    actions   = ["sagemaker:InvokeEndpoint"]
    resources = local.sagemaker_endpoint_arns
  }
}

# What all functions know of a target: whether it is left alone, and how quick it has been.
data "aws_iam_policy_document" "share_circuits" {
  statement {
    sid       = "ReadAndReplaceTargetState"
    actions   = ["dynamodb:BatchGetItem", "dynamodb:PutItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["CIRCUIT#*", "HEALTH#*"]
    }
  }
}

data "aws_iam_policy_document" "read_secret" {
  statement {
    sid       = "ReadProviderKeys"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = [aws_secretsmanager_secret.providers.arn]
  }
}

data "aws_iam_policy_document" "use_key" {
  statement {
    sid       = "DecryptThroughServices"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [module.key.arn]

    # Only for what these services store; the key cannot be used directly.
    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = [for service in ["dynamodb", "s3", "secretsmanager", "sqs"] : "${service}.${local.region}.amazonaws.com"]
    }
  }
}

# Why a message could not be worked off, for whoever looks after the dead letters; forgotten when it was in the end.
data "aws_iam_policy_document" "record_dead_letters" {
  statement {
    sid       = "PutAndDeleteReasons"
    actions   = ["dynamodb:PutItem", "dynamodb:DeleteItem"]
    resources = [module.table.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["DLQ#*"]
    }
  }
}

# ---- Events ----

module "event_bus" {
  source = "./modules/event_bus"

  name         = local.prefix
  description  = "What Sluice did: finished, failed and throttled units of work."
  archive_days = var.event_archive_days
  kms_key_arn  = module.key.arn
  rules        = local.completion_rules
}

# The table's stream is the outbox: a change and its event cannot come apart.
resource "aws_lambda_event_source_mapping" "table_stream" {
  event_source_arn                   = module.table.stream_arn
  function_name                      = module.shared_functions["publish_events"].alias.arn
  starting_position                  = "TRIM_HORIZON"
  batch_size                         = 100
  maximum_batching_window_in_seconds = var.event_batching_window_seconds
  maximum_retry_attempts             = 5
  maximum_record_age_in_seconds      = 60 * 60
  bisect_batch_on_function_error     = true
  function_response_types            = ["ReportBatchItemFailures"]

  filter_criteria {
    dynamic "filter" {
      for_each = local.published_changes

      content {
        pattern = jsonencode(filter.value)
      }
    }
  }

  destination_config {
    on_failure {
      destination_arn = module.event_dlq.arn
    }
  }
}

module "event_dlq" {
  source = "./modules/dead_letter_queue"

  name        = "${local.prefix}-events-dlq"
  rule_arns   = concat([local.workflow_ended_rule_arn], values(module.event_bus.rule_arns))
  kms_key_arn = module.key.arn
  tls_only    = !var.local_endpoints
  alarms      = local.alarms
}

locals {
  # Filtered before the function is invoked, so that leases, keys and ledgers cost nothing here.
  published_changes = [
    {
      # Written in one transaction with the change that it tells of, and never again.
      eventName = ["INSERT"]
      dynamodb  = { Keys = { pk = { S = [{ prefix = "AUDIT#" }] } } }
    },
    {
      # An entry is rewritten when a durable mode repeats its work, possibly with another outcome.
      eventName = ["INSERT", "MODIFY"]
      dynamodb  = { Keys = { pk = { S = [{ prefix = "REQ#" }] } } }
    },
    {
      eventName = ["INSERT", "MODIFY"]
      dynamodb = {
        Keys     = { pk = { S = [{ prefix = "ASYNC#" }] }, sk = { S = ["META"] } }
        NewImage = { status = { S = ["completed", "failed", "cancelled"] } }
      }
    },
    {
      eventName = ["INSERT", "MODIFY"]
      dynamodb = {
        Keys     = { pk = { S = [{ prefix = "BATCH#" }] }, sk = { S = ["META"] } }
        NewImage = { status = { S = ["completed", "failed", "expired", "cancelled"] } }
      }
    },
    {
      eventName = ["INSERT", "MODIFY"]
      dynamodb = {
        Keys     = { pk = { S = [{ prefix = "EXEC#" }] }, sk = { S = ["META"] } }
        NewImage = { status = { S = ["succeeded", "failed"] } }
      }
    },
  ]

  shared_functions = {
    publish_events = {
      description = "Table stream: puts an event on the bus for each finished, failed or throttled unit of work."
      timeout     = 30
      environment = {
        EVENT_BUS_NAME = module.event_bus.name
      }
      policies = {
        read-stream = data.aws_iam_policy_document.read_stream.json
        put-events  = data.aws_iam_policy_document.put_events.json
        send-to-dlq = data.aws_iam_policy_document.send_to_event_dlq.json
        use-key     = data.aws_iam_policy_document.use_key.json
      }
    }
  }
}

data "aws_iam_policy_document" "read_stream" {
  statement {
    sid     = "ReadTableStream"
    actions = ["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator", "dynamodb:ListStreams"]
    # A stream is named by the moment of its making; a table has one at a time.
    resources = ["${module.table.arn}/stream/*"]
  }
}

data "aws_iam_policy_document" "put_events" {
  statement {
    sid       = "PutEvents"
    actions   = ["events:PutEvents"]
    resources = [module.event_bus.arn]
  }
}

data "aws_iam_policy_document" "send_to_event_dlq" {
  statement {
    sid       = "SendWhatFailed"
    actions   = ["sqs:SendMessage"]
    resources = [module.event_dlq.arn]
  }
}

module "shared_functions" {
  source   = "./modules/lambda_function"
  for_each = local.shared_functions

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
