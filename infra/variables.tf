# ---- Where ----

variable "name" {
  description = "Name of the application; the first part of every name."
  type        = string
  default     = "sluice"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{1,15}$", var.name))
    error_message = "The name must have 2 to 16 lower-case letters and digits, and start with a letter."
  }
}

variable "environment" {
  description = "Name of the environment; the second part of every name."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{1,11}$", var.environment))
    error_message = "The environment must have 2 to 12 lower-case letters and digits, and start with a letter."
  }
}

variable "region" {
  description = "AWS region."
  type        = string
  default     = "us-east-1"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "The region must look like us-east-1."
  }
}

variable "tags" {
  description = "Tags of every resource, besides application, environment and managed-by."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "local_endpoints" {
  description = "Whether AWS is the local cloud on this machine: path-style S3, no metadata service, and plain HTTP, so that no policy can ask for TLS."
  type        = bool
  default     = false
  nullable    = false
}

variable "package_dir" {
  description = "Folder with the zips that `make package` built, relative to this root."
  type        = string
  default     = "../build/aws"
  nullable    = false
}

# ---- Models ----

variable "targets" {
  description = <<-EOT
    Target => where and how to call a model.
    provider: bedrock, openai_compatible, sagemaker (model is the endpoint's name) or in_process (model is a packaged one).
    operations: chat, embed, classify (besides chat or embed: how it is done), score.
    base_url (openai_compatible only) defaults to the local model server's; secret_field names the key in the provider secret.
    capabilities of a chat target: streaming, tools, json_schema. region: where the model runs; a target that does not say
    is never chosen by region. attempt_timeout_s: shorter than the deployment's own, for a target that is quick or given up.
    max_tokens_field (openai_compatible only): by which name the server takes the longest answer, max_tokens (default, which
    self-hosted servers know) or max_completion_tokens (OpenAI's o-series and GPT-5 models refuse the other).
    guardrail (bedrock only): id and version of a Bedrock guardrail that every call goes through.
    price: USD per million tokens as decimal strings, with the date it was looked up as version; a class of tokens without
    a rate of its own is charged as input or output. tiers replace the rates of longer prompts; batch replaces all of them for
    the lines of batches. created: epoch seconds, shown by GET /v1/models.
  EOT
  type = map(object({
    provider          = string
    model             = string
    operations        = list(string)
    base_url          = optional(string)
    secret_field      = optional(string)
    capabilities      = optional(list(string), ["streaming"])
    region            = optional(string)
    context_length    = optional(number)
    max_output_tokens = optional(number)
    max_tokens_field  = optional(string)
    attempt_timeout_s = optional(number)
    created           = optional(number, 1795219200) # 2026-11-21
    guardrail = optional(object({
      id      = string
      version = string
    }))
    price = optional(object({
      version                 = string
      input_per_mtok          = string
      output_per_mtok         = optional(string, "0")
      cache_read_per_mtok     = optional(string)
      cache_write_per_mtok    = optional(string)
      cache_write_1h_per_mtok = optional(string)
      reasoning_per_mtok      = optional(string)
      per_request_usd         = optional(string)
      tiers = optional(list(object({
        above_input_tokens      = number
        input_per_mtok          = string
        output_per_mtok         = optional(string, "0")
        cache_read_per_mtok     = optional(string)
        cache_write_per_mtok    = optional(string)
        cache_write_1h_per_mtok = optional(string)
        reasoning_per_mtok      = optional(string)
      })), [])
      batch = optional(object({
        input_per_mtok          = string
        output_per_mtok         = optional(string, "0")
        cache_read_per_mtok     = optional(string)
        cache_write_per_mtok    = optional(string)
        cache_write_1h_per_mtok = optional(string)
        reasoning_per_mtok      = optional(string)
      }))
    }))
  }))
  nullable = false

  validation {
    condition     = length(var.targets) > 0 && alltrue([for name in keys(var.targets) : can(regex("^[A-Za-z0-9][A-Za-z0-9._/:-]{0,127}$", name))])
    error_message = "There must be a target, and every target's name must have at most 128 letters, digits, dots, slashes, colons, dashes and underscores."
  }

  validation {
    condition     = alltrue([for target in values(var.targets) : contains(["bedrock", "openai_compatible", "sagemaker", "in_process"], target.provider)])
    error_message = "The provider of every target must be bedrock, openai_compatible, sagemaker or in_process."
  }

  validation {
    condition = alltrue([
      for target in values(var.targets) :
      length(target.operations) > 0 && length(setsubtract(target.operations, ["chat", "embed", "classify", "score"])) == 0
    ])
    error_message = "Every target must offer at least one of the operations chat, embed, classify and score, and no other."
  }

  validation {
    condition = alltrue([
      for target in values(var.targets) :
      target.provider == "in_process" ? true :
      target.provider == "sagemaker" ? toset(target.operations) == toset(["score"]) : !contains(target.operations, "score")
    ])
    error_message = "Targets of sagemaker offer the operation score and nothing else, and no target of bedrock or openai_compatible offers it."
  }

  validation {
    condition = alltrue([
      for target in values(var.targets) :
      contains(target.operations, "classify") ? length(setintersection(target.operations, ["chat", "embed"])) > 0 : true
    ])
    error_message = "A target that classifies must also offer chat or embed, which is how it is done."
  }

  validation {
    condition = alltrue([
      for target in values(var.targets) : target.provider != "in_process" ? true : toset(target.operations) == lookup({
        lead-scorer       = toset(["score"])
        static-embeddings = toset(["embed"])
      }, target.model, toset([]))
    ])
    error_message = "The models inside the functions are lead-scorer, which offers the operation score, and static-embeddings, which offers embed; neither offers another."
  }

  validation {
    condition = alltrue([
      for target in values(var.targets) : target.provider == "sagemaker" ? can(regex("^[A-Za-z0-9](-*[A-Za-z0-9]){0,62}$", target.model)) : true
    ])
    error_message = "The model of a sagemaker target is the name of an endpoint: at most 63 letters, digits and dashes."
  }

  validation {
    condition = alltrue([
      for target in values(var.targets) :
      target.provider != "openai_compatible" ? target.base_url == null : target.base_url != null || var.models_url != null
    ])
    error_message = "An openai_compatible target must have a base_url (or models_url must be set), and no other target may have one."
  }

  validation {
    condition = alltrue([
      for target in values(var.targets) :
      target.base_url == null ? true : startswith(target.base_url, "https://") || var.local_endpoints
    ])
    error_message = "Every base_url must start with https://, since an API key is sent there."
  }

  validation {
    condition     = alltrue([for target in values(var.targets) : length(setsubtract(target.capabilities, ["streaming", "tools", "json_schema"])) == 0])
    error_message = "The capabilities of every target must be among streaming, tools and json_schema."
  }

  validation {
    condition     = alltrue([for target in values(var.targets) : target.region == null ? true : can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", target.region))])
    error_message = "The region of every target must look like us-east-1."
  }

  validation {
    condition = alltrue([
      for target in values(var.targets) :
      target.region == null || target.provider == "openai_compatible" ? true : target.region == var.region
    ])
    error_message = "Targets of bedrock, sagemaker and in_process are called in the region of the deployment: no other can be promised."
  }

  validation {
    condition = alltrue([
      for target in values(var.targets) :
      target.region == null || target.provider != "bedrock" ? true : !contains(keys(var.bedrock_profile_regions), split(".", target.model)[0])
    ])
    error_message = "A cross-region inference profile runs in any of several regions, so its target must not name one."
  }

  validation {
    condition = alltrue(flatten([
      for target in values(var.targets) : [
        for limit in [target.context_length, target.max_output_tokens] : limit == null ? true : limit >= 1 && floor(limit) == limit
      ]
    ]))
    error_message = "Context lengths and output limits must be whole numbers of tokens."
  }

  validation {
    condition = alltrue([
      for target in values(var.targets) : target.max_tokens_field == null ? true :
      target.provider == "openai_compatible" && contains(target.operations, "chat") && contains(["max_tokens", "max_completion_tokens"], target.max_tokens_field)
    ])
    error_message = "Only an openai_compatible target for chat can have a max_tokens_field: max_tokens or max_completion_tokens."
  }

  validation {
    condition     = alltrue([for target in values(var.targets) : target.attempt_timeout_s == null ? true : target.attempt_timeout_s > 0 && target.attempt_timeout_s <= 300])
    error_message = "The attempt timeout of a target must be at most 300 seconds."
  }

  validation {
    condition = alltrue([
      for target in values(var.targets) : target.guardrail == null ? true :
      target.provider == "bedrock" && contains(target.operations, "chat") && can(regex("^[a-z0-9]+$", target.guardrail.id)) && can(regex("^([1-9][0-9]{0,7}|DRAFT)$", target.guardrail.version))
    ])
    error_message = "Only a bedrock target for chat can have a guardrail: its id (letters and digits) and its version (a number or DRAFT)."
  }

  validation {
    condition = alltrue(flatten([
      for target in values(var.targets) : target.price == null ? [true] : [
        for rate in concat(
          [for name, rate in target.price : rate if !contains(["version", "tiers", "batch"], name)],
          target.price.batch == null ? [] : values(target.price.batch),
          flatten([for tier in target.price.tiers : [for name, rate in tier : rate if name != "above_input_tokens"]]),
        ) : rate == null ? true : can(regex("^(0|[1-9][0-9]*)(\\.[0-9]+)?$", rate))
      ]
    ]))
    error_message = "Prices must be decimal strings without sign or exponent, such as \"0.06\"."
  }

  validation {
    condition = alltrue([
      for target in values(var.targets) : target.price == null ? true : alltrue([
        for tier in target.price.tiers : tier.above_input_tokens >= 1 && floor(tier.above_input_tokens) == tier.above_input_tokens
      ])
    ])
    error_message = "A tier of a price must begin above a whole number of input tokens."
  }

  validation {
    condition = alltrue([
      for target in values(var.targets) : target.price == null ? true : can(regex("^[0-9]{4}-[0-9]{2}-[0-9]{2}$", target.price.version))
    ])
    error_message = "The version of every price must be the date on which it was looked up, such as \"2026-11-21\"."
  }
}

variable "aliases" {
  description = <<-EOT
    Alias => operation and the targets that serve it. strategy says in which order they are tried: priority (as listed),
    weighted (by the weights: target => share, 1 unless given, 0 for a fallback only), round_robin, cost (cheapest for
    the request first) or latency. regions: where every request of this alias has to be answered. hedge_after_ms: how
    long the first target may keep silent before a second one is asked too. cache_ttl_seconds: how long an answer may be
    given again to the same key for the same question, unless the request says otherwise; without it only requests that
    ask for the cache use it.
  EOT
  type = map(object({
    operation         = string
    strategy          = optional(string, "priority")
    targets           = list(string)
    weights           = optional(map(number), {})
    regions           = optional(list(string), [])
    hedge_after_ms    = optional(number)
    cache_ttl_seconds = optional(number)
  }))
  nullable = false

  validation {
    condition     = alltrue([for alias in ["auto", "fast", "cheap", "embed", "classify", "score"] : contains(keys(var.aliases), alias)])
    error_message = "Every environment must have at least the aliases auto, fast, cheap, embed, classify and score."
  }

  validation {
    condition     = length(setintersection(keys(var.aliases), keys(var.targets))) == 0
    error_message = "An alias must not have the name of a target."
  }

  validation {
    condition     = alltrue([for alias in values(var.aliases) : contains(["chat", "embed", "classify", "score"], alias.operation)])
    error_message = "The operation of every alias must be chat, embed, classify or score."
  }

  validation {
    condition     = alltrue([for alias in values(var.aliases) : contains(["priority", "weighted", "round_robin", "cost", "latency"], alias.strategy)])
    error_message = "The strategy of every alias must be priority, weighted, round_robin, cost or latency."
  }

  validation {
    condition     = alltrue([for alias in values(var.aliases) : length(alias.targets) > 0 && length(distinct(alias.targets)) == length(alias.targets)])
    error_message = "Every alias must have at least one target, and none twice."
  }

  validation {
    condition = alltrue(flatten([
      for alias in values(var.aliases) : [
        for target in alias.targets : contains(try(var.targets[target].operations, []), alias.operation)
      ]
    ]))
    error_message = "Every target of an alias must exist and offer the alias's operation."
  }

  validation {
    condition = alltrue([
      for alias in values(var.aliases) : length(setsubtract(keys(alias.weights), alias.targets)) == 0 && alltrue([
        for weight in values(alias.weights) : weight >= 0 && weight <= 1000000 && floor(weight) == weight
      ])
    ])
    error_message = "Weights must be whole numbers from 0 on, for targets of the same alias."
  }

  validation {
    condition = alltrue([
      for alias in values(var.aliases) :
      alias.strategy == "weighted" ? sum([for target in alias.targets : lookup(alias.weights, target, 1)]) > 0 : length(alias.weights) == 0
    ])
    error_message = "Weights belong to the strategy weighted, where at least one of them must not be 0."
  }

  validation {
    condition = alltrue([
      for alias in values(var.aliases) : length(alias.regions) == 0 ? true : anytrue([
        for target in alias.targets : contains(alias.regions, coalesce(try(var.targets[target].region, null), "nowhere"))
      ])
    ])
    error_message = "An alias with regions must have a target in one of them, or it could serve no request."
  }

  validation {
    condition     = alltrue([for alias in values(var.aliases) : alias.hedge_after_ms == null ? true : alias.hedge_after_ms >= 1 && floor(alias.hedge_after_ms) == alias.hedge_after_ms])
    error_message = "hedge_after_ms must be a whole number of milliseconds, 1 or more."
  }

  validation {
    condition = alltrue([
      for alias in values(var.aliases) : alias.cache_ttl_seconds == null ? true :
      alias.cache_ttl_seconds >= 1 && alias.cache_ttl_seconds <= 86400 && floor(alias.cache_ttl_seconds) == alias.cache_ttl_seconds
    ])
    error_message = "cache_ttl_seconds must be a whole number of seconds between 1 and 86400, a day."
  }
}

variable "intent_sets" {
  description = "Set => label => what it means, for POST /v1/classify with `intents` instead of labels. A meaning may be empty where the label says enough."
  type        = map(map(string))
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for name in keys(var.intent_sets) : can(regex("^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", name))])
    error_message = "The name of every intent set must have at most 64 letters, digits, dots, dashes and underscores."
  }

  validation {
    condition     = alltrue([for labels in values(var.intent_sets) : length(labels) >= 2 && length(labels) <= 100])
    error_message = "Every intent set must have 2 to 100 labels."
  }

  validation {
    condition = alltrue([
      for labels in values(var.intent_sets) :
      length(distinct([for label in keys(labels) : lower(label)])) == length(labels) && alltrue([
        for label in keys(labels) : trimspace(label) == label && length(label) >= 1 && length(label) <= 200
      ])
    ])
    error_message = "Labels must have 1 to 200 characters, no spaces around them, and differ in more than upper and lower case."
  }
}

variable "models_url" {
  description = "URL of the local model server, for openai_compatible targets without a base_url; null on AWS."
  type        = string
  default     = null

  validation {
    condition     = var.models_url == null ? true : can(regex("^https?://[^/]+$", var.models_url))
    error_message = "The URL must have a scheme and a host, and no path or trailing slash."
  }
}

variable "bedrock_endpoint_url" {
  description = "Endpoint for Bedrock's runtime instead of AWS's own; null on AWS."
  type        = string
  default     = null

  validation {
    condition     = var.bedrock_endpoint_url == null ? true : can(regex("^https?://[^/]+$", var.bedrock_endpoint_url))
    error_message = "The URL must have a scheme and a host, and no path or trailing slash."
  }
}

variable "sagemaker_endpoint_url" {
  description = "Endpoint for SageMaker's runtime instead of AWS's own; null on AWS."
  type        = string
  default     = null

  validation {
    condition     = var.sagemaker_endpoint_url == null ? true : can(regex("^https?://[^/]+$", var.sagemaker_endpoint_url))
    error_message = "The URL must have a scheme and a host, and no path or trailing slash."
  }
}

variable "bedrock_profile_regions" {
  description = "Prefix of cross-region inference profiles => the regions a call may be served in; its model must be allowed in each."
  type        = map(list(string))
  default = {
    us = ["us-east-1", "us-east-2", "us-west-2"]
    eu = ["eu-central-1", "eu-north-1", "eu-west-1", "eu-west-3"]
  }
  nullable = false
}

variable "attempt_timeout_seconds" {
  description = "Longest time that one call of a provider may take on the routes of API Gateway, and until the first output of any stream; less when the caller's deadline is nearer."
  type        = number
  default     = 20
  nullable    = false

  validation {
    condition     = var.attempt_timeout_seconds >= 1 && var.attempt_timeout_seconds <= 300
    error_message = "An attempt may take between 1 and 300 seconds."
  }
}

variable "long_attempt_timeout_seconds" {
  description = "The same for what API Gateway does not wait for: asynchronous requests, lines of batches, steps of workflows, and whole answers at the address of streams. At most four fifths of the function's own timeout: the rest is for another target."
  type        = number
  default     = 240
  nullable    = false

  validation {
    condition     = var.long_attempt_timeout_seconds >= var.attempt_timeout_seconds && var.long_attempt_timeout_seconds <= 720
    error_message = "A long attempt may take between attempt_timeout_seconds and 720 seconds."
  }
}

variable "max_attempts" {
  description = "Calls of one target, the first included, before the next target is tried."
  type        = number
  default     = 2
  nullable    = false

  validation {
    condition     = var.max_attempts >= 1 && var.max_attempts <= 10 && floor(var.max_attempts) == var.max_attempts
    error_message = "The attempts must be a whole number between 1 and 10."
  }
}

variable "circuit_failures" {
  description = "Failures in a row after which a target is left alone."
  type        = number
  default     = 5
  nullable    = false

  validation {
    condition     = var.circuit_failures >= 1 && var.circuit_failures <= 100 && floor(var.circuit_failures) == var.circuit_failures
    error_message = "The failures must be a whole number between 1 and 100."
  }
}

variable "circuit_open_seconds" {
  description = "Seconds for which such a target is left alone, before one request tries it again."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.circuit_open_seconds >= 1 && var.circuit_open_seconds <= 3600
    error_message = "A circuit can stay open for 1 to 3600 seconds."
  }
}

variable "circuit_cache_seconds" {
  description = "Seconds for which a function may go by what it last read of circuits and latencies."
  type        = number
  default     = 3
  nullable    = false

  validation {
    condition     = var.circuit_cache_seconds >= 0 && var.circuit_cache_seconds <= 60
    error_message = "Circuits can be remembered for 0 to 60 seconds."
  }
}

variable "hedge_after_ms" {
  description = "Milliseconds for which a first target may keep silent before a second one is asked too, unless the alias says otherwise; null for never. A hedged request may be paid for twice."
  type        = number
  default     = null

  validation {
    condition     = var.hedge_after_ms == null ? true : var.hedge_after_ms >= 1 && floor(var.hedge_after_ms) == var.hedge_after_ms
    error_message = "It must be a whole number of milliseconds, 1 or more."
  }
}

variable "max_input_bytes" {
  description = "Largest body of a request in bytes, for every route but /v1/score and /v1/async/score, which count rows; API Gateway and Lambda take about 6 MB."
  type        = number
  default     = 1048576
  nullable    = false

  validation {
    condition     = var.max_input_bytes >= 1024 && var.max_input_bytes <= 6291456 && floor(var.max_input_bytes) == var.max_input_bytes
    error_message = "The limit must be a whole number of bytes between 1 KB and 6 MB."
  }
}

variable "max_output_tokens" {
  description = "Most tokens that one answer may have, whatever a request asks for and its model could write."
  type        = number
  default     = 16384
  nullable    = false

  validation {
    condition     = var.max_output_tokens >= 1 && floor(var.max_output_tokens) == var.max_output_tokens
    error_message = "The limit must be a whole number of tokens, 1 or more."
  }
}

# ---- Functions ----

variable "architecture" {
  description = "Instruction set of functions and layers: arm64 or x86_64."
  type        = string
  default     = "arm64"
  nullable    = false

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "The architecture must be arm64 or x86_64."
  }
}

