variable "name" {
  description = "Of the function, its role and its log group."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,64}$", var.name))
    error_message = "A function's name has 1 to 64 of the characters a-z A-Z 0-9 _ -."
  }
}

variable "description" {
  description = "What the function is for."
  type        = string
}

variable "handler" {
  description = "What is called, such as `roost.hosting.lambda_worker.handler`."
  type        = string
}

variable "package" {
  description = "The code: a container image, a local zip file, or one in S3. `infra/package.sh` makes the zip."
  type = object({
    image_uri         = optional(string)
    filename          = optional(string)
    s3_bucket         = optional(string)
    s3_key            = optional(string)
    s3_object_version = optional(string)
    source_code_hash  = optional(string)
  })

  validation {
    condition     = (var.package.s3_bucket == null) == (var.package.s3_key == null)
    error_message = "s3_bucket and s3_key go together."
  }
}

variable "policy_arn" {
  description = "What the function may do: an ARN of the module `iam`."
  type        = string
}

variable "environment" {
  description = "Environment variables."
  type        = map(string)
  default     = {}
}

variable "timeout_seconds" {
  description = "How long an invocation may take."
  type        = number

  validation {
    condition     = var.timeout_seconds >= 1 && var.timeout_seconds <= 900
    error_message = "An invocation takes 1 to 900 seconds."
  }
}

variable "memory_mb" {
  description = "Memory, and with it CPU: a whole one at 1,769 MB."
  type        = number

  validation {
    condition     = var.memory_mb >= 128 && var.memory_mb <= 10240
    error_message = "Lambda has 128 to 10,240 MB."
  }
}

variable "reserved_concurrency" {
  description = "Invocations at a time at most, taken from the account's quota; -1: no limit."
  type        = number
  default     = -1

  validation {
    condition     = var.reserved_concurrency >= -1
    error_message = "-1 is no limit, 0 stops the function, more is a limit."
  }
}

variable "runtime" {
  description = "Python runtime of a zip."
  type        = string
  default     = "python3.13"

  validation {
    condition     = can(regex("^python3\\.(1[1-9])$", var.runtime))
    error_message = "Roost needs Python 3.11 or newer."
  }
}

variable "architecture" {
  description = "`arm64` or `x86_64`; the package must be made for it."
  type        = string
  default     = "arm64"

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "Lambda has arm64 and x86_64."
  }
}

variable "log_retention_days" {
  description = "For how long logs are kept."
  type        = number
  default     = 30

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "CloudWatch Logs keeps logs for 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653 days."
  }
}

variable "log_kms_key_arn" {
  description = "ARN of a KMS key of your own for the logs; null: one that AWS owns."
  type        = string
  default     = null

  validation {
    condition     = var.log_kms_key_arn == null || can(regex("^arn:[a-z-]+:kms:", var.log_kms_key_arn))
    error_message = "This must be the ARN of a KMS key."
  }
}

variable "environment_kms_key_arn" {
  description = "ARN of a KMS key of your own for the environment; null: one that AWS manages."
  type        = string
  default     = null

  validation {
    condition     = var.environment_kms_key_arn == null || can(regex("^arn:[a-z-]+:kms:", var.environment_kms_key_arn))
    error_message = "This must be the ARN of a KMS key."
  }
}

variable "vpc" {
  description = "Subnets and security groups, where engines need a private network; it must reach DynamoDB, SQS and S3. null: none."
  type        = object({ subnet_ids = list(string), security_group_ids = list(string) })
  default     = null
}


variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}

