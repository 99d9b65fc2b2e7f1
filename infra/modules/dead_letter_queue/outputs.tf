output "name" {
  description = "Name of the queue."
  value       = var.name
}

output "arn" {
  description = "ARN of the queue, built from its name: known before the queue exists."
  value       = local.arn
}

output "url" {
  description = "URL of the queue, once it exists."
  value       = aws_sqs_queue.this.url
}

output "kms_key_arn" {
  description = "KMS key as set on the queue."
  value       = aws_sqs_queue.this.kms_master_key_id
}

output "alarm_names" {
  description = "Names of the queue's alarms."
  value       = aws_cloudwatch_metric_alarm.depth[*].alarm_name
}
