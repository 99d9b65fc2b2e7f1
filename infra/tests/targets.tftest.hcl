# Proves what becomes of targets, aliases and intent sets: the items that functions read, the ARNs that roles may call,
# and that a route which could never work is refused before anything is made.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  environment            = "test"
  package_dir            = "tests/fixtures/packages"
  models_url             = "http://127.0.0.1:1"
  sagemaker_endpoint_url = "http://127.0.0.1:3"

  targets = {
    "bedrock/chat" = {
      provider          = "bedrock"
      model             = "amazon.nova-lite-v1:0"
      operations        = ["chat", "classify"]
      capabilities      = ["tools", "streaming", "json_schema"]
      region            = "us-east-1"
      context_length    = 300000
      max_output_tokens = 10000
      attempt_timeout_s = 1.5
      guardrail         = { id = "abc123", version = "7" }
      price = {
        version                 = "2026-11-21"
        input_per_mtok          = "0.06"
        output_per_mtok         = "0.24"
        cache_read_per_mtok     = "0.015"
        cache_write_per_mtok    = "0.075"
        cache_write_1h_per_mtok = "0.12"
        reasoning_per_mtok      = "0.3"
        per_request_usd         = "0.0001"
        tiers                   = [{ above_input_tokens = 200000, input_per_mtok = "0.12", output_per_mtok = "0.48" }]
        batch                   = { input_per_mtok = "0.03", output_per_mtok = "0.12" }
      }
    }
    "bedrock/embed" = { provider = "bedrock", model = "amazon.titan-embed-text-v2:0", operations = ["embed", "classify"] }
    "other/chat" = {
      provider         = "openai_compatible"
      model            = "chat"
      operations       = ["chat"]
      secret_field     = "other"
      region           = "eu-central-1"
      max_tokens_field = "max_completion_tokens"
    }
    "endpoint/scorer" = { provider = "sagemaker", model = "Lead-Scorer", operations = ["score"] }
    "inside/scorer" = {
      provider   = "in_process"
      model      = "lead-scorer"
      operations = ["score"]
      price      = { version = "2026-11-21", input_per_mtok = "0" }
    }
  }
  aliases = {
    auto     = { operation = "chat", strategy = "weighted", targets = ["bedrock/chat", "other/chat"], weights = { "bedrock/chat" = 3 } }
    fast     = { operation = "chat", strategy = "latency", targets = ["other/chat", "bedrock/chat"], hedge_after_ms = 250, cache_ttl_seconds = 60 }
    cheap    = { operation = "chat", strategy = "cost", targets = ["other/chat"], regions = ["eu-central-1"] }
    embed    = { operation = "embed", targets = ["bedrock/embed"] }
    classify = { operation = "classify", targets = ["bedrock/embed", "bedrock/chat"] }
    score    = { operation = "score", targets = ["endpoint/scorer", "inside/scorer"] }
  }
  intent_sets = { support = { billing = "invoices", other = "" } }
}

run "writes_routes_as_functions_read_them" {
  command = plan

  assert {
    condition = jsondecode(aws_dynamodb_table_item.target["bedrock/chat"].item) == {
      pk                = { S = "ROUTES" }
      sk                = { S = "TARGET#bedrock/chat" }
      name              = { S = "bedrock/chat" }
      provider          = { S = "bedrock" }
      model             = { S = "amazon.nova-lite-v1:0" }
      operations        = { L = [{ S = "chat" }, { S = "classify" }] }
      capabilities      = { L = [{ S = "json_schema" }, { S = "streaming" }, { S = "tools" }] }
      created           = { N = "1795219200" }
      region            = { S = "us-east-1" }
      context_length    = { N = "300000" }
      max_output_tokens = { N = "10000" }
      attempt_timeout_s = { N = "1.5" }
      guardrail         = { M = { id = { S = "abc123" }, version = { S = "7" } } }
      price = {
        M = {
          version                 = { S = "2026-11-21" }
          input_per_mtok          = { S = "0.06" }
          output_per_mtok         = { S = "0.24" }
          cache_read_per_mtok     = { S = "0.015" }
          cache_write_per_mtok    = { S = "0.075" }
          cache_write_1h_per_mtok = { S = "0.12" }
          reasoning_per_mtok      = { S = "0.3" }
          per_request_usd         = { S = "0.0001" }
          tiers = {
            L = [{ M = { above_input_tokens = { N = "200000" }, input_per_mtok = { S = "0.12" }, output_per_mtok = { S = "0.48" } } }]
          }
          batch = { M = { input_per_mtok = { S = "0.03" }, output_per_mtok = { S = "0.12" } } }
        }
      }
    }
    error_message = "A target with everything is not written as functions read it."
  }

  assert {
    condition = jsondecode(aws_dynamodb_table_item.target["endpoint/scorer"].item) == {
      pk           = { S = "ROUTES" }
      sk           = { S = "TARGET#endpoint/scorer" }
      name         = { S = "endpoint/scorer" }
      provider     = { S = "sagemaker" }
      model        = { S = "Lead-Scorer" }
      operations   = { L = [{ S = "score" }] }
      capabilities = { L = [{ S = "streaming" }] }
      created      = { N = "1795219200" }
    }
    error_message = "What a target does not have must be left out: above all its price."
  }

  assert {
    condition     = jsondecode(aws_dynamodb_table_item.target["other/chat"].item).base_url.S == "http://127.0.0.1:1/openai/v1"
    error_message = "An openai_compatible target without a base_url must get the local model server's."
  }

  assert {
    condition     = jsondecode(aws_dynamodb_table_item.target["other/chat"].item).max_tokens_field.S == "max_completion_tokens"
    error_message = "The name by which a server takes the longest answer must reach its item."
  }

  assert {
    condition = jsondecode(aws_dynamodb_table_item.alias["auto"].item) == {
      pk        = { S = "ROUTES" }
      sk        = { S = "ALIAS#auto" }
      name      = { S = "auto" }
      operation = { S = "chat" }
      strategy  = { S = "weighted" }
      targets = {
        L = [
          { M = { target = { S = "bedrock/chat" }, weight = { N = "3" } } },
          { M = { target = { S = "other/chat" }, weight = { N = "1" } } },
        ]
      }
    }
    error_message = "An alias must keep the order of its targets and have a weight for each."
  }

  assert {
    condition     = jsondecode(aws_dynamodb_table_item.alias["fast"].item).hedge_after_ms.N == "250" && jsondecode(aws_dynamodb_table_item.alias["fast"].item).cache_ttl_s.N == "60" && jsondecode(aws_dynamodb_table_item.alias["cheap"].item).regions.L == [{ S = "eu-central-1" }]
    error_message = "Hedging, regions and caching of an alias must reach its item."
  }

  assert {
    condition     = jsondecode(aws_dynamodb_table_item.intent_set["support"].item).labels.L == [{ M = { name = { S = "billing" }, description = { S = "invoices" } } }, { M = { name = { S = "other" }, description = { S = "" } } }]
    error_message = "An intent set must hold every label with its meaning."
  }
}