variable "function_memory_mb" {
  description = "Memory of each function in MB; CPU grows with it."
  type        = number
  default     = 512
  nullable    = false

  validation {
    condition     = var.function_memory_mb >= 128 && var.function_memory_mb <= 10240
    error_message = "The memory must lie between 128 and 10240 MB."
  }
}

variable "snap_start" {
  description = "Functions that start from a snapshot, which is billed while nobody calls: see the costs in docs/deployment.md."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = length(setsubtract(var.snap_start, local.functions)) == 0
    error_message = "Only Sluice's own functions can start from a snapshot, each given by its name in functions/."
  }
}

variable "reserved_concurrency" {
  description = "Function => concurrent invocations reserved for it; all others share what the account has left."
  type        = map(number)
  default     = {}
  nullable    = false

  validation {
    condition     = length(setsubtract(keys(var.reserved_concurrency), local.functions)) == 0
    error_message = "Concurrency can be reserved for Sluice's own functions only."
  }
}

variable "provisioned_concurrency" {
  description = "Function => environments kept warm, which are billed while nobody calls; such a function has no SnapStart."
  type        = map(number)
  default     = {}
  nullable    = false

  validation {
    condition     = length(setsubtract(keys(var.provisioned_concurrency), local.functions)) == 0
    error_message = "Concurrency can be provisioned for Sluice's own functions only."
  }
}

