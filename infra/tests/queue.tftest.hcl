mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }

  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }

  mock_data "aws_region" {
    defaults = { id = "us-east-1" }
  }

  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }

  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/r" }
  }

  mock_resource "aws_iam_policy" {
    defaults = { arn = "arn:aws:iam::123456789012:policy/p" }
  }

  mock_resource "aws_lambda_function" {
    defaults = {
      arn        = "arn:aws:lambda:us-east-1:123456789012:function:f"
      invoke_arn = "arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/f/invocations"
    }
  }

  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:us-east-1:123456789012:log-group:g" }
  }

  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws:sqs:us-east-1:123456789012:q" }
  }

  mock_resource "aws_s3_bucket" {
    defaults = { arn = "arn:aws:s3:::b" }
  }

  mock_resource "aws_ecs_cluster" {
    defaults = { arn = "arn:aws:ecs:us-east-1:123456789012:cluster/c" }
  }

  mock_resource "aws_appautoscaling_policy" {
    defaults = { arn = "arn:aws:autoscaling:us-east-1:123456789012:scalingPolicy:p" }
  }

  mock_resource "aws_apigatewayv2_api" {
    defaults = { execution_arn = "arn:aws:execute-api:us-east-1:123456789012:a" }
  }
}

variables {
  stack = "t"
}

run "queues_are_as_the_definition_says" {
  command = apply

  module {
    source = "./modules/queue"
  }

  assert {
    condition     = toset(keys(aws_sqs_queue.lane)) == toset(["high", "normal", "low"])
    error_message = "There is a queue for each lane."
  }

  assert {
    condition     = alltrue([for queue in aws_sqs_queue.lane : queue.visibility_timeout_seconds == 30])
    error_message = "The visibility timeout is that of the definition."
  }

  assert {
    condition     = alltrue([for queue in aws_sqs_queue.lane : jsondecode(queue.redrive_policy).maxReceiveCount == 100])
    error_message = "A busy lease is no dead letter."
  }

  assert {
    condition     = aws_sqs_queue.dead.message_retention_seconds == 1209600
    error_message = "Dead letters are kept for 14 days."
  }

  assert {
    condition     = alltrue([for queue in aws_sqs_queue.lane : queue.sqs_managed_sse_enabled])
    error_message = "Messages are encrypted."
  }

  assert {
    condition     = alltrue([for queue in aws_sqs_queue.lane : jsondecode(queue.policy).Statement[0].Condition.Bool["aws:SecureTransport"] == "false"])
    error_message = "Nothing goes without TLS."
  }

  assert {
    condition     = length(jsondecode(aws_sqs_queue.dead.redrive_allow_policy).sourceQueueArns) == 3
    error_message = "Only the lanes have dead letters there."
  }

  assert {
    condition     = jsondecode(aws_sqs_queue.lane["low"].policy).Statement[0].Resource == "arn:aws:sqs:us-east-1:123456789012:t-low"
    error_message = "ARNs are put together as SQS has them."
  }
}

run "a_key_of_your_own" {
  command = plan

  module {
    source = "./modules/queue"
  }

  variables {
    kms_key_arn        = "arn:aws:kms:us-east-1:123456789012:key/1"
    visibility_seconds = 5400
  }

  assert {
    condition     = alltrue([for queue in aws_sqs_queue.lane : queue.kms_master_key_id == var.kms_key_arn])
    error_message = "The key is used."
  }

  assert {
    condition     = output.visibility_seconds == 5400
    error_message = "The visibility timeout is the one given."
  }
}

run "a_stack_is_named_as_roost_takes_it" {
  command = plan

  module {
    source = "./modules/queue"
  }

  variables {
    stack = "-t"
  }

  expect_failures = [var.stack]
}

run "visibility_is_not_below_a_lease" {
  command = plan

  module {
    source = "./modules/queue"
  }

  variables {
    visibility_seconds = 29
  }

  expect_failures = [var.visibility_seconds]
}

run "visibility_is_twelve_hours_at_most" {
  command = plan

  module {
    source = "./modules/queue"
  }

  variables {
    visibility_seconds = 43201
  }

  expect_failures = [var.visibility_seconds]
}

run "a_key_is_an_arn" {
  command = plan

  module {
    source = "./modules/queue"
  }

  variables {
    kms_key_arn = "alias/mine"
  }

  expect_failures = [var.kms_key_arn]
}
