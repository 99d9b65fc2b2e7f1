variable "name" {
  description = "Name of the table."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_.-]{3,255}$", var.name))
    error_message = "The name must have 3 to 255 letters, digits, dots, dashes and underscores."
  }
}

variable "indexes" {
  description = "Global secondary indexes; index <name> has the keys <name>pk and <name>sk and projects everything."
  type        = set(string)
  default     = ["gsi1"]
  nullable    = false

  validation {
    condition     = alltrue([for index in var.indexes : can(regex("^gsi[0-9]+$", index))])
    error_message = "Every index must be named gsi followed by a number."
  }
}

variable "ttl_attribute" {
  description = "Attribute with the epoch seconds after which an item may be deleted."
  type        = string
  default     = "expires_at"
  nullable    = false
}

variable "deletion_protection" {
  description = "Whether the table refuses to be deleted."
  type        = bool
  default     = true
  nullable    = false
}

variable "kms_key_arn" {
  description = "KMS key that encrypts the table and its stream."
  type        = string
  nullable    = false
}
