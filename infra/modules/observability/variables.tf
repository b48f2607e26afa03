variable "stack" {
  description = "Prefix of all names, as in `ROOST_STORAGE=aws:STACK`."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{0,39}$", var.stack))
    error_message = "A stack's name has 1 to 40 of the characters a-z 0-9 -, and does not begin with -."
  }
}

variable "tables" {
  description = "The output `tables` of the module `state`."
  type        = map(object({ name = string, arn = string }))
}

variable "lanes" {
  description = "The output `lanes` of the module `queue`."
  type        = map(object({ name = string, arn = string, url = string }))
}

variable "dead_letters" {
  description = "The output `dead_letters` of the module `queue`."
  type        = object({ name = string, arn = string, url = string })
}

variable "function_names" {
  description = "Functions of this stack that are watched: worker, sweeper, console."
  type        = list(string)
  default     = []
}

variable "sweeper_function_name" {
  description = "The sweeper, if it is a function: an alarm tells when it does not run."
  type        = string
  default     = null
}

variable "ecs" {
  description = "The workers' service, if there always is one: an alarm tells when no task runs. null for services that shrink to zero."
  type        = object({ cluster_name = string, service_name = string })
  default     = null
}

variable "console" {
  description = "The output `api_id` of the module `console`, if there is one."
  type        = object({ api_id = string })
  default     = null
}

variable "alarm_topic_arns" {
  description = "SNS topics that are told of alarms and of their end."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.alarm_topic_arns : can(regex("^arn:[a-z-]+:sns:", arn))])
    error_message = "Each must be the ARN of an SNS topic."
  }
}

variable "oldest_seconds" {
  description = "How long a message may wait before somebody is told."
  type        = number
  default     = 900

  validation {
    condition     = var.oldest_seconds >= 60
    error_message = "At least 60: SQS tells the age once a minute."
  }
}

variable "runbook_url" {
  description = "Where your people read the operations guide, such as a wiki's page; alarms link to its sections. null: they name the section of `infra/operations.md`."
  type        = string
  default     = null

  validation {
    condition     = var.runbook_url == null || try(startswith(var.runbook_url, "https://"), false)
    error_message = "An https:// address, or null."
  }
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}

