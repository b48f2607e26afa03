variable "stack" {
  description = "Prefix of all names, as in `ROOST_STORAGE=aws:STACK`."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{0,39}$", var.stack))
    error_message = "A stack's name has 1 to 40 of the characters a-z 0-9 -, and does not begin with -."
  }
}

variable "bucket" {
  description = "The output `bucket` of the module `artifacts`."
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
  description = "What it may do: an ARN of the output `policy_arns` of the module `iam`."
  type        = string
}

variable "environment" {
  description = "Further environment variables, such as `ROOST_ENGINES__RESEARCHER__MODEL`."
  type        = map(string)
  default     = {}
}

variable "authorizer" {
  description = "Who may call. `JWT`: a token of `issuer` for one of `audience`, in the Authorization header. `AWS_IAM`: signed requests. `CONSOLE`: the console's own sign-in, for browsers; needs `ROOST_CONSOLE__ADMIN_TOKEN`, `ROOST_CONSOLE__OPERATOR_TOKEN` or `ROOST_CONSOLE__VIEWER_TOKEN` in `environment`."
  type = object({
    type     = string
    issuer   = optional(string)
    audience = optional(list(string))
    scopes   = optional(list(string), [])
  })

  validation {
    condition     = contains(["JWT", "AWS_IAM", "CONSOLE"], var.authorizer.type)
    error_message = "The authorizer is JWT, AWS_IAM or CONSOLE."
  }

  validation {
    condition     = var.authorizer.type != "JWT" || (try(startswith(var.authorizer.issuer, "https://"), false) && try(length(var.authorizer.audience) > 0, false))
    error_message = "JWT needs an issuer (https://…) and at least one audience."
  }

  validation {
    condition     = var.authorizer.type != "CONSOLE" || length(setintersection(keys(var.environment), ["ROOST_CONSOLE__ADMIN_TOKEN", "ROOST_CONSOLE__OPERATOR_TOKEN", "ROOST_CONSOLE__VIEWER_TOKEN"])) > 0
    error_message = "With CONSOLE the gateway lets everybody through, so the console needs a token to ask for."
  }
}

variable "roles" {
  description = "Who may do what, for `JWT` and `AWS_IAM`: the claim with somebody's groups, and which of them are admins and operators; all others look. For `AWS_IAM` these are ARNs of users and of roles (without a path, `arn:PARTITION:iam::ACCOUNT:role/NAME`)."
  type = object({
    claim     = optional(string, "roost_role")
    admins    = optional(list(string), ["admin"])
    operators = optional(list(string), ["operator"])
  })
  default = {}

  validation {
    condition     = alltrue([for name in concat(var.roles.admins, var.roles.operators) : !strcontains(name, ",")])
    error_message = "The console splits these lists at commas, so a name can't have one."
  }
}

variable "requests_per_second" {
  description = "What the API lets through in the long run."
  type        = number
  default     = 50

  validation {
    condition     = var.requests_per_second > 0
    error_message = "Above 0: with 0 every request is refused."
  }
}

variable "requests_at_once" {
  description = "What the API lets through in a burst."
  type        = number
  default     = 100

  validation {
    condition     = var.requests_at_once > 0
    error_message = "Above 0: with 0 every request is refused."
  }
}

variable "memory_mb" {
  description = "Memory, and with it CPU: a whole one at 1,769 MB."
  type        = number
  default     = 1024

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