variable "log_level" {
  description = "Least important level that functions log: DEBUG, INFO, WARNING or ERROR."
  type        = string
  default     = "INFO"
  nullable    = false

  validation {
    condition     = contains(["DEBUG", "INFO", "WARNING", "ERROR"], var.log_level)
    error_message = "The log level must be DEBUG, INFO, WARNING or ERROR."
  }
}

variable "permissions_boundary" {
  description = "Name of the policy that every role carries as its permissions boundary, or null for none. The apply role of infra/bootstrap may make roles only with its own."
  type        = string
  default     = null
}

# ---- Sync ----

variable "sync_timeout_seconds" {
  description = "Timeout of the functions that call models while the caller waits. The gateway waits a second less, and models have two seconds less than that."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.sync_timeout_seconds >= 3 && var.sync_timeout_seconds <= 30
    error_message = "The timeout must lie between 3 and 30 seconds: API Gateway waits 29 at most."
  }
}

variable "stream_timeout_seconds" {
  description = "Timeout of the function that sends answers as they are made; its URL waits as long as that."
  type        = number
  default     = 300
  nullable    = false

  validation {
    condition     = var.stream_timeout_seconds >= 3 && var.stream_timeout_seconds <= 900
    error_message = "The timeout must lie between 3 and 900 seconds."
  }
}

