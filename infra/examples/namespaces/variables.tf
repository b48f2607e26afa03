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

variable "teams" {
  description = "Namespaces, one for each team."
  type        = set(string)
  default     = ["search", "billing"]
}
