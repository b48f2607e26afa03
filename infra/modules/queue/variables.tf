variable "stack" {
  description = "Prefix of all names, as in `ROOST_STORAGE=aws:STACK`."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{0,39}$", var.stack))
    error_message = "A stack's name has 1 to 40 of the characters a-z 0-9 -, and does not begin with -."
  }
}

variable "visibility_seconds" {
  description = "Visibility timeout of the lanes; null: that of the stack's definition. Worker processes give their lease with each receive, so it matters to them only here: Lambda wants six times the function's timeout."
  type        = number
  default     = null

  validation {
    condition     = var.visibility_seconds == null || try(var.visibility_seconds >= 30 && var.visibility_seconds <= 43200, false)
    error_message = "The visibility timeout is 30 to 43,200 seconds."
  }
}

variable "kms_key_arn" {
  description = "ARN of a KMS key of your own for the messages; null: SQS-managed encryption. Messages hold ids only."
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