variable "key_cache_seconds" {
  description = "Seconds for which the authorizer remembers a key, and so at most for which a revoked key still works."
  type        = number
  default     = 60
  nullable    = false

  validation {
    condition     = var.key_cache_seconds >= 0 && var.key_cache_seconds <= 60
    error_message = "Keys can be remembered for 0 to 60 seconds: a revoked key must stop within a minute."
  }
}

variable "idempotency_ttl_seconds" {
  description = "Seconds for which a response is kept for whoever repeats the request under the same Idempotency-Key."
  type        = number
  default     = 86400
  nullable    = false

  validation {
    condition     = var.idempotency_ttl_seconds >= 60 && var.idempotency_ttl_seconds <= 86400 && floor(var.idempotency_ttl_seconds) == var.idempotency_ttl_seconds
    error_message = "Responses can be kept for 60 to 86400 seconds: the bucket forgets the larger ones after two days."
  }
}

variable "request_log_ttl_days" {
  description = "Days for which the request log is kept."
  type        = number
  default     = 90
  nullable    = false

  validation {
    condition     = var.request_log_ttl_days >= 1
    error_message = "The request log must be kept for at least one day."
  }
}

# ---- Batch ----

variable "worker_timeout_seconds" {
  description = "Timeout of the queue's worker; the queue's visibility timeout is six times as long."
  type        = number
  default     = 300
  nullable    = false

  validation {
    condition     = var.worker_timeout_seconds >= 10 && var.worker_timeout_seconds <= 900
    error_message = "The timeout must lie between 10 and 900 seconds."
  }
}

