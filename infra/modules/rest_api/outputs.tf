output "id" {
  description = "Id of the API."
  value       = aws_api_gateway_rest_api.this.id
}

output "name" {
  description = "Name of the API."
  value       = var.name
}

output "stage_name" {
  description = "Name of the stage."
  value       = aws_api_gateway_stage.this.stage_name
}

output "stage_arn" {
  description = "ARN of the stage."
  value       = aws_api_gateway_stage.this.arn
}

output "url" {
  description = "Default URL of the stage, without a trailing slash."
  value       = aws_api_gateway_stage.this.invoke_url
}

output "routes" {
  description = "The route table as deployed: operation => method, path, function and authorization."
  value = {
    for key, route in var.routes : key => {
      request       = "${aws_api_gateway_method.this[key].http_method} ${route.path}"
      function      = route.function
      authorization = aws_api_gateway_method.this[key].authorization
      validates     = route.validate_body ? route.model : null
    }
  }
}

output "permitted_paths" {
  description = "Operation => the method and path that API Gateway may invoke its function for."
  value       = local.method_arn_paths
}

output "log_group_names" {
  description = "Names of the API's log groups."
  value       = [aws_cloudwatch_log_group.access.name, aws_cloudwatch_log_group.execution.name]
}

output "alarm_names" {
  description = "Names of the API's alarms."
  value       = [for alarm in values(aws_cloudwatch_metric_alarm.this) : alarm.alarm_name]
}
