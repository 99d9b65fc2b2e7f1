variable "name" {
  description = "Name of the queue; ends in -dlq."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,76}-dlq$", var.name))
    error_message = "The name must end in -dlq and have at most 80 letters, digits, dashes and underscores."
  }
}

variable "source_queue_arns" {
  description = "Queues that may redrive here; none for a queue that only receives failures of other things."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = length(var.source_queue_arns) <= 10
    error_message = "At most 10 source queues can be named."
  }
}

variable "rule_arns" {
  description = "EventBridge rules that send here what their targets do not take."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.rule_arns : can(regex("^arn:[a-z-]+:events:[a-z0-9-]+:[0-9]{12}:rule/", arn))])
    error_message = "Every rule must be named by its ARN."
  }
}

variable "retention_days" {
  description = "Days for which a failed message waits for somebody to look at it."
  type        = number
  default     = 14
  nullable    = false

  validation {
    condition     = var.retention_days >= 1 && var.retention_days <= 14
    error_message = "SQS keeps messages for 1 to 14 days."
  }
}

variable "kms_key_arn" {
  description = "KMS key that encrypts the messages."
  type        = string
  nullable    = false
}

variable "tls_only" {
  description = "Whether plain HTTP is refused. False only where the endpoint itself is plain HTTP (local)."
  type        = bool
  default     = true
  nullable    = false
}

variable "alarms" {
  description = "Topics told when a message arrives; null for no alarm."
  type = object({
    actions = optional(list(string), [])
  })
  default = {}
}
