output "name" {
  description = "Name of the function, known before the function exists."
  value       = var.name
}

output "alias" {
  description = "The alias once it exists: name, ARN and the function it belongs to."
  value = {
    name          = aws_lambda_alias.this.name
    arn           = aws_lambda_alias.this.arn
    function_name = aws_lambda_alias.this.function_name
  }
}

output "environment" {
  description = "Environment variables as set on the function."
  value       = one(aws_lambda_function.this.environment).variables
}

output "snap_start" {
  description = "Whether versions start from a snapshot."
  value       = length(aws_lambda_function.this.snap_start) > 0
}

output "recursive_loop" {
  description = "What Lambda does about a chain of requests that keeps coming back."
  value       = coalesce(one(aws_lambda_function_recursion_config.this[*].recursive_loop), "Terminate")
}

output "memory_mb" {
  description = "Memory as set on the function, in MB."
  value       = aws_lambda_function.this.memory_size
}

output "kms_key_arn" {
  description = "KMS key as set on the function's environment and its log group."
  value       = one(distinct([aws_lambda_function.this.kms_key_arn, aws_cloudwatch_log_group.this.kms_key_id]))
}

output "role_name" {
  description = "Name of the function's role."
  value       = aws_iam_role.this.name
}

output "concerns" {
  description = "Names of the role's inline policies."
  value       = sort(keys(aws_iam_role_policy.this))
}

output "statements" {
  description = "Statements that the module itself adds to the role: concern => list of actions and resources."
  value = {
    for concern, document in { logs = data.aws_iam_policy_document.logs, xray = data.aws_iam_policy_document.xray } :
    concern => [for s in document.statement : { actions = s.actions, resources = s.resources }]
  }
}

output "log_group_name" {
  description = "Name of the function's log group."
  value       = aws_cloudwatch_log_group.this.name
}

output "alarm_names" {
  description = "Names of the function's alarms."
  value       = [for alarm in values(aws_cloudwatch_metric_alarm.this) : alarm.alarm_name]
}
