locals {
  functions_made = merge(
    module.sync_functions, module.batch_functions, module.pipeline_functions, module.webhook_functions, module.workflow_functions,
    module.shared_functions, module.governance_functions,
  )
}

output "api_url" {
  description = "URL of the API, with the stage and /v1."
  value       = var.domain == null ? "${module.api.url}/v1" : "https://${var.domain.name}/v1"
}

output "stream_url" {
  description = "URL of the function that sends answers as they are made, with /v1."
  value       = "${module.stream_url.url}/v1"
}

output "api_id" {
  description = "Id of the REST API."
  value       = module.api.id
}

output "stage_name" {
  description = "Name of the API's stage."
  value       = module.api.stage_name
}

output "routes" {
  description = "Operation => request, function, authorization and the model that API Gateway validates the body with."
  value       = module.api.routes
}

output "table_name" {
  description = "Name of the table."
  value       = module.table.name
}

output "bucket_name" {
  description = "Name of the bucket for requests and results."
  value       = module.bucket.name
}

output "queue_urls" {
  description = "Queue, by the name that administrators know it by => its URL."
  value       = { for name, queue in local.queues : name => queue.url }
}

output "dlq_urls" {
  description = "Queue, by the same name => the URL of its dead-letter queue."
  value       = { for name, queue in local.queues : name => queue.dlq.url }
}

output "event_dlq_url" {
  description = "URL of the queue with the changes that could not be published and the ends that could not be recorded."
  value       = module.event_dlq.url
}

output "event_bus_name" {
  description = "Name of the event bus."
  value       = module.event_bus.name
}

output "state_machine_arn" {
  description = "ARN of the state machine behind the workflow chain."
  value       = module.chain.arn
}

output "provider_secret_arn" {
  description = "ARN of the secret with the providers' API keys."
  value       = aws_secretsmanager_secret.providers.arn
}

output "function_names" {
  description = "Function (its folder) => name of the Lambda function."
  value       = { for function, module in local.functions_made : function => module.name }
}

output "kms_key_arn" {
  description = "ARN of the KMS key."
  value       = module.key.arn
}

output "dashboard_name" {
  description = "Name of the CloudWatch dashboard."
  value       = module.dashboard.name
}

output "alarm_topic_arn" {
  description = "ARN of the topic that alarms are sent to."
  value       = aws_sns_topic.alarms.arn
}

output "completion_topic_arn" {
  description = "ARN of the topic that is told of what has ended; null if there is none."
  value       = one(aws_sns_topic.completion[*].arn)
}

output "alarm_names" {
  description = "Names of all alarms."
  value = sort(concat(
    flatten([for module in values(local.functions_made) : module.alarm_names]),
    module.api.alarm_names,
    module.stream_url.alarm_names,
    flatten([for queue in values(local.queues) : queue.alarm_names]),
    module.event_dlq.alarm_names,
    module.chain.alarm_names,
  ))
}

output "log_group_names" {
  description = "Names of all log groups."
  value = sort(concat(
    [for module in values(local.functions_made) : module.log_group_name],
    module.api.log_group_names,
    [module.chain.log_group_name],
  ))
}
