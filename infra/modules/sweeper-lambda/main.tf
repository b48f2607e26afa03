# The sweeper on a schedule, for stacks without workers that are processes: those sweep themselves.

data "aws_caller_identity" "current" {}

module "function" {
  source = "../function"

  name                    = "${var.stack}-sweeper"
  description             = "Looks at what is due in the Roost stack ${var.stack}."
  handler                 = "roost.hosting.lambda_sweeper.handler"
  package                 = var.package
  policy_arn              = var.policy_arn
  timeout_seconds         = 60
  memory_mb               = var.memory_mb
  runtime                 = var.runtime
  architecture            = var.architecture
  log_retention_days      = var.log_retention_days
  log_kms_key_arn         = var.log_kms_key_arn
  environment_kms_key_arn = var.environment_kms_key_arn
  vpc                     = var.vpc
  tags                    = var.tags

  environment = merge({
    ROOST_STORAGE           = "aws:${var.stack}"
    ROOST_AWS__BUCKET       = var.bucket
    ROOST_RETENTION_SECONDS = tostring(var.retention_days * 86400)
  }, var.environment)
}

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["scheduler.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }
  }
}

data "aws_iam_policy_document" "invoke" {
  statement {
    sid       = "Invoke"
    actions   = ["lambda:InvokeFunction"]
    resources = [module.function.arn]
  }
}

resource "aws_iam_role" "schedule" {
  name               = "${var.stack}-sweeper-schedule"
  description        = "Invokes the function ${var.stack}-sweeper."
  assume_role_policy = data.aws_iam_policy_document.trust.json
  tags               = var.tags
}

resource "aws_iam_role_policy" "schedule" {
  name   = "invoke"
  role   = aws_iam_role.schedule.id
  policy = data.aws_iam_policy_document.invoke.json
}

resource "aws_scheduler_schedule" "this" {
  name                = "${var.stack}-sweeper"
  description         = "Has the function ${var.stack}-sweeper look at what is due."
  schedule_expression = "rate(1 minute)"
  kms_key_arn         = var.environment_kms_key_arn

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = module.function.arn
    role_arn = aws_iam_role.schedule.arn

    # The next minute's sweep does what a failed one did not.
    retry_policy {
      maximum_event_age_in_seconds = 60
      maximum_retry_attempts       = 0
    }
  }
}
