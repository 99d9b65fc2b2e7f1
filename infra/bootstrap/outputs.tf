output "state_bucket" {
  description = "Bucket for the main root's state: -backend-config=bucket=<this>."
  value       = module.state.name
}

output "plan_role_arn" {
  description = "Role for plans of pull requests."
  value       = aws_iam_role.this["plan"].arn
}

output "apply_role_arn" {
  description = "Role for applies of the environment's deploy job."
  value       = aws_iam_role.this["apply"].arn
}

output "permissions_boundary" {
  description = "Name of the boundary that every role of the main root must carry: its variable permissions_boundary."
  value       = aws_iam_policy.boundary.name
}
