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

variable "lanes" {
  description = "The output `lanes` of the module `queue`."
  type        = map(object({ name = string, arn = string, url = string }))
}

variable "policy_arn" {
  description = "What workers may do: `policy_arns[\"worker\"]` of the module `iam`."
  type        = string
}

variable "image" {
  description = "The container image: the `Dockerfile` of Roost with your engines in it."
  type        = string

  validation {
    condition     = !endswith(var.image, ":latest") && strcontains(var.image, ":")
    error_message = "Pin the image by a version or digest: with :latest nobody knows what runs, and a roll-back changes nothing."
  }
}

variable "subnet_ids" {
  description = "Where the tasks run. They need a way to DynamoDB, SQS, S3, ECR and CloudWatch Logs."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) > 0
    error_message = "At least one subnet."
  }
}

variable "security_group_ids" {
  description = "Security groups of the tasks. Nothing comes in; HTTPS must go out."
  type        = list(string)
}

variable "assign_public_ip" {
  description = "Whether tasks get a public address: in public subnets without a NAT gateway."
  type        = bool
  default     = false
}

variable "cluster_name" {
  description = "A cluster that is there, with Container Insights and the capacity providers FARGATE and FARGATE_SPOT; null: one of its own."
  type        = string
  default     = null
}

variable "engines" {
  description = "Which engines the workers run, as `roost worker --engines` takes them."
  type        = string
  default     = "all"
}

variable "concurrency" {
  description = "Work items that one task runs at a time."
  type        = number
  default     = 8

  validation {
    condition     = var.concurrency >= 1 && var.concurrency <= 4096
    error_message = "1 to 4,096 work items at a time."
  }
}

variable "lease_seconds" {
  description = "How long a lease lasts without a heartbeat: how soon others go on after a task that died."
  type        = number
  default     = 30

  validation {
    condition     = var.lease_seconds >= 5 && var.lease_seconds <= 43200
    error_message = "A lease is 5 to 43,200 seconds; SQS hides no message for longer."
  }
}

variable "grace_seconds" {
  description = "How long running steps may go on after SIGTERM. ECS kills a task 10 seconds later."
  type        = number
  default     = 60

  validation {
    condition     = var.grace_seconds >= 0 && var.grace_seconds <= 110
    error_message = "At most 110: Fargate gives a task no more than 120 seconds to stop."
  }
}

variable "retention_days" {
  description = "For how long work is kept after it ended; 0: for ever."
  type        = number
  default     = 30

  validation {
    condition     = var.retention_days >= 0
    error_message = "Not below 0, which is for ever."
  }
}

variable "health_port" {
  description = "On which the container answers its own health check."
  type        = number
  default     = 8081

  validation {
    condition     = var.health_port >= 1024 && var.health_port <= 65535
    error_message = "1,024 to 65,535: the worker is not root."
  }
}

variable "cpu_units" {
  description = "CPU of a task: 1,024 is one."
  type        = number
  default     = 512

  validation {
    condition     = contains([256, 512, 1024, 2048, 4096, 8192, 16384], var.cpu_units)
    error_message = "Fargate has 256, 512, 1024, 2048, 4096, 8192 and 16384."
  }
}

variable "memory_mb" {
  description = "Memory of a task; Fargate allows certain pairs with the CPU."
  type        = number
  default     = 1024

  # Amazon ECS Developer Guide, "Task definition parameters for Fargate", "Task size".
  validation {
    condition = contains(lookup({
      "256"   = [512, 1024, 2048]
      "512"   = range(1024, 4097, 1024)
      "1024"  = range(2048, 8193, 1024)
      "2048"  = range(4096, 16385, 1024)
      "4096"  = range(8192, 30721, 1024)
      "8192"  = range(16384, 61441, 4096)
      "16384" = range(32768, 122881, 8192)
    }, tostring(var.cpu_units), [var.memory_mb]), var.memory_mb)
    error_message = "Fargate allows 2 to 8 times as many MB as CPU units (512 too with 256 units, and no more than 30,720 MB with 4,096 units), in whole GB; with 8,192 units in steps of 4 GB, with 16,384 of 8."
  }
}

variable "architecture" {
  description = "`ARM64` or `X86_64`; the image must be made for it."
  type        = string
  default     = "ARM64"

  validation {
    condition     = contains(["ARM64", "X86_64"], var.architecture)
    error_message = "Fargate has ARM64 and X86_64."
  }
}

variable "tasks_min" {
  description = "Tasks that are always there. 0: none while nothing waits; then a sweeper is needed (module `sweeper-lambda`), and the first message waits for a task to start."
  type        = number
  default     = 1

  validation {
    condition     = var.tasks_min >= 0
    error_message = "Not below 0."
  }
}

variable "tasks_max" {
  description = "Tasks at most."
  type        = number
  default     = 10

  validation {
    condition     = var.tasks_max >= max(var.tasks_min, 1)
    error_message = "tasks_max is below tasks_min, or 0."
  }
}

variable "tasks_on_demand" {
  description = "So many tasks never run on Spot, if `spot_percent` is below 100."
  type        = number
  default     = 1

  validation {
    condition     = var.tasks_on_demand >= 0
    error_message = "Not below 0."
  }
}

variable "spot_percent" {
  description = "Share of the further tasks that run on Spot."
  type        = number
  default     = 0

  validation {
    condition     = var.spot_percent >= 0 && var.spot_percent <= 100
    error_message = "0 to 100 percent."
  }
}

variable "work_per_task" {
  description = "Deliveries that wait or are in hand, for each task, at which autoscaling aims; about `concurrency` keeps tasks busy and nothing waiting."
  type        = number
  default     = 8

  validation {
    condition     = var.work_per_task > 0
    error_message = "Above 0."
  }
}

variable "oldest_seconds" {
  description = "A message that has waited for longer adds a quarter of the tasks, one that has waited twice as long doubles them."
  type        = number
  default     = 120

  validation {
    condition     = var.oldest_seconds >= 60
    error_message = "At least 60: SQS tells the age once a minute."
  }
}

variable "environment" {
  description = "Further environment variables, such as `ROOST_ENGINES__RESEARCHER__MODEL`."
  type        = map(string)
  default     = {}
}

variable "secrets" {
  description = "Environment variables whose values are in Parameter Store or Secrets Manager: name to ARN."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for arn in values(var.secrets) : strcontains(arn, ":ssm:") || strcontains(arn, ":secretsmanager:")])
    error_message = "Each is the ARN of a parameter or of a secret."
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

variable "tags" {
  description = "Tags of every resource."
  type        = map(string)
  default     = {}
}

