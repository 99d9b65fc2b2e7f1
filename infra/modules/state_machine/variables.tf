variable "name" {
  description = "Name of the state machine, its role and its log group."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,56}$", var.name))
    error_message = "The name must have 1 to 56 letters, digits, dashes and underscores."
  }
}

variable "definition" {
  description = "Definition in the Amazon States Language, with its ARNs filled in. Every Task must have TimeoutSeconds, Retry and Catch."
  type        = string
  nullable    = false

  validation {
    condition     = can(jsondecode(var.definition).StartAt)
    error_message = "The definition must be JSON with a StartAt state."
  }

  validation {
    condition = alltrue([
      for state in values(try(jsondecode(var.definition).States, {})) :
      alltrue([for field in ["TimeoutSeconds", "Retry", "Catch"] : contains(keys(state), field)])
      if state.Type == "Task"
    ])
    error_message = "Every Task must have TimeoutSeconds, Retry and Catch."
  }
}

variable "function_alias_arns" {
  description = "Aliases of the functions that the tasks invoke."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.function_alias_arns) > 0 && alltrue([for arn in var.function_alias_arns : can(regex(":function:[^:*]+:[^:*]+$", arn))])
    error_message = "At least one function must be named, each by the exact ARN of one alias."
  }
}

variable "permissions_boundary_arn" {
  description = "Permissions boundary of the role, or null for none."
  type        = string
  default     = null
}

variable "kms_key_arn" {
  description = "KMS key that encrypts the log group."
  type        = string
  nullable    = false
}

variable "log_retention_days" {
  description = "Days for which logs are kept."
  type        = number
  default     = 30
  nullable    = false
}

variable "tracing" {
  description = "Whether executions are traced by X-Ray. False for the local cloud, which has no X-Ray and does not report the setting."
  type        = bool
  default     = true
  nullable    = false
}

variable "alarms" {
  description = "Topics told when an execution runs into its time limit; null for no alarm."
  type = object({
    actions = optional(list(string), [])
  })
  default = {}
}
