data "aws_partition" "this" {}
data "aws_region" "this" {}
data "aws_caller_identity" "this" {}

locals {
  account_id = data.aws_caller_identity.this.account_id
  partition  = data.aws_partition.this.partition
  region     = data.aws_region.this.name

  # "GET /v1/async/{id}" => ["v1", "async", "{id}"]
  segments = { for key, route in var.routes : key => split("/", trimprefix(route.path, "/")) }

  # Per depth, every path that is the beginning of a route: depth 2 => ["v1/async", "v1/chat", …]
  paths_at = {
    for depth in range(1, 7) : depth => toset([
      for segments in values(local.segments) : join("/", slice(segments, 0, depth)) if length(segments) >= depth
    ])
  }

  resource_ids = merge(
    { for path, resource in aws_api_gateway_resource.depth_1 : path => resource.id },
    { for path, resource in aws_api_gateway_resource.depth_2 : path => resource.id },
    { for path, resource in aws_api_gateway_resource.depth_3 : path => resource.id },
    { for path, resource in aws_api_gateway_resource.depth_4 : path => resource.id },
    { for path, resource in aws_api_gateway_resource.depth_5 : path => resource.id },
    { for path, resource in aws_api_gateway_resource.depth_6 : path => resource.id },
  )

  path_parameters = {
    for key, segments in local.segments : key => [
      for segment in segments : trimsuffix(trim(segment, "{}"), "+") if startswith(segment, "{")
    ]
  }

  # A method's ARN has `*` where the path has a parameter.
  method_arn_paths = {
    for key, route in var.routes : key => "${route.method}${replace(route.path, "/\\{[^}]+\\}/", "*")}"
  }

  execution_log_group = "API-Gateway-Execution-Logs_${aws_api_gateway_rest_api.this.id}/${var.stage_name}"

  alarms = var.alarms == null ? {} : {
    "5xx" = {
      description = "${var.name}: more than ${var.alarms.server_error_percent} % of the requests are answered with a 5xx status."
      metric      = "5XXError"
      statistic   = "Average"
      threshold   = var.alarms.server_error_percent / 100
    }
    p95-latency = {
      description = "${var.name}: one request in twenty takes longer than ${var.alarms.p95_latency_ms} ms."
      metric      = "Latency"
      percentile  = "p95"
      threshold   = var.alarms.p95_latency_ms
    }
  }
}

resource "aws_api_gateway_rest_api" "this" {
  name                         = var.name
  description                  = var.description
  disable_execute_api_endpoint = var.disable_default_endpoint
  binary_media_types           = var.binary_media_types

  endpoint_configuration {
    types = ["REGIONAL"]
  }

  lifecycle {
    create_before_destroy = true
  }
}

# ---- Resources: one block for each depth, since a resource cannot refer to its own kind ----

resource "aws_api_gateway_resource" "depth_1" {
  for_each = local.paths_at[1]

  rest_api_id = aws_api_gateway_rest_api.this.id
  parent_id   = aws_api_gateway_rest_api.this.root_resource_id
  path_part   = basename(each.key)
}

resource "aws_api_gateway_resource" "depth_2" {
  for_each = local.paths_at[2]

  rest_api_id = aws_api_gateway_rest_api.this.id
  parent_id   = aws_api_gateway_resource.depth_1[dirname(each.key)].id
  path_part   = basename(each.key)
}

resource "aws_api_gateway_resource" "depth_3" {
  for_each = local.paths_at[3]

  rest_api_id = aws_api_gateway_rest_api.this.id
  parent_id   = aws_api_gateway_resource.depth_2[dirname(each.key)].id
  path_part   = basename(each.key)
}

resource "aws_api_gateway_resource" "depth_4" {
  for_each = local.paths_at[4]

  rest_api_id = aws_api_gateway_rest_api.this.id
  parent_id   = aws_api_gateway_resource.depth_3[dirname(each.key)].id
  path_part   = basename(each.key)
}

resource "aws_api_gateway_resource" "depth_5" {
  for_each = local.paths_at[5]

  rest_api_id = aws_api_gateway_rest_api.this.id
  parent_id   = aws_api_gateway_resource.depth_4[dirname(each.key)].id
  path_part   = basename(each.key)
}

