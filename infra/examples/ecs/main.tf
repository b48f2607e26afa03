# Workers on Fargate: one on demand at all times, up to twenty on Spot when there is much to do.

provider "aws" {
  region = var.region

  default_tags {
    tags = { project = "roost", stack = var.stack }
  }
}

module "state" {
  source = "../../modules/state"

  stack               = var.stack
  deletion_protection = var.deletion_protection
}

module "queue" {
  source = "../../modules/queue"

  stack = var.stack
}

module "artifacts" {
  source = "../../modules/artifacts"

  stack         = var.stack
  force_destroy = !var.deletion_protection
}

module "iam" {
  source = "../../modules/iam"

  stack        = var.stack
  tables       = module.state.tables
  stream_arn   = module.state.stream_arn
  lanes        = module.queue.lanes
  dead_letters = module.queue.dead_letters
  bucket_arn   = module.artifacts.arn
  blobs_arn    = module.artifacts.blobs_arn
}

module "workers" {
  source = "../../modules/worker-ecs"

  stack              = var.stack
  bucket             = module.artifacts.bucket
  lanes              = module.queue.lanes
  policy_arn         = module.iam.policy_arns["worker"]
  image              = var.image
  subnet_ids         = var.subnet_ids
  security_group_ids = var.security_group_ids
  tasks_min          = 1
  tasks_max          = 20
  spot_percent       = 95
}

module "observability" {
  source = "../../modules/observability"

  stack            = var.stack
  tables           = module.state.tables
  lanes            = module.queue.lanes
  dead_letters     = module.queue.dead_letters
  alarm_topic_arns = var.alarm_topic_arns

  ecs = {
    cluster_name = module.workers.cluster_name
    service_name = module.workers.service_name
  }
}
