# Nothing but functions: workers, sweeper and console cost nothing while nothing happens.

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

  stack              = var.stack
  visibility_seconds = 6 * var.timeout_seconds
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
  source = "../../modules/worker-lambda"

  stack              = var.stack
  bucket             = module.artifacts.bucket
  lanes              = module.queue.lanes
  visibility_seconds = module.queue.visibility_seconds
  package            = var.package
  policy_arn         = module.iam.policy_arns["worker"]
  timeout_seconds    = var.timeout_seconds
}

module "sweeper" {
  source = "../../modules/sweeper-lambda"

  stack      = var.stack
  bucket     = module.artifacts.bucket
  package    = var.package
  policy_arn = module.iam.policy_arns["sweeper"]
}

module "console" {
  source = "../../modules/console"

  stack      = var.stack
  bucket     = module.artifacts.bucket
  package    = var.package
  policy_arn = module.iam.policy_arns["console_operator"]
  authorizer = var.authorizer
}

module "observability" {
  source = "../../modules/observability"

  stack                 = var.stack
  tables                = module.state.tables
  lanes                 = module.queue.lanes
  dead_letters          = module.queue.dead_letters
  alarm_topic_arns      = var.alarm_topic_arns
  function_names        = [module.workers.function_name, module.sweeper.function_name, module.console.function_name]
  sweeper_function_name = module.sweeper.function_name
  console               = { api_id = module.console.api_id }
}
