variable "name" {
  description = "Name of the queue; its DLQ is named <name>-dlq."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,76}$", var.name))
    error_message = "The name must have 1 to 76 letters, digits, dashes and underscores."
  }
}

variable "consumer_timeout_seconds" {
  description = "Timeout of the function that consumes the queue; the visibility timeout is six times as long."
  type        = number
  nullable    = false

  validation {
    condition     = var.consumer_timeout_seconds >= 1 && var.consumer_timeout_seconds <= 900
    error_message = "The consumer's timeout must lie between 1 and 900 seconds, as Lambda's does."
  }
}

variable "max_receive_count" {
  description = "Deliveries after which a message goes to the DLQ."
  type        = number
  default     = 5
  nullable    = false

  validation {
    condition     = var.max_receive_count >= 5 && var.max_receive_count <= 1000
    error_message = "The receive count must lie between 5 and 1000: below 5, throttled polls alone can fill the DLQ."
  }
}

variable "retention_days" {
  description = "Days for which an unprocessed message is kept."
  type        = number
  default     = 4
  nullable    = false

  validation {
    condition     = var.retention_days >= 1 && var.retention_days <= 14
    error_message = "SQS keeps messages for 1 to 14 days."
  }
}

variable "dlq_retention_days" {
  description = "Days for which a failed message waits in the DLQ. Counted from the first enqueueing, so longer than the queue's own."
  type        = number
  default     = 14
  nullable    = false

  validation {
    condition     = var.dlq_retention_days > var.retention_days && var.dlq_retention_days <= 14
    error_message = "The DLQ must keep messages longer than the queue does, and at most 14 days."
  }
}

variable "rule_arns" {
  description = "EventBridge rules that send here what they match."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.rule_arns : can(regex("^arn:[a-z-]+:events:[a-z0-9-]+:[0-9]{12}:rule/", arn))])
    error_message = "Every rule must be named by its ARN."
  }
}

variable "kms_key_arn" {
  description = "KMS key that encrypts the messages of both queues."
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
  description = "Topics told when a message arrives in the DLQ; null for no alarm."
  type = object({
    actions = optional(list(string), [])
  })
  default = {}
}
