variable "stack" {
  description = "Prefix of all names, as in `ROOST_STORAGE=aws:STACK`."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{0,39}$", var.stack))
    error_message = "A stack's name has 1 to 40 of the characters a-z 0-9 -, and does not begin with -."
  }
}

variable "bucket" {
  description = "The bucket's name; null: `STACK-ACCOUNT-REGION`, which Roost finds by itself."
  type        = string
  default     = null

  validation {
    condition     = var.bucket == null || can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.bucket))
    error_message = "A bucket's name has 3 to 63 of the characters a-z 0-9 . -, and begins and ends with a letter or digit."
  }
}

variable "noncurrent_days" {
  description = "For how many days an object that was deleted or overwritten can be brought back."
  type        = number
  default     = 30

  validation {
    condition     = var.noncurrent_days >= 1
    error_message = "At least one day."
  }
}

variable "kms_key_arn" {
  description = "ARN of a KMS key of your own for the objects; null: keys that S3 manages."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:[a-z-]+:kms:", var.kms_key_arn))
    error_message = "This must be the ARN of a KMS key."
  }
}

variable "log_bucket" {
  description = "Bucket for server access logs; null: none are written."
  type        = string
  default     = null
}

variable "force_destroy" {
  description = "Whether `terraform destroy` deletes the bucket with all that is in it."
  type        = bool
  default     = false
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}