variable "worker_maximum_concurrency" {
  description = "Most workers that the queue keeps busy at once."
  type        = number
  default     = 50
  nullable    = false

  validation {
    condition     = var.worker_maximum_concurrency >= 2 && var.worker_maximum_concurrency <= 1000
    error_message = "Lambda takes between 2 and 1000."
  }

  validation {
    condition     = var.worker_maximum_concurrency <= lookup(var.reserved_concurrency, "async_worker", 1000)
    error_message = "The workers must not be more than the concurrency reserved for async_worker, or messages are refused and end in the DLQ."
  }
}

variable "max_receive_count" {
  description = "Attempts at a message; its delivery after the last one records the end, and then it goes to the DLQ."
  type        = number
  default     = 5
  nullable    = false

  validation {
    condition     = var.max_receive_count >= 5 && var.max_receive_count <= 1000
    error_message = "The receive count must lie between 5 and 1000."
  }
}

variable "retry_base_seconds" {
  description = "Delay before the first retry of a message; each further one is twice as long."
  type        = number
  default     = 5
  nullable    = false

  validation {
    condition     = var.retry_base_seconds >= 1 && var.retry_base_seconds <= 900
    error_message = "The delay must lie between 1 and 900 seconds."
  }
}

variable "result_ttl_days" {
  description = "Days for which requests, results and status of batch and workflow work are kept."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.result_ttl_days >= 1
    error_message = "Results must be kept for at least one day."
  }
}

