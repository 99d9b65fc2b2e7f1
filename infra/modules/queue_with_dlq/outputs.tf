output "name" {
  description = "Name of the queue."
  value       = var.name
}

output "arn" {
  description = "ARN of the queue, built from its name: known before the queue exists."
  value       = local.arn
}

output "source_arn" {
  description = "ARN of the queue once it exists and redrives to its DLQ; for an event source mapping, which must come after that."
  value       = aws_sqs_queue.this.arn

  depends_on = [aws_sqs_queue_redrive_policy.this]
}

output "url" {
  description = "URL of the queue, once it exists."
  value       = aws_sqs_queue.this.url
}

output "visibility_timeout_seconds" {
  description = "Seconds for which a received message is hidden: six times the consumer's timeout."
  value       = local.visibility_timeout_seconds
}

output "redrive_policy" {
  description = "Redrive policy as set on the queue (JSON)."
  value       = aws_sqs_queue_redrive_policy.this.redrive_policy
}

output "kms_key_arn" {
  description = "KMS key as set on the queue."
  value       = aws_sqs_queue.this.kms_master_key_id
}

output "max_receive_count" {
  description = "Deliveries after which a message goes to the DLQ."
  value       = var.max_receive_count
}

output "dlq" {
  description = "The dead-letter queue: name, ARN, URL and key."
  value = {
    name        = module.dlq.name
    arn         = module.dlq.arn
    url         = module.dlq.url
    kms_key_arn = module.dlq.kms_key_arn
  }
}

output "alarm_names" {
  description = "Names of the queue's alarms."
  value       = module.dlq.alarm_names
}
