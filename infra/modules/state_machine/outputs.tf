output "name" {
  description = "Name of the state machine."
  value       = var.name
}

output "arn" {
  description = "ARN of the state machine, built from its name: known before it exists."
  value       = local.arn
}

output "role_name" {
  description = "Name of the state machine's role."
  value       = aws_iam_role.this.name
}

output "log_group_name" {
  description = "Name of the state machine's log group."
  value       = aws_cloudwatch_log_group.this.name
}

output "alarm_names" {
  description = "Names of the state machine's alarms."
  value       = aws_cloudwatch_metric_alarm.timed_out[*].alarm_name
}
