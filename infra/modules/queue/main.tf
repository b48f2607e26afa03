# A queue for each lane, and one for dead letters. Names and times come from the same file that
# `roost aws create` and the tests read. ARNs are put together here and not read back, so that
# each queue is one resource: the provider waits 25 seconds for every change of a queue.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  queues             = jsondecode(file("${path.module}/../../../roost/storage/aws/stack.json")).queues
  visibility_seconds = var.visibility_seconds == null ? local.queues.visibility_seconds : var.visibility_seconds

  prefix = "arn:${data.aws_partition.current.partition}:sqs:${data.aws_region.current.id}:${data.aws_caller_identity.current.account_id}:${var.stack}"
  arns   = { for name in concat(local.queues.lanes, [local.queues.dead_letter]) : name => "${local.prefix}-${name}" }

  policies = {
    for name, arn in local.arns : name => jsonencode({
      Version = "2012-10-17"
      Statement = [{
        Sid       = "OnlyOverTls"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sqs:*"
        Resource  = arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      }]
    })
  }
}

resource "aws_sqs_queue" "dead" {
  name                              = "${var.stack}-${local.queues.dead_letter}"
  message_retention_seconds         = local.queues.dead_letter_retention_seconds
  sqs_managed_sse_enabled           = var.kms_key_arn == null ? true : null
  kms_master_key_id                 = var.kms_key_arn
  kms_data_key_reuse_period_seconds = var.kms_key_arn == null ? null : 3600
  policy                            = local.policies[local.queues.dead_letter]
  tags                              = var.tags

  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [for lane in local.queues.lanes : local.arns[lane]]
  })
}

resource "aws_sqs_queue" "lane" {
  for_each = toset(local.queues.lanes)

  name                              = "${var.stack}-${each.key}"
  visibility_timeout_seconds        = local.visibility_seconds
  message_retention_seconds         = local.queues.retention_seconds
  receive_wait_time_seconds         = local.queues.receive_wait_seconds
  sqs_managed_sse_enabled           = var.kms_key_arn == null ? true : null
  kms_master_key_id                 = var.kms_key_arn
  kms_data_key_reuse_period_seconds = var.kms_key_arn == null ? null : 3600
  policy                            = local.policies[each.key]
  tags                              = var.tags

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead.arn
    maxReceiveCount     = local.queues.max_receive_count
  })
}
