variable "region" {
  description = "Where everything is."
  type        = string
  default     = "us-east-1"
}

variable "stack" {
  description = "Prefix of all names, as in `ROOST_STORAGE=aws:STACK`."
  type        = string
  default     = "roost"
}

variable "deletion_protection" {
  description = "Whether tables and bucket refuse to be destroyed with what is in them."
  type        = bool
  default     = true
}

variable "package" {
  description = "The code with your engines in it: what `infra/package.sh` made, or a container image."
  type = object({
    image_uri        = optional(string)
    filename         = optional(string)
    s3_bucket        = optional(string)
    s3_key           = optional(string)
    source_code_hash = optional(string)
  })
}

variable "timeout_seconds" {
  description = "How long an invocation of the worker may take; a step somewhat less."
  type        = number
  default     = 900
}

variable "authorizer" {
  description = "Who may call the console; see the module `console`."
  type = object({
    type     = string
    issuer   = optional(string)
    audience = optional(list(string))
    scopes   = optional(list(string), [])
  })
  default = { type = "AWS_IAM" }
}

variable "alarm_topic_arns" {
  description = "SNS topics that are told of alarms."
  type        = list(string)
  default     = []
}
