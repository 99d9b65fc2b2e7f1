variable "name" {
  description = "Name of the application, as in the main root."
  type        = string
  default     = "sluice"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{1,15}$", var.name))
    error_message = "The name must have 2 to 16 lower-case letters and digits, and start with a letter."
  }
}

variable "environment" {
  description = "Environment that this account, or this part of it, is for; as in the main root, and as the GitHub environment is named."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{1,11}$", var.environment))
    error_message = "The environment must have 2 to 12 lower-case letters and digits, and start with a letter."
  }
}

variable "region" {
  description = "AWS region, as in the main root."
  type        = string
  default     = "us-east-1"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "The region must look like us-east-1."
  }
}

variable "repository" {
  description = "GitHub repository whose workflows may assume the roles, as owner/name."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+$", var.repository))
    error_message = "The repository must be given as owner/name, without wildcards: the trust policies name it."
  }
}

variable "create_oidc_provider" {
  description = "Whether to register GitHub as an identity provider. An account has it once, so false for a second environment in the same account."
  type        = bool
  default     = true
  nullable    = false
}

variable "hosted_zone_id" {
  description = "Route 53 zone in which the main root makes the record of its domain, or null."
  type        = string
  default     = null
}
