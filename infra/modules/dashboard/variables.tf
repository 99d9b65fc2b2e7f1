variable "name" {
  description = "Name of the dashboard."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,255}$", var.name))
    error_message = "The name must have 1 to 255 letters, digits, dashes and underscores."
  }
}

variable "api_name" {
  description = "Name of the REST API."
  type        = string
  nullable    = false
}

variable "api_stage" {
  description = "Name of the API's stage."
  type        = string
  nullable    = false
}

variable "function_names" {
  description = "Names of the functions."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.function_names) > 0
    error_message = "There must be at least one function to show."
  }
}

variable "queue_names" {
  description = "Names of the queues, dead-letter queues included."
  type        = list(string)
  nullable    = false
}

variable "state_machine_arns" {
  description = "ARNs of the state machines."
  type        = list(string)
  nullable    = false
}

variable "table_name" {
  description = "Name of the table."
  type        = string
  nullable    = false
}

variable "application_namespace" {
  description = "Namespace in which the functions publish their own metrics (Embedded Metric Format)."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9._/#:-]{1,255}$", var.application_namespace)) && !startswith(var.application_namespace, "AWS/")
    error_message = "The namespace must not be one of AWS's own, and have no spaces."
  }
}

variable "application_metrics" {
  description = "The functions' own metrics to show: chart title, metric name, statistic, and the dimensions it is published with."
  type = list(object({
    title      = string
    name       = string
    stat       = string
    dimensions = list(string)
  }))
  default  = []
  nullable = false
}
