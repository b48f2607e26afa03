# One stack for several teams: workers serve all of them, and the programs of a team reach the
# work of its namespace only.

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

module "team" {
  source   = "../../modules/iam"
  for_each = var.teams

  stack        = var.stack
  name         = "${var.stack}-${each.key}"
  namespaces   = [each.key]
  tables       = module.state.tables
  stream_arn   = module.state.stream_arn
  lanes        = module.queue.lanes
  dead_letters = module.queue.dead_letters
  bucket_arn   = module.artifacts.arn
  blobs_arn    = module.artifacts.blobs_arn
}
