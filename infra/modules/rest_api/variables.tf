variable "name" {
  description = "Name of the API."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,64}$", var.name))
    error_message = "The name must have 1 to 64 letters, digits, dashes and underscores."
  }
}

variable "description" {
  description = "What the API is for."
  type        = string
  nullable    = false
}

variable "stage_name" {
  description = "Name of the one stage; it is the first segment of the default URL."
  type        = string
  default     = "api"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,128}$", var.stage_name))
    error_message = "The stage name must have 1 to 128 letters, digits, dashes and underscores."
  }
}

variable "functions" {
  description = "Functions that routes may name: key => URI with which API Gateway invokes the function's alias."
  type        = map(string)
  nullable    = false

  validation {
    condition     = alltrue([for uri in values(var.functions) : can(regex(":lambda:path/2015-03-31/functions/.+:function:[^:]+:[^:]+/invocations$", uri))])
    error_message = "Every function must be given by the invocation URI of an alias."
  }
}

variable "function_aliases" {
  description = "The same functions' aliases, once they exist. Apart from `functions`, so that only the permissions and the deployment wait for the functions."
  type = map(object({
    name          = string
    function_name = string
  }))
  nullable = false
}

variable "authorizer_function" {
  description = "Key of the function that checks API keys, for routes with authorization CUSTOM."
  type        = string
  nullable    = false

  validation {
    condition     = contains(keys(var.functions), var.authorizer_function)
    error_message = "The authorizer must be one of the functions."
  }
}

variable "routes" {
  description = <<-EOT
    Operation => method, path (at most 6 segments, from the root, without the stage) and function;
    authorization is CUSTOM (API key, the default), AWS_IAM or NONE. The model documents the body, and
    is enforced by API Gateway only with validate_body, because its message cannot name the wrong field.
  EOT
  type = map(object({
    method        = string
    path          = string
    function      = string
    authorization = optional(string, "CUSTOM")
    model         = optional(string)
    validate_body = optional(bool, false)
    timeout_ms    = optional(number, 29000)
  }))
  nullable = false

  validation {
    condition     = length(var.routes) > 0 && alltrue([for key in keys(var.routes) : can(regex("^[a-z][a-z0-9_]*$", key))])
    error_message = "There must be a route, and every route must be named in lower case with underscores."
  }

  validation {
    condition     = alltrue([for route in values(var.routes) : contains(["GET", "POST", "PUT", "PATCH", "DELETE"], route.method)])
    error_message = "The method of every route must be GET, POST, PUT, PATCH or DELETE."
  }

  validation {
    condition = alltrue([
      for route in values(var.routes) : can(regex("^(/([a-z0-9._-]+|\\{[a-z_]+\\+?\\})){1,6}$", route.path)) && !can(regex("\\+\\}/", route.path))
    ])
    error_message = "Every path must have 1 to 6 segments, each literal or {parameter}; {parameter+} must come last."
  }

  validation {
    condition     = length(distinct([for route in values(var.routes) : "${route.method} ${route.path}"])) == length(var.routes)
    error_message = "No two routes may have the same method and path."
  }

  validation {
    condition     = alltrue([for route in values(var.routes) : contains(["CUSTOM", "AWS_IAM", "NONE"], route.authorization)])
    error_message = "The authorization of every route must be CUSTOM, AWS_IAM or NONE."
  }

  validation {
    condition     = alltrue([for route in values(var.routes) : contains(keys(var.functions), route.function)])
    error_message = "Every route must name one of the functions."
  }

  validation {
    condition     = alltrue([for route in values(var.routes) : route.model == null ? !route.validate_body : contains(keys(var.models), route.model)])
    error_message = "Every route must name one of the models, or none; without a model there is nothing to validate the body with."
  }

  validation {
    condition     = alltrue([for route in values(var.routes) : route.timeout_ms >= 50 && route.timeout_ms <= 29000])
    error_message = "The timeout of every route must lie between 50 and 29000 ms, API Gateway's own default quota."
  }
}

variable "models" {
  description = "Request models: name => JSON schema (draft 4)."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for name, schema in var.models : can(regex("^[A-Za-z0-9]+$", name)) && can(jsondecode(schema))])
    error_message = "Every model must be named with letters and digits only and be valid JSON."
  }
}

variable "throttling" {
  description = "Steady rate and burst that each route takes before it answers 429."
  type = object({
    requests_per_second = number
    burst               = number
  })
  default = {
    requests_per_second = 1000
    burst               = 2000
  }
  nullable = false

  validation {
    condition     = var.throttling.requests_per_second > 0 && var.throttling.burst > 0
    error_message = "The rate and the burst must be positive; 0 would refuse every request."
  }
}

variable "web_acl" {
  description = "Web ACL put before the stage, or null for none. An object, so that its presence is known before its ARN."
  type        = object({ arn = string })
  default     = null
}

variable "binary_media_types" {
  description = "Content types of requests whose bodies reach functions as bytes (in base64); all others must be text."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for type in var.binary_media_types : can(regex("^[a-z]+/[a-z0-9.+-]+$", type))])
    error_message = "Every content type must be named in full, such as multipart/form-data: with */* every body would be bytes."
  }
}

variable "disable_default_endpoint" {
  description = "Whether only the custom domain answers."
  type        = bool
  default     = false
  nullable    = false
}

variable "manage_account" {
  description = "Whether to set the account's CloudWatch role for API Gateway; one setting for the account and region, so false where something else sets it."
  type        = bool
  default     = true
  nullable    = false
}

variable "permissions_boundary_arn" {
  description = "Permissions boundary of the CloudWatch role, or null for none."
  type        = string
  default     = null
}

variable "kms_key_arn" {
  description = "KMS key that encrypts the log groups."
  type        = string
  nullable    = false
}

variable "log_retention_days" {
  description = "Days for which logs are kept."
  type        = number
  default     = 30
  nullable    = false
}

variable "alarms" {
  description = "Thresholds and the topics told about them; null for no alarms."
  type = object({
    server_error_percent = optional(number, 1)
    p95_latency_ms       = optional(number, 10000)
    actions              = optional(list(string), [])
  })
  default = {}

  validation {
    condition     = var.alarms == null ? true : var.alarms.server_error_percent > 0 && var.alarms.server_error_percent <= 100 && var.alarms.p95_latency_ms > 0
    error_message = "The server error threshold is a percentage, and the latency threshold must be positive."
  }
}
