output "name" {
  description = "Name of the bucket, known before the bucket exists."
  value       = var.name
}

output "arn" {
  description = "ARN of the bucket, built from its name: known before the bucket exists."
  value       = local.arn
}

output "id" {
  description = "Name of the bucket, once it exists; for objects, which must come after it."
  value       = aws_s3_bucket.this.id
}

output "kms_key_arn" {
  description = "KMS key as set on the bucket."
  value       = one(one(aws_s3_bucket_server_side_encryption_configuration.this.rule).apply_server_side_encryption_by_default).kms_master_key_id
}

output "expiration_days" {
  description = "Prefix => days after which what lies below it is deleted."
  value = {
    for rule in aws_s3_bucket_lifecycle_configuration.this.rule : one(rule.filter).prefix => one(rule.expiration).days if length(rule.expiration) > 0
  }
}