variable "batch_memory_mb" {
  description = "Memory of the functions that read the input of batches, run their lines and put the results together, in MB; all take CPU, which grows with it."
  type        = number
  default     = 1769
  nullable    = false

  validation {
    condition     = var.batch_memory_mb >= 512 && var.batch_memory_mb <= 10240
    error_message = "The memory must lie between 512 and 10240 MB."
  }
}

variable "batch_worker_maximum_concurrency" {
  description = "Most chunks of all batches that are worked on at once."
  type        = number
  default     = 50
  nullable    = false

  validation {
    condition     = var.batch_worker_maximum_concurrency >= 2 && var.batch_worker_maximum_concurrency <= 1000
    error_message = "Lambda takes between 2 and 1000."
  }

  validation {
    condition     = var.batch_worker_maximum_concurrency <= lookup(var.reserved_concurrency, "batch_worker", 1000)
    error_message = "The workers must not be more than the concurrency reserved for batch_worker, or messages are refused and end in the DLQ."
  }
}

variable "batch_pipeline_timeout_seconds" {
  description = "Timeout of the functions that split batches and put their results together; what is not done by then goes on in the next invocation."
  type        = number
  default     = 900
  nullable    = false

  validation {
    condition     = var.batch_pipeline_timeout_seconds >= 30 && var.batch_pipeline_timeout_seconds <= 900
    error_message = "The timeout must lie between 30 and 900 seconds."
  }
}

variable "batch_window" {
  description = "Chunks of one batch that may be worked on at once."
  type        = number
  default     = 20
  nullable    = false

  validation {
    condition     = var.batch_window >= 1 && var.batch_window <= 1000 && floor(var.batch_window) == var.batch_window
    error_message = "The window must be a whole number of chunks between 1 and 1000."
  }
}

variable "batch_provider_concurrency" {
  description = "Chunks of all batches that may call one provider at once, whichever of its targets they ask. A provider is Bedrock or SageMaker, in each region that targets name, or one base_url. A target that throttles is called by fewer."
  type        = number
  default     = 25
  nullable    = false

  validation {
    condition     = var.batch_provider_concurrency >= 1 && var.batch_provider_concurrency <= 1000 && floor(var.batch_provider_concurrency) == var.batch_provider_concurrency
    error_message = "The limit must be a whole number of chunks between 1 and 1000."
  }
}

variable "batch_line_concurrency" {
  description = "Lines of one chunk that are run at once."
  type        = number
  default     = 16
  nullable    = false

  validation {
    condition     = var.batch_line_concurrency >= 1 && var.batch_line_concurrency <= 256 && floor(var.batch_line_concurrency) == var.batch_line_concurrency
    error_message = "The limit must be a whole number of lines between 1 and 256."
  }
}

variable "batch_line_tries" {
  description = "Deliveries of a chunk in which a line may fail by itself before that failure is its result."
  type        = number
  default     = 5
  nullable    = false

  validation {
    condition     = var.batch_line_tries >= 1 && var.batch_line_tries <= 100 && floor(var.batch_line_tries) == var.batch_line_tries
    error_message = "The tries must be a whole number between 1 and 100."
  }
}