resource "aws_api_gateway_resource" "depth_6" {
  for_each = local.paths_at[6]

  rest_api_id = aws_api_gateway_rest_api.this.id
  parent_id   = aws_api_gateway_resource.depth_5[dirname(each.key)].id
  path_part   = basename(each.key)
}

# ---- What a request must look like, and who may send it ----

resource "aws_api_gateway_model" "this" {
  for_each = var.models

  rest_api_id  = aws_api_gateway_rest_api.this.id
  name         = each.key
  description  = "Generated from the structs that the functions parse with."
  content_type = "application/json"
  schema       = each.value
}

resource "aws_api_gateway_request_validator" "this" {
  for_each = {
    parameters          = false
    parameters-and-body = true
  }

  rest_api_id                 = aws_api_gateway_rest_api.this.id
  name                        = each.key
  validate_request_parameters = true
  validate_request_body       = each.value
}

resource "aws_api_gateway_authorizer" "this" {
  rest_api_id     = aws_api_gateway_rest_api.this.id
  name            = "api-key"
  type            = "REQUEST"
  authorizer_uri  = var.functions[var.authorizer_function]
  identity_source = ""

  # API Gateway's cache asks for ALL identity sources, but a key comes in one of two headers.
  # So there is no identity source and no cache here; the function keeps its own.
  authorizer_result_ttl_in_seconds = 0
}

# ---- Methods ----

resource "aws_api_gateway_method" "this" {
  #checkov:skip=CKV_AWS_59:Authorization comes from the route table; only routes that state NONE are open.
  #checkov:skip=CKV2_AWS_70:Authorization comes from the route table; only routes that state NONE are open.
  for_each = var.routes

  rest_api_id    = aws_api_gateway_rest_api.this.id
  resource_id    = local.resource_ids[trimprefix(each.value.path, "/")]
  http_method    = each.value.method
  operation_name = each.key
  authorization  = each.value.authorization
  authorizer_id  = each.value.authorization == "CUSTOM" ? aws_api_gateway_authorizer.this.id : null

  request_models       = each.value.model == null ? {} : { "application/json" = aws_api_gateway_model.this[each.value.model].name }
  request_parameters   = { for name in local.path_parameters[each.key] : "method.request.path.${name}" => true }
  request_validator_id = aws_api_gateway_request_validator.this[each.value.validate_body ? "parameters-and-body" : "parameters"].id
}

resource "aws_api_gateway_integration" "this" {
  for_each = var.routes

  rest_api_id             = aws_api_gateway_rest_api.this.id
  resource_id             = aws_api_gateway_method.this[each.key].resource_id
  http_method             = aws_api_gateway_method.this[each.key].http_method
  type                    = "AWS_PROXY"
  integration_http_method = "POST"
  uri                     = var.functions[each.value.function]
  timeout_milliseconds    = each.value.timeout_ms
}

resource "aws_lambda_permission" "route" {
  for_each = var.routes

  statement_id  = "route-${each.key}"
  action        = "lambda:InvokeFunction"
  principal     = "apigateway.amazonaws.com"
  function_name = var.function_aliases[each.value.function].function_name
  qualifier     = var.function_aliases[each.value.function].name
  source_arn    = "${aws_api_gateway_rest_api.this.execution_arn}/${var.stage_name}/${local.method_arn_paths[each.key]}"
}

resource "aws_lambda_permission" "authorizer" {
  statement_id  = "authorizer"
  action        = "lambda:InvokeFunction"
  principal     = "apigateway.amazonaws.com"
  function_name = var.function_aliases[var.authorizer_function].function_name
  qualifier     = var.function_aliases[var.authorizer_function].name
  source_arn    = "${aws_api_gateway_rest_api.this.execution_arn}/authorizers/${aws_api_gateway_authorizer.this.id}"
}

# ---- Deployment and stage ----

