# The edge: the API itself, and, each by variable, a firewall before it and a domain of one's own.

locals {
  api_stage = "api"

  request_models = [
    "AdminKeyRequest", "AdminKeyRotateRequest", "AdminKeyUpdateRequest", "ChainExecutionRequest", "ChatCompletionRequest",
    "ChatRequest", "ClassifyRequest", "CompletionRequest", "EmbeddingRequest", "QueueRedriveRequest", "ScoreRequest",
    "SummarizeRequest",
  ]
}

module "api" {
  source = "./modules/rest_api"

  name        = local.prefix
  description = "Sluice: AI inference in OpenAI's wire format."
  stage_name  = local.api_stage

  routes              = merge(local.sync_routes, local.batch_routes, local.file_routes, local.webhook_routes, local.workflow_routes, local.governance_routes)
  functions           = local.function_invoke_arns
  authorizer_function = "authorizer"
  models              = { for model in local.request_models : model => file("${path.root}/schemas/${model}.json") }

  function_aliases = {
    for function, module in local.functions_made : function => module.alias
  }

  binary_media_types       = local.binary_media_types
  throttling               = var.throttling
  web_acl                  = var.waf == null ? null : { arn = aws_wafv2_web_acl.this[0].arn }
  disable_default_endpoint = var.domain != null
  kms_key_arn              = module.key.arn
  log_retention_days       = var.log_retention_days
  alarms                   = var.alarms_enabled ? merge(local.alarms, { p95_latency_ms = var.api_p95_latency_alarm_ms }) : null

  manage_account           = var.manage_api_gateway_account
  permissions_boundary_arn = local.permissions_boundary_arn
}

# ---- Firewall ----

resource "aws_wafv2_web_acl" "this" {
  count = var.waf == null ? 0 : 1

  name        = local.prefix
  description = "Before the API of ${local.prefix}: rate limit per address and AWS's common rules."
  scope       = "REGIONAL"

  default_action {
    allow {}
  }

  rule {
    name     = "rate-limit"
    priority = 0

    action {
      block {}
    }

    statement {
      rate_based_statement {
        limit                 = var.waf.requests_per_5_minutes
        evaluation_window_sec = 300
        aggregate_key_type    = "IP"
      }
    }

    visibility_config {
      cloudwatch_metrics_enabled = true
      metric_name                = "${local.prefix}-rate-limit"
      sampled_requests_enabled   = false
    }
  }

  rule {
    name     = "common"
    priority = 1

    override_action {
      none {}
    }

    statement {
      managed_rule_group_statement {
        vendor_name = "AWS"
        name        = "AWSManagedRulesCommonRuleSet"

        # Prompts are longer than 8 KB and may speak of scripts and paths; bodies are JSON that
        # is parsed strictly. So these rules count what they see, and block nothing.
        dynamic "rule_action_override" {
          for_each = ["SizeRestrictions_BODY", "CrossSiteScripting_BODY", "GenericLFI_BODY", "GenericRFI_BODY", "EC2MetaDataSSRF_BODY"]

          content {
            name = rule_action_override.value

            action_to_use {
              count {}
            }
          }
        }
      }
    }

    visibility_config {
      cloudwatch_metrics_enabled = true
      metric_name                = "${local.prefix}-common"
      sampled_requests_enabled   = false
    }
  }

  # Holds the rules against Log4j's remote lookups.
  rule {
    name     = "known-bad-inputs"
    priority = 2

    override_action {
      none {}
    }

    statement {
      managed_rule_group_statement {
        vendor_name = "AWS"
        name        = "AWSManagedRulesKnownBadInputsRuleSet"

        # Likewise: a prompt may ask about ${jndi:…}. What comes in headers, paths and queries stays blocked.
        dynamic "rule_action_override" {
          for_each = ["Log4JRCE_BODY", "JavaDeserializationRCE_BODY", "ReactJSRCE_BODY"]

          content {
            name = rule_action_override.value

            action_to_use {
              count {}
            }
          }
        }
      }
    }

    visibility_config {
      cloudwatch_metrics_enabled = true
      metric_name                = "${local.prefix}-known-bad-inputs"
      sampled_requests_enabled   = false
    }
  }

  visibility_config {
    cloudwatch_metrics_enabled = true
    metric_name                = local.prefix
    # A sample would show headers, and so API keys, to whoever may open the console.
    sampled_requests_enabled = false
  }
}

resource "aws_cloudwatch_log_group" "waf" {
  #checkov:skip=CKV_AWS_338:Retention is a decision of each environment; prod keeps a year.
  count = var.waf == null ? 0 : 1

  # WAF writes only to groups whose name starts like this.
  name              = "aws-waf-logs-${local.prefix}"
  kms_key_id        = module.key.arn
  retention_in_days = var.log_retention_days
}

resource "aws_wafv2_web_acl_logging_configuration" "this" {
  count = var.waf == null ? 0 : 1

  resource_arn            = aws_wafv2_web_acl.this[0].arn
  log_destination_configs = [aws_cloudwatch_log_group.waf[0].arn]

  # API keys travel in these.
  dynamic "redacted_fields" {
    for_each = ["authorization", "x-api-key"]

    content {
      single_header {
        name = redacted_fields.value
      }
    }
  }
}

# ---- Domain ----

resource "aws_api_gateway_domain_name" "this" {
  count = var.domain == null ? 0 : 1

  domain_name              = var.domain.name
  regional_certificate_arn = var.domain.certificate_arn
  security_policy          = "TLS_1_2"

  endpoint_configuration {
    types = ["REGIONAL"]
  }
}

resource "aws_api_gateway_base_path_mapping" "this" {
  count = var.domain == null ? 0 : 1

  api_id      = module.api.id
  stage_name  = module.api.stage_name
  domain_name = aws_api_gateway_domain_name.this[0].domain_name
}

resource "aws_route53_record" "this" {
  count = try(var.domain.zone_id, null) == null ? 0 : 1

  zone_id = var.domain.zone_id
  name    = var.domain.name
  type    = "A"

  alias {
    name                   = aws_api_gateway_domain_name.this[0].regional_domain_name
    zone_id                = aws_api_gateway_domain_name.this[0].regional_zone_id
    evaluate_target_health = false
  }
}
