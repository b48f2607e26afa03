# Workers as a function behind the queues: nothing runs, and nothing costs, while nothing waits.

module "function" {
  source = "../function"

  name                    = "${var.stack}-worker"
  description             = "Runs the work items of the Roost stack ${var.stack}."
  handler                 = "roost.hosting.lambda_worker.handler"
  package                 = var.package
  policy_arn              = var.policy_arn
  timeout_seconds         = var.timeout_seconds
  memory_mb               = var.memory_mb
  reserved_concurrency    = var.reserved_concurrency
  runtime                 = var.runtime
  architecture            = var.architecture
  log_retention_days      = var.log_retention_days
  log_kms_key_arn         = var.log_kms_key_arn
  environment_kms_key_arn = var.environment_kms_key_arn
  vpc                     = var.vpc
  tags                    = var.tags

  environment = merge({
    ROOST_STORAGE               = "aws:${var.stack}"
    ROOST_AWS__BUCKET           = var.bucket
    ROOST_LEASE_SECONDS         = tostring(var.lease_seconds)
    ROOST_WORKER__ENGINES       = var.engines
    ROOST_WORKER__BURST_SECONDS = tostring(var.timeout_seconds)
  }, var.environment)
}

resource "aws_lambda_event_source_mapping" "lane" {
  for_each = var.lanes

  event_source_arn        = each.value.arn
  function_name           = module.function.arn
  batch_size              = var.batch_size
  function_response_types = ["ReportBatchItemFailures"]
  tags                    = var.tags

  dynamic "scaling_config" {
    for_each = var.concurrency_per_lane == null ? [] : [var.concurrency_per_lane]

    content {
      maximum_concurrency = scaling_config.value
    }
  }

  lifecycle {
    precondition {
      condition     = var.visibility_seconds >= 6 * var.timeout_seconds
      error_message = "Lambda wants a visibility timeout of six times the function's timeout, and refuses one below it. Set visibility_seconds of the module queue to at least ${6 * var.timeout_seconds}. The lease stays short all the same: the worker sets it by itself."
    }
  }
}
