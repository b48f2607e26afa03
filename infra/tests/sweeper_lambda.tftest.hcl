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
  stack      = "t"
  bucket     = "b"
  package    = { s3_bucket = "code", s3_key = "roost.zip" }
  policy_arn = "arn:aws:iam::123456789012:policy/p"
}

run "it_runs_every_minute" {
  command = apply

  module {
    source = "./modules/sweeper-lambda"
  }

  assert {
    condition     = aws_scheduler_schedule.this.schedule_expression == "rate(1 minute)"
    error_message = "Every minute."
  }

  assert {
    condition     = aws_scheduler_schedule.this.target[0].retry_policy[0].maximum_retry_attempts == 0
    error_message = "The next minute is the retry."
  }
}

run "retention_is_not_negative" {
  command = plan

  module {
    source = "./modules/sweeper-lambda"
  }

  variables {
    retention_days = -1
  }

  expect_failures = [var.retention_days]
}

run "what_aws_would_refuse_is_refused_before" {
  command = plan

  module {
    source = "./modules/sweeper-lambda"
  }

  variables {
    environment_kms_key_arn = "alias/mine"
    log_kms_key_arn         = "alias/mine"
    memory_mb               = 64
    stack                   = "A_Stack"
    package                 = { s3_bucket = "b" }
    runtime                 = "python3.10"
    architecture            = "sparc"
    log_retention_days      = 2
  }

  expect_failures = [var.environment_kms_key_arn, var.log_kms_key_arn, var.memory_mb, var.stack, var.package, var.runtime, var.architecture, var.log_retention_days]
}
