variable "name" {
  description = "Name of the function, its role and its log group."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,62}[a-z0-9]$", var.name))
    error_message = "The name must have 3 to 64 lower-case letters, digits and dashes, and start with a letter."
  }
}

variable "description" {
  description = "What the function does, in one sentence."
  type        = string
  nullable    = false

  validation {
    condition     = length(var.description) > 0 && length(var.description) <= 256
    error_message = "The description must have 1 to 256 characters."
  }
}

variable "package" {
  description = "Path of the function's zip, as made by `make package`."
  type        = string
  nullable    = false
}

variable "handler" {
  description = "Dotted name of the handler inside the zip."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z_][a-z0-9_]*(\\.[a-z_][a-z0-9_]*)+$", var.handler))
    error_message = "The handler must be a dotted Python name, such as functions.health.handler.handler."
  }
}

variable "memory_mb" {
  description = "Memory in MB; CPU grows with it (1,769 MB is one vCPU)."
  type        = number
  default     = 512
  nullable    = false

  validation {
    condition     = var.memory_mb >= 128 && var.memory_mb <= 10240
    error_message = "The memory must lie between 128 and 10240 MB."
  }
}

variable "timeout" {
  description = "Seconds after which an invocation is killed."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.timeout >= 1 && var.timeout <= 900
    error_message = "The timeout must lie between 1 and 900 seconds."
  }
}

variable "environment" {
  description = "Environment variables of the function, exactly as its Settings parse them."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for name in keys(var.environment) : can(regex("^[A-Z][A-Z0-9_]*$", name))])
    error_message = "Environment variables must be named in upper case with underscores."
  }
}

variable "policies" {
  description = "What the role may do besides logs and X-Ray: concern => policy document (JSON). Each becomes one inline policy."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = length(setintersection(keys(var.policies), ["logs", "xray"])) == 0
    error_message = "The concerns logs and xray are added by the module and must not be passed in."
  }
}

variable "platform" {
  description = <<-EOT
    What all functions have in common: the alias that callers use, runtime, architecture (arm64 or x86_64),
    layer version ARNs in the order in which they are laid down, the bucket that packages are put into, KMS key of
    package, logs and environment, log retention in days, permissions boundary of the role, and alarms: thresholds
    (counts a minute; share of the timeout) with the topics told about them, or null for none.
  EOT
  type = object({
    alias                    = optional(string, "live")
    runtime                  = optional(string, "python3.13")
    architecture             = optional(string, "arm64")
    layers                   = optional(list(string), [])
    package_bucket           = string
    kms_key_arn              = string
    log_retention_days       = optional(number, 30)
    permissions_boundary_arn = optional(string)
    alarms = optional(object({
      errors             = optional(number, 0)
      throttles          = optional(number, 0)
      p95_duration_share = optional(number, 0.8)
      actions            = optional(list(string), [])
    }))
  })
  nullable = false

  validation {
    condition     = can(regex("^[A-Za-z][A-Za-z0-9_-]{0,127}$", var.platform.alias))
    error_message = "The alias must start with a letter and have letters, digits, dashes and underscores only."
  }

  validation {
    condition     = can(regex("^python3\\.1[2-9]$", var.platform.runtime))
    error_message = "The runtime must be python3.12 or newer, which SnapStart needs."
  }

  validation {
    condition     = contains(["arm64", "x86_64"], var.platform.architecture)
    error_message = "The architecture must be arm64 or x86_64."
  }

  validation {
    condition     = length(var.platform.layers) <= 5
    error_message = "A function can have at most 5 layers."
  }

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.platform.log_retention_days)
    error_message = "CloudWatch Logs knows only these retentions: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 and 3653 days."
  }

  validation {
    condition     = try(var.platform.alarms.p95_duration_share > 0 && var.platform.alarms.p95_duration_share <= 1, true)
    error_message = "The p95 duration threshold is a share of the timeout and must lie between 0 and 1."
  }
}

variable "snap_start" {
  description = "Whether versions start from a snapshot, which is billed by the second for as long as the version is active, and by the restore."
  type        = bool
  default     = false
  nullable    = false
}

variable "recursive_loop" {
  description = "What Lambda does about a chain of requests that keeps coming back to the function: Terminate, or Allow for one that is meant and ends by itself."
  type        = string
  default     = "Terminate"
  nullable    = false

  validation {
    condition     = contains(["Allow", "Terminate"], var.recursive_loop)
    error_message = "The recursive loop must be Allow or Terminate."
  }
}

variable "provisioned_concurrency" {
  description = "Environments kept warm behind the alias; 0 for none, which is what scales to zero."
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.provisioned_concurrency >= 0
    error_message = "The provisioned concurrency must not be negative."
  }
}

variable "reserved_concurrency" {
  description = "Concurrent invocations reserved for, and at most given to, this function; null for the account's shared pool."
  type        = number
  default     = null

  validation {
    condition     = var.reserved_concurrency == null ? true : var.reserved_concurrency >= max(var.provisioned_concurrency, 1)
    error_message = "The reserved concurrency must be at least 1, and not less than the provisioned concurrency."
  }
}
