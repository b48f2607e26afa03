variable "stack" {
  description = "Prefix of all names, as in `ROOST_STORAGE=aws:STACK`."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{0,39}$", var.stack))
    error_message = "A stack's name has 1 to 40 of the characters a-z 0-9 -, and does not begin with -."
  }
}

variable "deletion_protection" {
  description = "Whether the tables refuse to be deleted."
  type        = bool
  default     = true
}

variable "recovery_days" {
  description = "How many days back the tables can be restored to any second; 0 turns it off."
  type        = number
  default     = 35

  validation {
    condition     = var.recovery_days >= 0 && var.recovery_days <= 35 && floor(var.recovery_days) == var.recovery_days
    error_message = "Point-in-time recovery goes back 1 to 35 whole days; 0 turns it off."
  }
}

variable "write_units_max" {
  description = "Ceiling of write request units a second, for each table and index; beyond it writes are throttled and made again. null: none."
  type        = number
  default     = null

  validation {
    condition     = var.write_units_max == null || try(var.write_units_max >= 1, false)
    error_message = "At least 1 write request unit a second, or null."
  }
}

variable "kms_key_arn" {
  description = "ARN of a KMS key of your own for the tables; null: a key that AWS owns."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:[a-z-]+:kms:", var.kms_key_arn))
    error_message = "This must be the ARN of a KMS key."
  }
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}
