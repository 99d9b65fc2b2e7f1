variable "alias" {
  description = "Alias of the key, without the leading alias/."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9/_-]{1,250}$", var.alias)) && !startswith(var.alias, "aws/") && !startswith(var.alias, "alias/")
    error_message = "The alias must have letters, digits, slashes, dashes and underscores only, and start with neither alias/ nor aws/."
  }
}

variable "description" {
  description = "What the key encrypts."
  type        = string
  nullable    = false
}

variable "deletion_window_days" {
  description = "Days between the deletion of the key and the loss of what it encrypts."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.deletion_window_days >= 7 && var.deletion_window_days <= 30
    error_message = "KMS waits between 7 and 30 days."
  }
}

variable "log_group_names" {
  description = "Log groups that CloudWatch Logs may encrypt with the key; `*` stands for any characters."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = !contains(var.log_group_names, "*")
    error_message = "Log groups must be named; a bare * would be all of the account's."
  }
}

variable "service_principals" {
  description = "Services that use the key on their own behalf for this account: label (letters) => service principal."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for label, service in var.service_principals : can(regex("^[A-Za-z]+$", label)) && endswith(service, ".amazonaws.com")])
    error_message = "Every label must have letters only and every service principal must end in .amazonaws.com."
  }
}

variable "event_topic_arns" {
  description = "SNS topics encrypted with the key that rules of EventBridge publish to."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.event_topic_arns : can(regex("^arn:[a-z-]+:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]+$", arn))])
    error_message = "Every topic must be given by its whole ARN, without wildcards."
  }
}