run "lets_functions_call_exactly_what_targets_name" {
  command = plan

  assert {
    condition     = toset(one(data.aws_iam_policy_document.invoke_endpoints.statement).resources) == toset(["arn:aws:sagemaker:us-east-1:123456789012:endpoint/lead-scorer"])
    error_message = "Endpoints must be named by their exact ARN, which SageMaker writes in lower case."
  }

  assert {
    condition     = toset(one(data.aws_iam_policy_document.apply_guardrails.statement).resources) == toset(["arn:aws:bedrock:us-east-1:123456789012:guardrail/abc123"])
    error_message = "Guardrails must be named by their exact ARN."
  }

  assert {
    condition     = toset(one(data.aws_iam_policy_document.stream_models.statement).resources) == toset(one(data.aws_iam_policy_document.invoke_models.statement).resources)
    error_message = "The models that may be streamed are those that may be called."
  }

  assert {
    condition     = contains(module.sync_functions["score"].concerns, "invoke-endpoints") && !contains(module.sync_functions["score"].concerns, "invoke-models") && !contains(module.sync_functions["score"].concerns, "read-secret")
    error_message = "The scoring function may call endpoints, and neither Bedrock nor read the provider keys."
  }

  assert {
    condition     = alltrue([for function in ["chat_completions", "completions", "chat", "embeddings", "classify"] : !contains(module.sync_functions[function].concerns, "invoke-endpoints")])
    error_message = "Only the scoring function may call endpoints."
  }

  assert {
    condition     = [for function, made in module.sync_functions : function if contains(made.concerns, "stream-models")] == ["chat_completions", "chat_stream", "completions"]
    error_message = "Only the routes that stream may ask Bedrock for a stream."
  }
}

run "grants_nothing_that_no_target_needs" {
  command = plan

  variables {
    targets = {
      "other/chat"    = { provider = "openai_compatible", model = "chat", operations = ["chat", "embed", "classify"] }
      "inside/scorer" = { provider = "in_process", model = "lead-scorer", operations = ["score"] }
    }
    aliases = {
      auto     = { operation = "chat", targets = ["other/chat"] }
      fast     = { operation = "chat", targets = ["other/chat"] }
      cheap    = { operation = "chat", targets = ["other/chat"] }
      embed    = { operation = "embed", targets = ["other/chat"] }
      classify = { operation = "classify", targets = ["other/chat"] }
      score    = { operation = "score", targets = ["inside/scorer"] }
    }
  }

  assert {
    condition     = length(setintersection(flatten([for made in values(module.sync_functions) : made.concerns]), ["invoke-models", "stream-models", "invoke-endpoints", "apply-guardrails"])) == 0
    error_message = "Without a target of Bedrock or SageMaker nobody may call either."
  }
}

run "refuses_a_scorer_that_chats" {
  command = plan
  variables {
    targets = merge(var.targets, { bad = { provider = "sagemaker", model = "x", operations = ["chat"] } })
  }
  expect_failures = [var.targets]
}

