variable "name" {
  description = "Name of the bus and its archive."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_.-]{1,48}$", var.name)) && var.name != "default"
    error_message = "The name must have 1 to 48 letters, digits, dots, dashes and underscores, and not be default."
  }
}

variable "description" {
  description = "What the events tell."
  type        = string
  nullable    = false
}

variable "publisher_accounts" {
  description = "Other accounts that may put events on this bus; their own IAM policies decide who does."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for account in var.publisher_accounts : can(regex("^[0-9]{12}$", account))])
    error_message = "Every account must be a 12-digit number."
  }
}

variable "archive_days" {
  description = "Days for which events are archived for replay."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.archive_days >= 1
    error_message = "Events must be archived for at least one day."
  }
}

variable "kms_key_arn" {
  description = "KMS key that encrypts the events."
  type        = string
  nullable    = false
}

variable "rules" {
  description = "Consumers: rule => event pattern (JSON), target, the role that delivers (for targets that need one) and a DLQ for what cannot be delivered."
  type = map(object({
    description     = string
    pattern         = string
    target_arn      = string
    dead_letter_arn = string
    role_arn        = optional(string)
  }))
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for rule in values(var.rules) : can(jsondecode(rule.pattern))])
    error_message = "Every event pattern must be valid JSON."
  }
}
