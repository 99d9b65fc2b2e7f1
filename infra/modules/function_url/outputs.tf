output "url" {
  description = "The URL, without a slash at its end."
  value       = trimsuffix(aws_lambda_function_url.this.function_url, "/")
}

output "alarm_names" {
  description = "Names of the URL's alarms."
  value       = aws_cloudwatch_metric_alarm.server_errors[*].alarm_name
}