resource "aws_api_gateway_deployment" "this" {
  rest_api_id = aws_api_gateway_rest_api.this.id
  description = "Made when the content below changes."

  triggers = {
    content = sha256(jsonencode([
      var.routes,
      var.models,
      var.functions,
      var.authorizer_function,
      var.binary_media_types,
      local.gateway_responses,
      local.resource_ids,
      aws_api_gateway_authorizer.this.id,
    ]))
  }

  # A deployment is a snapshot: all that it shows must exist, and its functions must let the
  # gateway in, before it is taken.
  depends_on = [
    aws_api_gateway_integration.this,
    aws_api_gateway_gateway_response.this,
    aws_lambda_permission.route,
    aws_lambda_permission.authorizer,
  ]

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_cloudwatch_log_group" "access" {
  #checkov:skip=CKV_AWS_338:Retention is a decision of each environment; prod keeps a year.
  name              = "/aws/apigateway/${var.name}/access"
  kms_key_id        = var.kms_key_arn
  retention_in_days = var.log_retention_days
}

# API Gateway would create this group itself, without a key and without an end.
resource "aws_cloudwatch_log_group" "execution" {
  #checkov:skip=CKV_AWS_338:Retention is a decision of each environment; prod keeps a year.
  name              = local.execution_log_group
  kms_key_id        = var.kms_key_arn
  retention_in_days = var.log_retention_days
}

resource "aws_api_gateway_stage" "this" {
  #checkov:skip=CKV_AWS_120:Answers depend on the caller and on the models; a gateway cache would mix them up.
  #checkov:skip=CKV2_AWS_29:WAF is optional by variable (edge.tf), since it costs money while nobody calls.
  #checkov:skip=CKV2_AWS_51:Callers are authenticated by key or by IAM signature; the backends are Lambda, not HTTP servers.
  #checkov:skip=CKV2_AWS_77:The Log4j rules are part of the web ACL, which is optional by variable (edge.tf).
  rest_api_id          = aws_api_gateway_rest_api.this.id
  deployment_id        = aws_api_gateway_deployment.this.id
  stage_name           = var.stage_name
  xray_tracing_enabled = true

  access_log_settings {
    destination_arn = aws_cloudwatch_log_group.access.arn
    format = jsonencode({
      request_id        = "$context.requestId"
      trace_id          = "$context.xrayTraceId"
      time              = "$context.requestTimeEpoch"
      ip                = "$context.identity.sourceIp"
      user_agent        = "$context.identity.userAgent"
      method            = "$context.httpMethod"
      route             = "$context.resourcePath"
      operation         = "$context.operationName"
      status            = "$context.status"
      response_bytes    = "$context.responseLength"
      latency_ms        = "$context.responseLatency"
      integration_ms    = "$context.integrationLatency"
      integration_error = "$context.integrationErrorMessage"
      authorizer_ms     = "$context.authorizer.integrationLatency"
      key_id            = "$context.authorizer.key_id"
      caller_arn        = "$context.identity.userArn"
      error_type        = "$context.error.responseType"
    })
  }

  depends_on = [
    aws_cloudwatch_log_group.execution,
    # A stage that writes logs is refused while the account has no role for it.
    aws_api_gateway_account.this,
  ]
}

resource "aws_api_gateway_method_settings" "all" {
  #checkov:skip=CKV_AWS_225:Answers depend on the caller and on the models; a gateway cache would mix them up.
  rest_api_id = aws_api_gateway_rest_api.this.id
  stage_name  = aws_api_gateway_stage.this.stage_name
  method_path = "*/*"

  settings {
    metrics_enabled = true
    logging_level   = "ERROR"
    # Bodies are prompts and answers: they never enter a log.
    data_trace_enabled     = false
    caching_enabled        = false
    throttling_rate_limit  = var.throttling.requests_per_second
    throttling_burst_limit = var.throttling.burst
  }
}

resource "aws_wafv2_web_acl_association" "this" {
  count = var.web_acl == null ? 0 : 1

  resource_arn = aws_api_gateway_stage.this.arn
  web_acl_arn  = var.web_acl.arn
}

# ---- Alarms ----

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.alarms

  alarm_name          = "${var.name}-api-${each.key}"
  alarm_description   = each.value.description
  namespace           = "AWS/ApiGateway"
  metric_name         = each.value.metric
  statistic           = try(each.value.statistic, null)
  extended_statistic  = try(each.value.percentile, null)
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.threshold
  period              = 60
  evaluation_periods  = 5
  datapoints_to_alarm = 3
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarms.actions
  ok_actions          = var.alarms.actions

  dimensions = {
    ApiName = var.name
    Stage   = var.stage_name
  }
}
