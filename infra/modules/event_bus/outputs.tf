output "name" {
  description = "Name of the bus, known before the bus exists."
  value       = var.name
}

output "arn" {
  description = "ARN of the bus, built from its name: known before the bus exists."
  value       = local.arn
}

output "rule_arns" {
  description = "Rule => its ARN, built from its name: what is sent to may know it before the rule exists."
  value       = { for rule in keys(var.rules) : rule => "${replace(local.arn, ":event-bus/", ":rule/")}/${var.name}-${rule}" }
}

output "kms_key_arn" {
  description = "KMS key as set on the bus."
  value       = aws_cloudwatch_event_bus.this.kms_key_identifier
}
