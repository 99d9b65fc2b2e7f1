# The local cloud on this machine. models_url and the endpoints of providers and links come from `make up`, which knows the
# ports.

environment     = "local"
local_endpoints = true
package_dir     = "../build/local"

targets = {
  # Not market prices: so small, and with so many digits, that tests see exact arithmetic.
  "bedrock/extractive-v1" = {
    provider          = "bedrock"
    model             = "extractive-v1"
    operations        = ["chat", "classify"]
    capabilities      = ["streaming", "tools", "json_schema"]
    context_length    = 8192
    max_output_tokens = 1024
    price = {
      version                 = "2026-11-21"
      input_per_mtok          = "0.06"
      output_per_mtok         = "0.24"
      cache_read_per_mtok     = "0.015"
      cache_write_per_mtok    = "0.075"
      cache_write_1h_per_mtok = "0.12"
      reasoning_per_mtok      = "0.27"
      batch                   = { input_per_mtok = "0.03", output_per_mtok = "0.12" }
    }
  }
  "openai/extractive-v1" = {
    provider          = "openai_compatible"
    model             = "extractive-v1"
    operations        = ["chat", "classify"]
    secret_field      = "local"
    capabilities      = ["streaming", "tools", "json_schema"]
    context_length    = 8192
    max_output_tokens = 1024
    price = {
      version             = "2026-11-21"
      input_per_mtok      = "0.035"
      output_per_mtok     = "0.14"
      cache_read_per_mtok = "0.00875"
      batch               = { input_per_mtok = "0.0175", output_per_mtok = "0.07" }
    }
  }
  # The same models on a short leash, in two places: what happens when one of them hangs is seen within a second.
  "bedrock/extractive-v1-brisk" = {
    provider          = "bedrock"
    model             = "extractive-v1"
    operations        = ["chat", "classify"]
    capabilities      = ["streaming", "tools", "json_schema"]
    context_length    = 8192
    max_output_tokens = 1024
    attempt_timeout_s = 1
    region            = "us-east-1"
    price = {
      version                 = "2026-11-21"
      input_per_mtok          = "0.06"
      output_per_mtok         = "0.24"
      cache_read_per_mtok     = "0.015"
      cache_write_per_mtok    = "0.075"
      cache_write_1h_per_mtok = "0.12"
      reasoning_per_mtok      = "0.27"
      batch                   = { input_per_mtok = "0.03", output_per_mtok = "0.12" }
    }
  }
  "openai/extractive-v1-brisk" = {
    provider          = "openai_compatible"
    model             = "extractive-v1"
    operations        = ["chat", "classify"]
    secret_field      = "local"
    capabilities      = ["streaming", "tools", "json_schema"]
    context_length    = 8192
    max_output_tokens = 1024
    attempt_timeout_s = 1
    region            = "eu-central-1"
    price = {
      version             = "2026-11-21"
      input_per_mtok      = "0.035"
      output_per_mtok     = "0.14"
      cache_read_per_mtok = "0.00875"
      batch               = { input_per_mtok = "0.0175", output_per_mtok = "0.07" }
    }
  }
  # Behind the model server's own guardrail, which has something against financial advice.
  "bedrock/extractive-v1-guarded" = {
    provider          = "bedrock"
    model             = "extractive-v1"
    operations        = ["chat"]
    capabilities      = ["streaming", "tools", "json_schema"]
    context_length    = 8192
    max_output_tokens = 1024
    guardrail         = { id = "locallimits", version = "1" }
    price             = { version = "2026-11-21", input_per_mtok = "0.06", output_per_mtok = "0.24" }
  }
  # Every class of tokens has a rate of its own, and long prompts have others: what is billed is seen to the last digit.
  "bedrock/extractive-v1-priced" = {
    provider          = "bedrock"
    model             = "extractive-v1"
    operations        = ["chat"]
    capabilities      = ["streaming", "tools", "json_schema"]
    context_length    = 8192
    max_output_tokens = 1024
    price = {
      version                 = "2026-11-20"
      input_per_mtok          = "3"
      output_per_mtok         = "15"
      cache_read_per_mtok     = "0.3"
      cache_write_per_mtok    = "3.75"
      cache_write_1h_per_mtok = "6"
      reasoning_per_mtok      = "20"
      per_request_usd         = "0.000001"
      tiers = [{
        above_input_tokens      = 400
        input_per_mtok          = "6"
        output_per_mtok         = "22.5"
        cache_read_per_mtok     = "0.6"
        cache_write_per_mtok    = "7.5"
        cache_write_1h_per_mtok = "12"
        reasoning_per_mtok      = "30"
      }]
    }
  }
  "openai/extractive-v1-priced" = {
    provider          = "openai_compatible"
    model             = "extractive-v1"
    operations        = ["chat"]
    secret_field      = "local"
    capabilities      = ["streaming", "tools", "json_schema"]
    context_length    = 8192
    max_output_tokens = 1024
    price = {
      version              = "2026-11-20"
      input_per_mtok       = "3"
      output_per_mtok      = "15"
      cache_read_per_mtok  = "0.3"
      cache_write_per_mtok = "3.75"
      reasoning_per_mtok   = "20"
      per_request_usd      = "0.000001"
      tiers = [{
        above_input_tokens   = 400
        input_per_mtok       = "6"
        output_per_mtok      = "22.5"
        cache_read_per_mtok  = "0.6"
        cache_write_per_mtok = "7.5"
        reasoning_per_mtok   = "30"
      }]
    }
  }
  # Says little, and nobody knows what it costs.
  "openai/extractive-v1-small" = {
    provider          = "openai_compatible"
    model             = "extractive-v1"
    operations        = ["chat"]
    secret_field      = "local"
    context_length    = 8192
    max_output_tokens = 16
  }
  "bedrock/wordllama-256" = {
    provider       = "bedrock"
    model          = "wordllama-256"
    operations     = ["embed", "classify"]
    context_length = 8192
    price          = { version = "2026-11-21", input_per_mtok = "0.02", output_per_mtok = "0" }
  }
  "openai/wordllama-256" = {
    provider       = "openai_compatible"
    model          = "wordllama-256"
    operations     = ["embed", "classify"]
    secret_field   = "local"
    context_length = 8192
    price          = { version = "2026-11-21", input_per_mtok = "0.02", output_per_mtok = "0" }
  }
  # Billed by the hour on AWS, so that what a call costs is unknown.
  "sagemaker/lead-scorer" = {
    provider   = "sagemaker"
    model      = "lead-scorer"
    operations = ["score"]
  }
  # Costs nothing besides the function's own time, so its price is known: zero.
  "in-process/lead-scorer" = {
    provider   = "in_process"
    model      = "lead-scorer"
    operations = ["score"]
    price      = { version = "2026-11-21", input_per_mtok = "0" }
  }
  # Likewise, and quick: for batches of embeddings above all.
  "in-process/static-embeddings" = {
    provider       = "in_process"
    model          = "static-embeddings"
    operations     = ["embed"]
    context_length = 8192
    price          = { version = "2026-11-21", input_per_mtok = "0" }
  }
}

