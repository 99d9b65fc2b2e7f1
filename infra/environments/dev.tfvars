# A developer's own account: everything can be thrown away, and nothing costs while nobody calls.

environment = "dev"

# Prices: USD per million tokens in us-east-1, as listed by litellm 1.109.1 (model_prices_and_context_window.json)
# on 2026-11-21. Check them against https://aws.amazon.com/bedrock/pricing/ before relying on the costs.
targets = {
  "amazon/nova-micro" = {
    provider          = "bedrock"
    model             = "us.amazon.nova-micro-v1:0"
    operations        = ["chat", "classify"]
    capabilities      = ["streaming", "tools"]
    context_length    = 128000
    max_output_tokens = 10000
    price = {
      version             = "2026-11-21"
      input_per_mtok      = "0.035"
      output_per_mtok     = "0.14"
      cache_read_per_mtok = "0.00875"
      batch               = { input_per_mtok = "0.0175", output_per_mtok = "0.07" }
    }
  }
  "amazon/nova-lite" = {
    provider          = "bedrock"
    model             = "us.amazon.nova-lite-v1:0"
    operations        = ["chat"]
    capabilities      = ["streaming", "tools"]
    context_length    = 300000
    max_output_tokens = 10000
    price = {
      version             = "2026-11-21"
      input_per_mtok      = "0.06"
      output_per_mtok     = "0.24"
      cache_read_per_mtok = "0.015"
      batch               = { input_per_mtok = "0.03", output_per_mtok = "0.12" }
    }
  }
  "amazon/titan-embed-v2" = {
    provider       = "bedrock"
    model          = "amazon.titan-embed-text-v2:0"
    operations     = ["embed", "classify"]
    context_length = 8192
    price          = { version = "2026-11-21", input_per_mtok = "0.02", output_per_mtok = "0" }
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
  auto         = { operation = "chat", targets = ["amazon/nova-lite", "amazon/nova-micro"] }
  fast         = { operation = "chat", strategy = "latency", targets = ["amazon/nova-micro", "amazon/nova-lite"] }
  cheap        = { operation = "chat", strategy = "cost", targets = ["amazon/nova-micro", "amazon/nova-lite"] }
  embed        = { operation = "embed", targets = ["amazon/titan-embed-v2"] }
  embed-static = { operation = "embed", targets = ["in-process/static-embeddings"] }
  classify     = { operation = "classify", targets = ["amazon/titan-embed-v2", "amazon/nova-micro"] }
  score        = { operation = "score", targets = ["in-process/lead-scorer"] }
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

log_level                        = "DEBUG"
log_retention_days               = 7
event_archive_days               = 7
request_log_ttl_days             = 14
result_ttl_days                  = 7
alarms_enabled                   = false
deletion_protection              = false
secret_recovery_window_days      = 0
key_deletion_window_days         = 7
worker_maximum_concurrency       = 5
batch_worker_maximum_concurrency = 10
file_ttl_days                    = 7
throttling                       = { requests_per_second = 50, burst = 100 }
