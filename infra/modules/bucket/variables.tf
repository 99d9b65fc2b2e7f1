variable "name" {
  description = "Name of the bucket, unique in the world."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.name))
    error_message = "The name must have 3 to 63 lower-case letters, digits and dashes."
  }
}

variable "expiration_days" {
  description = "Days after which the objects below a prefix are deleted: prefix (ending in a slash) => days."
  type        = map(number)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for prefix, days in var.expiration_days : endswith(prefix, "/") && days >= 1])
    error_message = "Every prefix must end in a slash, and expire after at least one day."
  }
}

variable "versioning" {
  description = "Whether overwritten and deleted objects are kept for a day."
  type        = bool
  default     = true
  nullable    = false
}

variable "force_destroy" {
  description = "Whether the bucket may be destroyed with objects in it."
  type        = bool
  default     = false
  nullable    = false
}

variable "kms_key_arn" {
  description = "KMS key that encrypts the objects."
  type        = string
  nullable    = false
}

variable "tls_only" {
  description = "Whether plain HTTP is refused. False only where the endpoint itself is plain HTTP (local)."
  type        = bool
  default     = true
  nullable    = false
}
