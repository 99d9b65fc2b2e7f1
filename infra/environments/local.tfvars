# The local cloud on this machine. models_url and bedrock_endpoint_url come from `make up`, which knows the ports.

environment     = "local"
local_endpoints = true
package_dir     = "../build/local"

targets = {
  "bedrock/extractive-v1" = {
    provider          = "bedrock"
    model             = "extractive-v1"
    operations        = ["chat"]
    context_length    = 8192
    max_output_tokens = 1024
    # Not a market price: so small, and with so many digits, that tests see exact arithmetic.
    price = { version = "2026-11-21", input_per_mtok = "0.06", output_per_mtok = "0.24" }
  }
  "openai/extractive-v1" = {
    provider          = "openai_compatible"
    model             = "extractive-v1"
    operations        = ["chat"]
    secret_field      = "local"
    context_length    = 8192
    max_output_tokens = 1024
    price             = { version = "2026-11-21", input_per_mtok = "0.035", output_per_mtok = "0.14" }
  }
  "bedrock/wordllama-256" = {
    provider       = "bedrock"
    model          = "wordllama-256"
    operations     = ["embed"]
    context_length = 8192
    price          = { version = "2026-11-21", input_per_mtok = "0.02", output_per_mtok = "0" }
  }
  "openai/wordllama-256" = {
    provider       = "openai_compatible"
    model          = "wordllama-256"
    operations     = ["embed"]
    secret_field   = "local"
    context_length = 8192
    price          = { version = "2026-11-21", input_per_mtok = "0.02", output_per_mtok = "0" }
  }
}

aliases = {
  auto  = { operation = "chat", targets = ["bedrock/extractive-v1", "openai/extractive-v1"] }
  fast  = { operation = "chat", targets = ["openai/extractive-v1", "bedrock/extractive-v1"] }
  cheap = { operation = "chat", targets = ["openai/extractive-v1"] }
  embed = { operation = "embed", targets = ["bedrock/wordllama-256", "openai/wordllama-256"] }
}

# Short, so that a test of the dead-letter queue is quick.
worker_timeout_seconds        = 30
workflow_step_timeout_seconds = 30
attempt_timeout_seconds       = 10
retry_base_seconds            = 1
worker_maximum_concurrency    = 2
event_batching_window_seconds = 0

# The local cloud takes alarms but reports them only in part, so that every apply would change them again.
alarms_enabled = false

# Everything goes when the cloud goes.
deletion_protection         = false
secret_recovery_window_days = 0
key_deletion_window_days    = 7
log_retention_days          = 1