variable "batch_chunk_lines_max" {
  description = "Most lines of one chunk, however cheap they are."
  type        = number
  default     = 10000
  nullable    = false

  validation {
    condition     = var.batch_chunk_lines_max >= 1 && var.batch_chunk_lines_max <= 100000 && floor(var.batch_chunk_lines_max) == var.batch_chunk_lines_max
    error_message = "The limit must be a whole number of lines between 1 and 100000."
  }
}

variable "batch_max_lines" {
  description = "Most lines of one batch."
  type        = number
  default     = 50000
  nullable    = false

  validation {
    condition     = var.batch_max_lines >= 1 && var.batch_max_lines <= 5000000 && floor(var.batch_max_lines) == var.batch_max_lines
    error_message = "The limit must be a whole number of lines between 1 and 5,000,000."
  }
}

variable "batch_max_bytes" {
  description = "Largest input file of a batch, in bytes."
  type        = number
  default     = 209715200
  nullable    = false

  validation {
    condition     = var.batch_max_bytes >= 1024 && var.batch_max_bytes <= 5368709120 && floor(var.batch_max_bytes) == var.batch_max_bytes
    error_message = "The limit must be a whole number of bytes between 1 KB and 5 GB."
  }

  validation {
    condition     = var.batch_max_bytes <= var.max_file_bytes
    error_message = "A batch cannot take a larger file than can be uploaded: see max_file_bytes."
  }
}

variable "batch_max_line_bytes" {
  description = "Longest line of a batch, in bytes."
  type        = number
  default     = 6291456
  nullable    = false

  validation {
    condition     = var.batch_max_line_bytes >= 1024 && var.batch_max_line_bytes <= 6291456 && floor(var.batch_max_line_bytes) == var.batch_max_line_bytes
    error_message = "The limit must be a whole number of bytes between 1 KB and 6 MB."
  }
}

variable "batch_watch_seconds" {
  description = "Seconds after which a batch is looked at again, to see that it expires in time and that nothing of it stalls."
  type        = number
  default     = 60
  nullable    = false

  validation {
    condition     = var.batch_watch_seconds >= 1 && var.batch_watch_seconds <= 900
    error_message = "The watch must come back within 1 to 900 seconds, the longest delay of a message."
  }
}

variable "batch_lease_seconds" {
  description = "Seconds for which the splitter, a worker or the assembler of a batch may keep silent before another takes over."
  type        = number
  default     = 60
  nullable    = false

  validation {
    condition     = var.batch_lease_seconds >= 5 && var.batch_lease_seconds <= 600
    error_message = "The lease must last between 5 and 600 seconds."
  }
}

# ---- Files ----

variable "file_ttl_days" {
  description = "Days for which files are kept, unless they say otherwise: what callers upload and what batches write."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.file_ttl_days >= 1 && var.file_ttl_days <= 365 && floor(var.file_ttl_days) == var.file_ttl_days
    error_message = "Files must be kept for 1 to 365 days."
  }
}

variable "max_file_bytes" {
  description = "Largest file in bytes. What is larger than one request carries comes in parts."
  type        = number
  default     = 5368709120
  nullable    = false

  validation {
    condition     = var.max_file_bytes >= 1024 && var.max_file_bytes <= 5368709120 && floor(var.max_file_bytes) == var.max_file_bytes
    error_message = "The limit must be a whole number of bytes between 1 KB and 5 GB."
  }
}

variable "upload_ttl_seconds" {
  description = "Seconds within which all parts of an upload have to come."
  type        = number
  default     = 3600
  nullable    = false

  validation {
    condition     = var.upload_ttl_seconds >= 60 && var.upload_ttl_seconds <= 86400 && floor(var.upload_ttl_seconds) == var.upload_ttl_seconds
    error_message = "Uploads must expire after 60 to 86400 seconds: the bucket forgets their parts after two days."
  }
}

variable "presign_seconds" {
  description = "Seconds for which a link to a file, or to a part of an upload, is good."
  type        = number
  default     = 900
  nullable    = false

  validation {
    condition     = var.presign_seconds >= 60 && var.presign_seconds <= 3600 && floor(var.presign_seconds) == var.presign_seconds
    error_message = "Links must be good for 60 to 3600 seconds: they end with the credentials of the function that made them."
  }
}

variable "presign_endpoint_url" {
  description = "Endpoint of S3 in links to files, instead of AWS's own; null on AWS."
  type        = string
  default     = null

  validation {
    condition     = var.presign_endpoint_url == null ? true : can(regex("^https?://[^/]+$", var.presign_endpoint_url))
    error_message = "The URL must have a scheme and a host, and no path or trailing slash."
  }
}

# ---- Completion ----

variable "webhooks_allow_private" {
  description = "Whether webhooks may go to private and loopback addresses, and by plain HTTP. On AWS that would let callers reach what only the functions can."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = !var.webhooks_allow_private || var.local_endpoints
    error_message = "Webhooks may go to private addresses only where AWS is the local cloud."
  }
}

