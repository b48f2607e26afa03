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

variable "image" {
  description = "The container image: the `Dockerfile` of Roost with your engines in it."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets with a way to DynamoDB, SQS, S3, ECR and CloudWatch Logs."
  type        = list(string)
}

variable "security_group_ids" {
  description = "Nothing comes in; HTTPS must go out."
  type        = list(string)
}

variable "alarm_topic_arns" {
  description = "SNS topics that are told of alarms."
  type        = list(string)
  default     = []
}
