variable "stack" {
  description = "Prefix of all names, as in `ROOST_STORAGE=aws:STACK`."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{0,39}$", var.stack))
    error_message = "A stack's name has 1 to 40 of the characters a-z 0-9 -, and does not begin with -."
  }
}

variable "name" {
  description = "Prefix of the policies' names, where a stack has several sets of them; null: the stack."
  type        = string
  default     = null

  validation {
    condition     = var.name == null || can(regex("^[A-Za-z0-9+=,.@_-]{1,90}$", var.name))
    error_message = "A policy's name has 1 to 90 of the characters that IAM takes."
  }
}

variable "tables" {
  description = "The output `tables` of the module `state`."
  type        = map(object({ name = string, arn = string }))

  validation {
    condition     = alltrue([for key in ["journal", "index", "claims"] : contains(keys(var.tables), key)])
    error_message = "The tables journal, index and claims are needed."
  }
}

variable "stream_arn" {
  description = "The output `stream_arn` of the module `state`."
  type        = string
}

variable "lanes" {
  description = "The output `lanes` of the module `queue`."
  type        = map(object({ name = string, arn = string, url = string }))
}

variable "dead_letters" {
  description = "The output `dead_letters` of the module `queue`."
  type        = object({ name = string, arn = string, url = string })
}

variable "bucket_arn" {
  description = "The output `arn` of the module `artifacts`."
  type        = string
}

variable "blobs_arn" {
  description = "The output `blobs_arn` of the module `artifacts`."
  type        = string
}

variable "namespaces" {
  description = "Fences enqueuers and consoles in: their keys must begin with one of these namespaces. Empty: all. Blobs are shared by content and can't be fenced."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for namespace in var.namespaces : can(regex("^[a-z0-9-]{1,63}$", namespace)) && !startswith(namespace, "roost-")])
    error_message = "A namespace has 1 to 63 of the characters a-z 0-9 -; those that begin with roost- are Roost's own."
  }
}

variable "kms_key_arns" {
  description = "Keys of your own that tables, queues or bucket are encrypted with."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.kms_key_arns : can(regex("^arn:[a-z-]+:kms:", arn))])
    error_message = "Each must be the ARN of a KMS key."
  }
}

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}

