# Proves: the resource tree that follows from the route table, who may call what, and the shape of the gateway's own answers.

mock_provider "aws" {
  source = "../../tests/mocks"
}

variables {
  name        = "sluice-test"
  description = "An API for tests."
  kms_key_arn = "arn:aws:kms:us-east-1:123456789012:key/test"

  functions = {
    authorizer = "arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/arn:aws:lambda:us-east-1:123456789012:function:authorizer:live/invocations"
    models     = "arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/arn:aws:lambda:us-east-1:123456789012:function:models:live/invocations"
  }
  function_aliases = {
    authorizer = { name = "live", function_name = "authorizer" }
    models     = { name = "live", function_name = "models" }
  }
  authorizer_function = "authorizer"

  models = { KeyRequest = jsonencode({ type = "object" }) }
  routes = {
    list_models    = { method = "GET", path = "/v1/models", function = "models" }
    retrieve_model = { method = "GET", path = "/v1/models/{model+}", function = "models" }
    health         = { method = "GET", path = "/v1/health", function = "models", authorization = "NONE" }
    create_key     = { method = "POST", path = "/v1/admin/keys", function = "models", authorization = "AWS_IAM", model = "KeyRequest", validate_body = true }
    rotate_key     = { method = "POST", path = "/v1/admin/keys/{id}/rotate", function = "models", authorization = "AWS_IAM", model = "KeyRequest" }
  }
}

run "builds_the_tree_from_the_paths" {
  command = apply

  assert {
    condition = toset(keys(local.resource_ids)) == toset([
      "v1", "v1/models", "v1/models/{model+}", "v1/health", "v1/admin", "v1/admin/keys", "v1/admin/keys/{id}", "v1/admin/keys/{id}/rotate",
    ])
    error_message = "Every beginning of every path must be a resource, once."
  }

  assert {
    condition     = aws_api_gateway_resource.depth_3["v1/admin/keys"].parent_id == aws_api_gateway_resource.depth_2["v1/admin"].id && aws_api_gateway_resource.depth_3["v1/models/{model+}"].path_part == "{model+}"
    error_message = "A resource must hang below its parent, by the last part of its path."
  }
}

run "authorises_as_the_table_says" {
  command = apply

  assert {
    condition = { for key, route in output.routes : key => route.authorization } == {
      list_models = "CUSTOM", retrieve_model = "CUSTOM", health = "NONE", create_key = "AWS_IAM", rotate_key = "AWS_IAM"
    }
    error_message = "A route must want a key unless it says otherwise."
  }

  assert {
    condition     = aws_api_gateway_method.this["list_models"].authorizer_id == aws_api_gateway_authorizer.this.id && aws_api_gateway_method.this["create_key"].authorizer_id == null
    error_message = "Only routes that want a key may use the authorizer."
  }

  assert {
    condition     = aws_api_gateway_authorizer.this.type == "REQUEST" && aws_api_gateway_authorizer.this.identity_source == "" && aws_api_gateway_authorizer.this.authorizer_result_ttl_in_seconds == 0
    error_message = "A key may come in either of two headers, so the gateway must neither ask for one of them nor cache by it."
  }
}

run "lets_the_gateway_invoke_for_exact_routes" {
  command = apply

  assert {
    condition     = aws_lambda_permission.route["rotate_key"].source_arn == "arn:aws:execute-api:us-east-1:123456789012:mockapi/api/POST/v1/admin/keys/*/rotate" && aws_lambda_permission.route["retrieve_model"].source_arn == "arn:aws:execute-api:us-east-1:123456789012:mockapi/api/GET/v1/models/*"
    error_message = "A permission must name the method and the path, with * for a parameter only."
  }

  assert {
    condition     = alltrue([for permission in aws_lambda_permission.route : permission.qualifier == "live"])
    error_message = "The gateway may invoke the alias only."
  }
}

run "validates_where_told" {
  command = apply

  assert {
    condition     = aws_api_gateway_method.this["create_key"].request_validator_id == aws_api_gateway_request_validator.this["parameters-and-body"].id && aws_api_gateway_method.this["rotate_key"].request_validator_id == aws_api_gateway_request_validator.this["parameters"].id
    error_message = "The body must be validated only where the route says so."
  }

  assert {
    condition     = aws_api_gateway_method.this["rotate_key"].request_models == tomap({ "application/json" = "KeyRequest" }) && aws_api_gateway_method.this["rotate_key"].request_parameters == tomap({ "method.request.path.id" = true })
    error_message = "The model and the path's parameters must be documented on every route."
  }
}

