variable "name" {
  description = "Name of the function."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,62}[a-z0-9]$", var.name))
    error_message = "The name must have 3 to 64 lower-case letters, digits and dashes, and start with a letter."
  }
}

variable "alias" {
  description = "The alias behind the URL: its name, its ARN and the function it belongs to, as the module lambda_function gives them."
  type = object({
    name          = string
    arn           = string
    function_name = string
  })
  nullable = false
}

variable "invoke_mode" {
  description = "RESPONSE_STREAM (what the function writes arrives as it is written) or BUFFERED."
  type        = string
  default     = "RESPONSE_STREAM"
  nullable    = false

  validation {
    condition     = contains(["BUFFERED", "RESPONSE_STREAM"], var.invoke_mode)
    error_message = "The invoke mode must be BUFFERED or RESPONSE_STREAM."
  }
}

variable "alarms" {
  description = "How many answers with a 5xx status a minute are too many, and the topics told about them; null for no alarm."
  type = object({
    server_errors = optional(number, 5)
    actions       = optional(list(string), [])
  })
  default = null

  validation {
    condition     = var.alarms == null ? true : var.alarms.server_errors >= 0
    error_message = "The number of server errors must not be negative."
  }
}
