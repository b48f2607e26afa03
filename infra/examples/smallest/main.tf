# Tables, queues, bucket and policies: what `roost aws create` makes, with what production wants.
# Workers run where you like, with the policy `worker`: on a laptop, on virtual machines, on Kubernetes.

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

