# Proves: the URL streams and belongs to the alias, what everybody may do with the function, and the alarm.

mock_provider "aws" {
  source = "../../tests/mocks"
}

variables {
  name = "sluice-test-chat-stream"

  alias = {
    name          = "live"
    arn           = "arn:aws:lambda:us-east-1:123456789012:function:sluice-test-chat-stream:live"
    function_name = "sluice-test-chat-stream"
  }
}

run "streams_from_the_alias" {
  command = apply

  assert {
    condition     = aws_lambda_function_url.this.invoke_mode == "RESPONSE_STREAM" && aws_lambda_function_url.this.qualifier == "live" && aws_lambda_function_url.this.function_name == "sluice-test-chat-stream"
    error_message = "The URL must stream, and lead to the alias."
  }

  assert {
    condition     = aws_lambda_function_url.this.authorization_type == "NONE" && length(aws_lambda_function_url.this.cors) == 0
    error_message = "The function checks keys itself; browsers of other origins are not let in."
  }

  assert {
    condition     = output.url == "https://mockurl.lambda-url.us-east-1.on.aws"
    error_message = "A path is put behind the URL, so it must not end in a slash."
  }
}

run "lets_everybody_in_through_the_url_only" {
  command = apply

  assert {
    condition = jsondecode(aws_cloudformation_stack.permission.template_body).Resources == jsondecode(jsonencode({
      InvokeThroughUrl = {
        Type = "AWS::Lambda::Permission"
        Properties = {
          FunctionName          = "arn:aws:lambda:us-east-1:123456789012:function:sluice-test-chat-stream:live"
          Action                = "lambda:InvokeFunction"
          Principal             = "*"
          InvokedViaFunctionUrl = true
        }
      }
    }))
    error_message = "Nobody may invoke the function with an event of his own making."
  }
}

run "has_an_alarm_when_asked" {
  command = apply

  variables {
    alarms = { actions = ["arn:aws:sns:us-east-1:123456789012:alarms"] }
  }

  assert {
    condition     = output.alarm_names == ["sluice-test-chat-stream-url-5xx"] && one(aws_cloudwatch_metric_alarm.server_errors).dimensions.FunctionName == "sluice-test-chat-stream" && one(aws_cloudwatch_metric_alarm.server_errors).threshold == 5
    error_message = "Server errors must be watched."
  }
}

run "has_none_by_default" {
  command = plan

  assert {
    condition     = length(output.alarm_names) == 0
    error_message = "An alarm must be asked for."
  }
}

run "refuses_bad_values" {
  command = plan

  variables {
    name        = "Sluice_Stream"
    invoke_mode = "STREAM"
    alarms      = { server_errors = -1 }
  }

  expect_failures = [var.name, var.invoke_mode, var.alarms]
}
