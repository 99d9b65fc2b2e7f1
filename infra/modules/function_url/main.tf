locals {
  # Who may reach the function through its URL, besides what the provider adds by itself when the URL is made
  # (lambda:InvokeFunctionUrl for everybody). Since October 2025 AWS wants both, and the provider's
  # aws_lambda_permission cannot say the condition lambda:InvokedViaFunctionUrl before its version 6.29. Without the
  # condition anybody with an AWS account could invoke the function with an event of his own making.
  # https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html#urls-auth-none
  permission = {
    Type = "AWS::Lambda::Permission"
    Properties = {
      FunctionName          = var.alias.arn
      Action                = "lambda:InvokeFunction"
      Principal             = "*"
      InvokedViaFunctionUrl = true
    }
  }
}

resource "aws_lambda_function_url" "this" {
  #checkov:skip=CKV_AWS_258:Callers have API keys, not AWS credentials; the function checks the key before anything else.
  function_name = var.alias.function_name
  qualifier     = var.alias.name
  # Callers have API keys, not AWS credentials: the function itself checks the key, as the authorizer does for the API.
  authorization_type = "NONE"
  invoke_mode        = var.invoke_mode
}

resource "aws_cloudformation_stack" "permission" {
  #checkov:skip=CKV_AWS_124:The stack is one permission; Terraform waits for it and reports what becomes of it.
  name = "${var.name}-url"

  template_body = jsonencode({
    AWSTemplateFormatVersion = "2010-09-09"
    Description              = "Lets ${var.name} be invoked through its URL."
    Resources                = { InvokeThroughUrl = local.permission }
  })

  depends_on = [aws_lambda_function_url.this]
}

resource "aws_cloudwatch_metric_alarm" "server_errors" {
  count = var.alarms == null ? 0 : 1

  alarm_name          = "${var.name}-url-5xx"
  alarm_description   = "${var.name}: more than ${var.alarms.server_errors} requests a minute to its URL are answered with a 5xx status."
  namespace           = "AWS/Lambda"
  metric_name         = "Url5xxCount"
  statistic           = "Sum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.alarms.server_errors
  period              = 60
  evaluation_periods  = 5
  datapoints_to_alarm = 3
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarms.actions
  ok_actions          = var.alarms.actions

  dimensions = {
    FunctionName = var.name
  }
}