run "answers_like_openai" {
  command = apply

  assert {
    condition = alltrue([
      for response in aws_api_gateway_gateway_response.this :
      keys(jsondecode(response.response_templates["application/json"]).error) == ["code", "message", "param", "type"] && response.response_parameters["gatewayresponse.header.x-request-id"] == "context.requestId"
    ])
    error_message = "Every answer of the gateway's own must have OpenAI's error shape and a request id."
  }

  assert {
    condition = alltrue([
      for type, status in {
        UNAUTHORIZED                 = "401"
        ACCESS_DENIED                = "401"
        INVALID_SIGNATURE            = "403"
        MISSING_AUTHENTICATION_TOKEN = "404"
        REQUEST_TOO_LARGE            = "413"
        UNSUPPORTED_MEDIA_TYPE       = "415"
        THROTTLED                    = "429"
      } : aws_api_gateway_gateway_response.this[type].status_code == status
    ])
    error_message = "The statuses must be OpenAI's."
  }

  assert {
    condition     = alltrue([for type in ["UNAUTHORIZED", "ACCESS_DENIED"] : jsondecode(aws_api_gateway_gateway_response.this[type].response_templates["application/json"]).error.code == "invalid_api_key"]) && aws_api_gateway_gateway_response.this["THROTTLED"].response_parameters["gatewayresponse.header.retry-after"] == "'1'"
    error_message = "The codes must be OpenAI's, and a throttled caller must be told when to come back."
  }
}

run "throttles_traces_and_logs_the_stage" {
  command = apply

  assert {
    condition     = one(aws_api_gateway_method_settings.all.settings).throttling_rate_limit == 1000 && !one(aws_api_gateway_method_settings.all.settings).data_trace_enabled
    error_message = "The stage must be throttled, and must not log bodies."
  }

  assert {
    condition     = aws_api_gateway_stage.this.xray_tracing_enabled && aws_cloudwatch_log_group.access.kms_key_id == var.kms_key_arn && aws_cloudwatch_log_group.execution.kms_key_id == var.kms_key_arn
    error_message = "The stage must be traced, and its logs encrypted."
  }

  assert {
    condition     = jsondecode(one(aws_api_gateway_stage.this.access_log_settings).format).key_id == "$context.authorizer.key_id"
    error_message = "The access log must be JSON and say whose key it was."
  }

  assert {
    condition     = length(aws_wafv2_web_acl_association.this) == 0 && toset(output.alarm_names) == toset(["sluice-test-api-5xx", "sluice-test-api-p95-latency"])
    error_message = "There must be alarms, and no firewall unless one is passed in."
  }
}

run "takes_a_firewall" {
  command = apply

  variables {
    web_acl        = { arn = "arn:aws:wafv2:us-east-1:123456789012:regional/webacl/test/1" }
    manage_account = false
    alarms         = null
  }

  assert {
    condition     = one(aws_wafv2_web_acl_association.this).web_acl_arn == var.web_acl.arn && length(aws_api_gateway_account.this) == 0 && length(output.alarm_names) == 0
    error_message = "Firewall, account setting and alarms must follow the variables."
  }
}

run "refuses_bad_routes" {
  command = plan

  variables {
    routes = {
      Bad    = { method = "GET", path = "/v1/a", function = "models" }
      head   = { method = "HEAD", path = "/v1/b", function = "models" }
      greedy = { method = "GET", path = "/v1/{rest+}/more", function = "models" }
      twice  = { method = "HEAD", path = "/v1/b", function = "missing", authorization = "OPEN", model = "Missing", timeout_ms = 30000 }
    }
  }

  expect_failures = [var.routes]
}

run "refuses_a_body_check_without_a_model" {
  command = plan

  variables {
    routes = { create = { method = "POST", path = "/v1/a", function = "models", validate_body = true } }
  }

  expect_failures = [var.routes]
}

run "refuses_paths_that_are_too_deep" {
  command = plan

  variables {
    routes = { deep = { method = "GET", path = "/1/2/3/4/5/6/7", function = "models" } }
  }

  expect_failures = [var.routes]
}

run "refuses_other_bad_values" {
  command = plan

  variables {
    name                = "a name"
    stage_name          = ""
    authorizer_function = "nobody"
    models              = { KeyRequest = "{" }
    throttling          = { requests_per_second = 0, burst = 0 }
    alarms              = { server_error_percent = 101 }
  }

  expect_failures = [var.name, var.stage_name, var.authorizer_function, var.models, var.throttling, var.alarms]
}

run "takes_bytes_of_the_types_that_are_named" {
  command = plan

  variables {
    binary_media_types = ["multipart/form-data"]
  }

  assert {
    condition     = aws_api_gateway_rest_api.this.binary_media_types == tolist(["multipart/form-data"])
    error_message = "A body of bytes must reach its function unharmed."
  }
}

run "refuses_to_take_everything_for_bytes" {
  command = plan

  variables {
    binary_media_types = ["*/*"]
  }

  expect_failures = [var.binary_media_types]
}