variable "webhook_timeout_seconds" {
  description = "Seconds within which a webhook has to be taken."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.webhook_timeout_seconds >= 1 && var.webhook_timeout_seconds <= 30 && floor(var.webhook_timeout_seconds) == var.webhook_timeout_seconds
    error_message = "A webhook must be taken within 1 to 30 seconds."
  }
}

variable "webhook_attempts" {
  description = "Attempts at a webhook, each after a pause twice as long as the one before (15 minutes at most), before it goes to the DLQ."
  type        = number
  default     = 12
  nullable    = false

  validation {
    condition     = var.webhook_attempts >= 5 && var.webhook_attempts <= 100 && floor(var.webhook_attempts) == var.webhook_attempts
    error_message = "The attempts must be a whole number between 5 and 100."
  }
}

variable "completion_topic_enabled" {
  description = "Whether there is an SNS topic that is told of every batch and asynchronous request that has ended."
  type        = bool
  default     = false
  nullable    = false
}

# ---- Workflow ----

variable "workflow_step_timeout_seconds" {
  description = "Timeout of one workflow step."
  type        = number
  default     = 120
  nullable    = false

  validation {
    condition     = var.workflow_step_timeout_seconds >= 10 && var.workflow_step_timeout_seconds <= 120
    error_message = "The timeout must lie between 10 and 120 seconds: the state RunStep gives up after 130."
  }
}

# ---- Events ----

variable "event_batching_window_seconds" {
  description = "Seconds for which changes are gathered before they become events."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.event_batching_window_seconds >= 0 && var.event_batching_window_seconds <= 300
    error_message = "The window must lie between 0 and 300 seconds."
  }
}

variable "event_archive_days" {
  description = "Days for which events are archived for replay."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.event_archive_days >= 1
    error_message = "Events must be archived for at least one day."
  }
}

# ---- What is kept ----

variable "deletion_protection" {
  description = "Whether the table and a bucket with objects in it refuse to be destroyed."
  type        = bool
  default     = true
  nullable    = false
}

variable "bucket_versioning" {
  description = "Whether overwritten and deleted objects are kept for a day."
  type        = bool
  default     = true
  nullable    = false
}

variable "key_deletion_window_days" {
  description = "Days between the deletion of the KMS key and the loss of all that it encrypts."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.key_deletion_window_days >= 7 && var.key_deletion_window_days <= 30
    error_message = "KMS waits between 7 and 30 days."
  }
}

variable "secret_recovery_window_days" {
  description = "Days for which the deleted provider secret can be restored; 0 for none, so that its name is free at once."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.secret_recovery_window_days == 0 || (var.secret_recovery_window_days >= 7 && var.secret_recovery_window_days <= 30)
    error_message = "The window must be 0, or lie between 7 and 30 days."
  }
}

variable "log_retention_days" {
  description = "Days for which logs are kept."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "CloudWatch Logs knows only these retentions: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 and 3653 days."
  }
}

# ---- Edge ----

variable "throttling" {
  description = "Steady rate and burst that each route takes before it answers 429."
  type = object({
    requests_per_second = number
    burst               = number
  })
  default = {
    requests_per_second = 1000
    burst               = 2000
  }
  nullable = false
}

variable "waf" {
  description = "Firewall before the API, with the requests that one address may send in 5 minutes; null for none. It costs money while nobody calls."
  type = object({
    requests_per_5_minutes = optional(number, 10000)
  })
  default = null

  validation {
    condition     = var.waf == null ? true : var.waf.requests_per_5_minutes >= 10 && var.waf.requests_per_5_minutes <= 2000000000
    error_message = "WAF takes between 10 and 2,000,000,000 requests."
  }
}

variable "domain" {
  description = "Domain of the API, its ACM certificate in the same region and, to point the name at the API, its Route 53 zone; null for the default URL."
  type = object({
    name            = string
    certificate_arn = string
    zone_id         = optional(string)
  })
  default = null

  validation {
    condition     = var.domain == null ? true : can(regex("^([a-z0-9-]+\\.)+[a-z]{2,}$", var.domain.name))
    error_message = "The domain must be a full name, such as api.example.com."
  }
}

variable "manage_api_gateway_account" {
  description = "Whether to set the account's CloudWatch role for API Gateway. One setting for the account and region: true in one environment only."
  type        = bool
  default     = true
  nullable    = false
}

# ---- Alarms ----

variable "alarms_enabled" {
  description = "Whether there are alarms."
  type        = bool
  default     = true
  nullable    = false
}

variable "alarm_emails" {
  description = "Addresses told about alarms; each must confirm the subscription."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for address in var.alarm_emails : can(regex("^[^@\\s]+@[^@\\s]+$", address))])
    error_message = "Every address must look like name@example.com."
  }
}

variable "api_p95_latency_alarm_ms" {
  description = "Latency that one request in twenty may exceed before an alarm; mostly the models' own."
  type        = number
  default     = 10000
  nullable    = false

  validation {
    condition     = var.api_p95_latency_alarm_ms > 0
    error_message = "The latency must be positive."
  }
}
