output "arn" {
  description = "ARN of the key."
  value       = aws_kms_key.this.arn
}

output "alias" {
  description = "Name of the alias, with the leading alias/."
  value       = aws_kms_alias.this.name
}

output "statements" {
  description = "Statements of the key policy: sid, actions and principals."
  value = [for s in data.aws_iam_policy_document.this.statement : {
    sid        = s.sid
    actions    = s.actions
    principals = flatten([for p in s.principals : p.identifiers])
    conditions = [for c in s.condition : c.variable]
  }]
}