run "refuses_a_chat_model_that_scores" {
  command = plan
  variables {
    targets = merge(var.targets, { bad = { provider = "bedrock", model = "x", operations = ["chat", "score"] } })
  }
  expect_failures = [var.targets]
}

run "refuses_to_classify_with_nothing" {
  command = plan
  variables {
    targets = merge(var.targets, { bad = { provider = "bedrock", model = "x", operations = ["classify"] } })
  }
  expect_failures = [var.targets]
}

run "refuses_a_model_inside_that_is_not_packaged" {
  command = plan
  variables {
    targets = merge(var.targets, { bad = { provider = "in_process", model = "other", operations = ["score"] } })
  }
  expect_failures = [var.targets]
}

run "refuses_an_embedding_model_inside_that_scores" {
  command = plan
  variables {
    targets = merge(var.targets, { bad = { provider = "in_process", model = "static-embeddings", operations = ["embed", "score"] } })
  }
  expect_failures = [var.targets]
}

run "takes_the_embedding_model_inside" {
  command = plan
  variables {
    targets = merge(var.targets, { good = { provider = "in_process", model = "static-embeddings", operations = ["embed"] } })
  }

  assert {
    condition     = jsondecode(aws_dynamodb_table_item.target["good"].item).operations.L == [{ S = "embed" }]
    error_message = "A model inside the functions may offer embeddings."
  }
}

run "refuses_a_guardrail_where_it_would_not_be_applied" {
  command = plan
  variables {
    targets = merge(var.targets, { bad = { provider = "openai_compatible", model = "x", operations = ["chat"], guardrail = { id = "abc", version = "1" } } })
  }
  expect_failures = [var.targets]
}

run "refuses_a_limit_by_a_name_that_no_server_knows" {
  command = plan
  variables {
    targets = merge(var.targets, { bad = { provider = "openai_compatible", model = "x", operations = ["chat"], max_tokens_field = "max_output_tokens" } })
  }
  expect_failures = [var.targets]
}

run "refuses_a_name_for_the_limit_where_it_would_not_be_used" {
  command = plan
  variables {
    targets = merge(var.targets, { bad = { provider = "bedrock", model = "x", operations = ["chat"], max_tokens_field = "max_completion_tokens" } })
  }
  expect_failures = [var.targets]
}

run "refuses_a_promise_of_another_region" {
  command = plan
  variables {
    targets = merge(var.targets, { bad = { provider = "bedrock", model = "x", operations = ["chat"], region = "eu-west-1" } })
  }
  expect_failures = [var.targets]
}

run "refuses_a_region_for_a_model_that_runs_in_several" {
  command = plan
  variables {
    targets = merge(var.targets, { bad = { provider = "bedrock", model = "us.amazon.nova-pro-v1:0", operations = ["chat"], region = "us-east-1" } })
  }
  expect_failures = [var.targets]
}

run "refuses_a_rate_that_is_no_decimal" {
  command = plan
  variables {
    targets = merge(var.targets, { bad = { provider = "bedrock", model = "x", operations = ["chat"], price = { version = "2026-11-21", input_per_mtok = "1", batch = { input_per_mtok = "-1" } } } })
  }
  expect_failures = [var.targets]
}

run "refuses_an_unknown_capability" {
  command = plan
  variables {
    targets = merge(var.targets, { bad = { provider = "bedrock", model = "x", operations = ["chat"], capabilities = ["vision"] } })
  }
  expect_failures = [var.targets]
}

run "refuses_weights_without_the_strategy" {
  command = plan
  variables {
    aliases = merge(var.aliases, { bad = { operation = "chat", targets = ["other/chat"], weights = { "other/chat" = 2 } } })
  }
  expect_failures = [var.aliases]
}

run "refuses_weights_that_choose_nobody" {
  command = plan
  variables {
    aliases = merge(var.aliases, { bad = { operation = "chat", strategy = "weighted", targets = ["other/chat"], weights = { "other/chat" = 0 } } })
  }
  expect_failures = [var.aliases]
}

run "refuses_regions_without_a_target" {
  command = plan
  variables {
    aliases = merge(var.aliases, { bad = { operation = "chat", targets = ["other/chat"], regions = ["ap-south-1"] } })
  }
  expect_failures = [var.aliases]
}

run "refuses_answers_that_are_kept_for_longer_than_a_day" {
  command = plan
  variables {
    aliases = merge(var.aliases, { bad = { operation = "chat", targets = ["other/chat"], cache_ttl_seconds = 86401 } })
  }
  expect_failures = [var.aliases]
}

run "refuses_an_unknown_strategy" {
  command = plan
  variables {
    aliases = merge(var.aliases, { bad = { operation = "chat", strategy = "random", targets = ["other/chat"] } })
  }
  expect_failures = [var.aliases]
}

run "refuses_an_environment_without_scores" {
  command = plan
  variables {
    aliases = { for name, alias in var.aliases : name => alias if name != "score" }
  }
  expect_failures = [var.aliases]
}

run "refuses_labels_that_differ_in_case_only" {
  command = plan
  variables {
    intent_sets = { bad = { Yes = "", yes = "" } }
  }
  expect_failures = [var.intent_sets]
}
