output "name" {
  description = "Name of the table, known before the table exists."
  value       = var.name
}

output "arn" {
  description = "ARN of the table, built from its name: known before the table exists."
  value       = local.arn
}

output "index_arns" {
  description = "ARNs of the indexes by name, known before the table exists."
  value       = { for index in var.indexes : index => "${local.arn}/index/${index}" }
}

output "id" {
  description = "Name of the table, once it exists; for items, which must come after it."
  value       = aws_dynamodb_table.this.id
}

output "stream_arn" {
  description = "ARN of the table's stream, once it exists."
  value       = aws_dynamodb_table.this.stream_arn
}

output "kms_key_arn" {
  description = "KMS key as set on the table."
  value       = one(aws_dynamodb_table.this.server_side_encryption).kms_key_arn
}
