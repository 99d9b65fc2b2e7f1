# Applied by the deploy workflow, behind the approval of the environment `prod`.

environment          = "prod"
permissions_boundary = "sluice-prod-boundary"

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
  "amazon/nova-pro" = {
    provider          = "bedrock"
    model             = "us.amazon.nova-pro-v1:0"
    operations        = ["chat"]
    capabilities      = ["streaming", "tools"]
    context_length    = 300000
    max_output_tokens = 10000
    price = {
      version             = "2026-11-21"
      input_per_mtok      = "0.8"
      output_per_mtok     = "3.2"
      cache_read_per_mtok = "0.2"
      batch               = { input_per_mtok = "0.4", output_per_mtok = "1.6" }
    }
  }
  "anthropic/claude-haiku-4-5" = {
    provider          = "bedrock"
    model             = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
    operations        = ["chat"]
    capabilities      = ["streaming", "tools", "json_schema"]
    context_length    = 200000
    max_output_tokens = 64000
    price = {
      version                 = "2026-11-21"
      input_per_mtok          = "1.1"
      output_per_mtok         = "5.5"
      cache_read_per_mtok     = "0.11"
      cache_write_per_mtok    = "1.375"
      cache_write_1h_per_mtok = "2.2"
      batch                   = { input_per_mtok = "0.55", output_per_mtok = "2.75" }
    }
  }
  "openai/gpt-oss-120b" = {
    provider          = "bedrock"
    model             = "openai.gpt-oss-120b-1:0"
    operations        = ["chat"]
    capabilities      = ["streaming", "tools"]
    context_length    = 128000
    max_output_tokens = 16384
    price = {
      version         = "2026-11-21"
      input_per_mtok  = "0.15"
      output_per_mtok = "0.60"
      batch           = { input_per_mtok = "0.075", output_per_mtok = "0.3" }
    }
  }
  "amazon/titan-embed-v2" = {
    provider       = "bedrock"
    model          = "amazon.titan-embed-text-v2:0"
    operations     = ["embed", "classify"]
    context_length = 8192
    price          = { version = "2026-11-21", input_per_mtok = "0.02", output_per_mtok = "0" }
  }
  # An endpoint with the same model, made outside of this root and billed by the hour: so what a call costs is unknown.
  # While there is none, the next target answers.
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
  auto         = { operation = "chat", targets = ["anthropic/claude-haiku-4-5", "amazon/nova-pro", "openai/gpt-oss-120b"] }
  fast         = { operation = "chat", strategy = "latency", targets = ["amazon/nova-lite", "amazon/nova-micro"] }
  cheap        = { operation = "chat", strategy = "cost", targets = ["amazon/nova-micro", "amazon/nova-lite"] }
  embed        = { operation = "embed", targets = ["amazon/titan-embed-v2"] }
  embed-static = { operation = "embed", targets = ["in-process/static-embeddings"] }
  classify     = { operation = "classify", targets = ["amazon/titan-embed-v2", "amazon/nova-micro"] }
  score        = { operation = "score", targets = ["sagemaker/lead-scorer", "in-process/lead-scorer"] }
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

log_retention_days               = 365
event_archive_days               = 90
request_log_ttl_days             = 400
function_memory_mb               = 1024
worker_maximum_concurrency       = 100
batch_worker_maximum_concurrency = 100
batch_provider_concurrency       = 50
throttling                       = { requests_per_second = 1000, burst = 2000 }
waf                              = { requests_per_5_minutes = 20000 }