aliases = {
  auto         = { operation = "chat", targets = ["bedrock/extractive-v1", "openai/extractive-v1"] }
  fast         = { operation = "chat", targets = ["openai/extractive-v1", "bedrock/extractive-v1"] }
  cheap        = { operation = "chat", targets = ["openai/extractive-v1"] }
  embed        = { operation = "embed", targets = ["bedrock/wordllama-256", "openai/wordllama-256"] }
  embed-static = { operation = "embed", targets = ["in-process/static-embeddings"] }
  classify     = { operation = "classify", targets = ["bedrock/wordllama-256", "openai/extractive-v1"] }
  score        = { operation = "score", targets = ["sagemaker/lead-scorer", "in-process/lead-scorer"] }

  # What applications written for OpenAI ask for, as do the tests of its client: they run here unchanged.
  "gpt-6-astra"            = { operation = "chat", targets = ["bedrock/extractive-v1", "openai/extractive-v1"] }
  "gpt-3.5-turbo-0125"     = { operation = "chat", targets = ["bedrock/extractive-v1", "openai/extractive-v1"] }
  "gpt-3.5-turbo-instruct" = { operation = "chat", targets = ["openai/extractive-v1", "bedrock/extractive-v1"] }
  "text-embedding-3-small" = { operation = "embed", targets = ["bedrock/wordllama-256", "openai/wordllama-256"] }

  # One for each other strategy, and what tests need.
  ask-label    = { operation = "classify", targets = ["bedrock/extractive-v1", "openai/extractive-v1"] }
  brisk        = { operation = "chat", targets = ["bedrock/extractive-v1-brisk", "openai/extractive-v1-brisk"] }
  brisk-openai = { operation = "chat", targets = ["openai/extractive-v1-brisk", "bedrock/extractive-v1-brisk"] }
  cached       = { operation = "chat", targets = ["bedrock/extractive-v1", "openai/extractive-v1"], cache_ttl_seconds = 60 }
  hedged       = { operation = "chat", targets = ["bedrock/extractive-v1", "openai/extractive-v1"], hedge_after_ms = 200 }
  nimble       = { operation = "chat", strategy = "latency", targets = ["bedrock/extractive-v1", "openai/extractive-v1"] }
  thrifty      = { operation = "chat", strategy = "cost", targets = ["bedrock/extractive-v1", "openai/extractive-v1"] }
  turns        = { operation = "chat", strategy = "round_robin", targets = ["bedrock/extractive-v1", "openai/extractive-v1"] }
  weighted = {
    operation = "chat"
    strategy  = "weighted"
    targets   = ["bedrock/extractive-v1", "openai/extractive-v1"]
    weights   = { "bedrock/extractive-v1" = 3, "openai/extractive-v1" = 1 }
  }
}

intent_sets = {
  support = {
    billing   = "invoices, payments, charges, refunds and prices"
    technical = "errors, bugs, outages and how to use the product"
    account   = "sign-in, passwords, users and permissions"
    sales     = "new purchases, upgrades, quotes and demos"
    complaint = "dissatisfaction with service or staff"
  }
}

# Short, so that a test of the dead-letter queue is quick.
worker_timeout_seconds        = 30
workflow_step_timeout_seconds = 30
attempt_timeout_seconds       = 10
long_attempt_timeout_seconds  = 12
circuit_open_seconds          = 4
circuit_cache_seconds         = 0.1
retry_base_seconds            = 1
worker_maximum_concurrency    = 2
event_batching_window_seconds = 0
# So that a revoked key is seen to stop.
key_cache_seconds = 2

# Two cores for everything, and kills that tests see mended within seconds.
batch_pipeline_timeout_seconds   = 60
batch_worker_maximum_concurrency = 4
batch_window                     = 4
batch_provider_concurrency       = 6
batch_watch_seconds              = 5
batch_lease_seconds              = 10
webhook_attempts                 = 5
# Tests take webhooks on this machine.
webhooks_allow_private   = true
completion_topic_enabled = true
# As much as Sluice takes: for `make bench-batch`.
batch_max_lines = 5000000
batch_max_bytes = 5368709120

# The local cloud takes alarms but reports them only in part, so that every apply would change them again.
alarms_enabled = false

# Everything goes when the cloud goes.
deletion_protection         = false
secret_recovery_window_days = 0
key_deletion_window_days    = 7
log_retention_days          = 1
