data "aws_region" "this" {}

locals {
  region = data.aws_region.this.name
  width  = 12
  height = 6

  # Each entry is a row of two charts; a metric is [namespace, metric, dimension, value, …, options].
  charts = concat(
    [
      {
        title = "API: requests and errors"
        stat  = "Sum"
        metrics = [
          for metric in ["Count", "4XXError", "5XXError"] :
          ["AWS/ApiGateway", metric, "ApiName", var.api_name, "Stage", var.api_stage]
        ]
      },
      {
        title = "API: latency (ms)"
        stat  = "p95"
        metrics = [
          for stat in ["p50", "p95", "p99"] :
          ["AWS/ApiGateway", "Latency", "ApiName", var.api_name, "Stage", var.api_stage, { stat = stat, label = stat }]
        ]
      },
      {
        title   = "Functions: errors"
        stat    = "Sum"
        metrics = [for name in var.function_names : ["AWS/Lambda", "Errors", "FunctionName", name]]
      },
      {
        title   = "Functions: throttles"
        stat    = "Sum"
        metrics = [for name in var.function_names : ["AWS/Lambda", "Throttles", "FunctionName", name]]
      },
      {
        title   = "Functions: p95 duration (ms)"
        stat    = "p95"
        metrics = [for name in var.function_names : ["AWS/Lambda", "Duration", "FunctionName", name]]
      },
      {
        title   = "Functions: concurrent executions"
        stat    = "Maximum"
        metrics = [for name in var.function_names : ["AWS/Lambda", "ConcurrentExecutions", "FunctionName", name]]
      },
      {
        title   = "Queues: waiting messages"
        stat    = "Maximum"
        metrics = [for name in var.queue_names : ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", name]]
      },
      {
        title   = "Queues: age of the oldest message (s)"
        stat    = "Maximum"
        metrics = [for name in var.queue_names : ["AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", name]]
      },
      {
        title = "Workflows: executions"
        stat  = "Sum"
        metrics = [
          for pair in setproduct(var.state_machine_arns, ["ExecutionsStarted", "ExecutionsSucceeded", "ExecutionsFailed", "ExecutionsTimedOut"]) :
          ["AWS/States", pair[1], "StateMachineArn", pair[0]]
        ]
      },
      {
        title = "Table: consumed capacity and throttles"
        stat  = "Sum"
        metrics = [
          for metric in ["ConsumedReadCapacityUnits", "ConsumedWriteCapacityUnits", "ReadThrottleEvents", "WriteThrottleEvents"] :
          ["AWS/DynamoDB", metric, "TableName", var.table_name]
        ]
      },
    ],
    [
      for metric in var.application_metrics : {
        title = metric.title
        stat  = metric.stat
        # A search finds every combination of dimensions, so that a new model needs no new dashboard.
        metrics = [[{
          expression = "SEARCH('{${join(",", concat([var.application_namespace], metric.dimensions))}} MetricName=\"${metric.name}\"', '${metric.stat}', 60)"
          label      = ""
        }]]
      }
    ],
  )
}

resource "aws_cloudwatch_dashboard" "this" {
  dashboard_name = var.name

  dashboard_body = jsonencode({
    widgets = [
      for index, chart in local.charts : {
        type   = "metric"
        x      = (index % 2) * local.width
        y      = floor(index / 2) * local.height
        width  = local.width
        height = local.height
        properties = {
          title   = chart.title
          view    = "timeSeries"
          region  = local.region
          stat    = chart.stat
          period  = 60
          metrics = chart.metrics
        }
      }
    ]
  })
}
