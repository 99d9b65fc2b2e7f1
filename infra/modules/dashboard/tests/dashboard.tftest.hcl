# Proves: that the charts show everything they are given, and lie beside each other.

mock_provider "aws" {
  source = "../../tests/mocks"
}

variables {
  name                  = "sluice-test"
  api_name              = "sluice-test"
  api_stage             = "api"
  function_names        = ["sluice-test-health", "sluice-test-models"]
  queue_names           = ["sluice-test-async", "sluice-test-async-dlq"]
  state_machine_arns    = ["arn:aws:states:us-east-1:123456789012:stateMachine:sluice-test-chain"]
  table_name            = "sluice-test"
  application_namespace = "Sluice/test"
  application_metrics = [
    { title = "Cost", name = "CostMicroUsd", stat = "Sum", dimensions = ["Operation", "Target"] },
  ]
}

run "shows_everything" {
  command = plan

  assert {
    condition = alltrue([
      for name in concat(var.function_names, var.queue_names, var.state_machine_arns) : strcontains(aws_cloudwatch_dashboard.this.dashboard_body, "\"${name}\"")
    ])
    error_message = "Every function, queue and state machine must be on the dashboard."
  }

  assert {
    condition     = contains(output.titles, "Cost") && strcontains(aws_cloudwatch_dashboard.this.dashboard_body, "{Sluice/test,Operation,Target} MetricName=")
    error_message = "The application's own metrics must be searched for with their dimensions."
  }
}

run "lays_the_charts_out_two_in_a_row" {
  command = plan

  assert {
    condition     = length(distinct([for widget in jsondecode(aws_cloudwatch_dashboard.this.dashboard_body).widgets : "${widget.x}/${widget.y}"])) == length(output.titles)
    error_message = "No chart may lie on another."
  }

  assert {
    condition     = toset([for widget in jsondecode(aws_cloudwatch_dashboard.this.dashboard_body).widgets : widget.x]) == toset([0, 12])
    error_message = "There must be two charts in a row."
  }
}

run "refuses_bad_values" {
  command = plan

  variables {
    name                  = "a name"
    function_names        = []
    application_namespace = "AWS/Lambda"
  }

  expect_failures = [var.name, var.function_names, var.application_namespace]
}
