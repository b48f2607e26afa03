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
  lanes = {
    high   = { name = "t-high", arn = "arn:aws:sqs:us-east-1:123456789012:t-high", url = "https://q/t-high" }
    normal = { name = "t-normal", arn = "arn:aws:sqs:us-east-1:123456789012:t-normal", url = "https://q/t-normal" }
    low    = { name = "t-low", arn = "arn:aws:sqs:us-east-1:123456789012:t-low", url = "https://q/t-low" }
  }
  visibility_seconds = 5400
}

run "failures_of_a_batch_are_told_apart" {
  command = apply

  module {
    source = "./modules/worker-lambda"
  }

  assert {
    condition     = length(aws_lambda_event_source_mapping.lane) == 3
    error_message = "Every lane is served."
  }

  assert {
    condition     = alltrue([for source in aws_lambda_event_source_mapping.lane : contains(source.function_response_types, "ReportBatchItemFailures")])
    error_message = "What is refused comes again."
  }
}

run "a_lane_has_its_share" {
  command = plan

  module {
    source = "./modules/worker-lambda"
  }

  variables {
    concurrency_per_lane = 5
  }

  assert {
    condition     = alltrue([for source in aws_lambda_event_source_mapping.lane : source.scaling_config[0].maximum_concurrency == 5])
    error_message = "A lane takes five at most."
  }
}

run "visibility_is_six_times_the_timeout" {
  command = plan

  module {
    source = "./modules/worker-lambda"
  }

  variables {
    visibility_seconds = 5399
  }

  expect_failures = [aws_lambda_event_source_mapping.lane]
}

run "a_shorter_timeout_does_with_less" {
  command = plan

  module {
    source = "./modules/worker-lambda"
  }

  variables {
    visibility_seconds = 360
    timeout_seconds    = 60
  }

  assert {
    condition     = output.function_name == "t-worker"
    error_message = "Named after the stack."
  }
}

run "an_invocation_has_time_for_a_step" {
  command = plan

  module {
    source = "./modules/worker-lambda"
  }

  variables {
    timeout_seconds = 29
  }

  expect_failures = [var.timeout_seconds]
}

run "lambda_gives_fifteen_minutes" {
  command = plan

  module {
    source = "./modules/worker-lambda"
  }

  variables {
    timeout_seconds = 901
  }

  expect_failures = [var.timeout_seconds]
}

run "a_batch_is_ten_at_most" {
  command = plan

  module {
    source = "./modules/worker-lambda"
  }

  variables {
    batch_size = 11
  }

  expect_failures = [var.batch_size]
}

run "lambda_takes_two_at_least" {
  command = plan

  module {
    source = "./modules/worker-lambda"
  }

  variables {
    concurrency_per_lane = 1
  }

  expect_failures = [var.concurrency_per_lane]
}

run "a_lease_is_not_a_blink" {
  command = plan

  module {
    source = "./modules/worker-lambda"
  }

  variables {
    lease_seconds = 1
  }

  expect_failures = [var.lease_seconds]
}

run "roost_needs_a_newer_python" {
  command = plan

  module {
    source = "./modules/worker-lambda"
  }

  variables {
    runtime = "python3.10"
  }

  expect_failures = [var.runtime]
}

run "lambda_has_two_architectures" {
  command = plan

  module {
    source = "./modules/worker-lambda"
  }

  variables {
    architecture = "riscv"
  }

  expect_failures = [var.architecture]
}

run "logs_are_kept_for_certain_times" {
  command = plan

  module {
    source = "./modules/worker-lambda"
  }

  variables {
    log_retention_days = 31
  }

  expect_failures = [var.log_retention_days]
}

run "a_key_needs_its_bucket" {
  command = plan

  module {
    source = "./modules/worker-lambda"
  }

  variables {
    package = { s3_key = "roost.zip" }
  }

  expect_failures = [var.package]
}

run "what_aws_would_refuse_is_refused_before" {
  command = plan

  module {
    source = "./modules/worker-lambda"
  }

  variables {
    visibility_seconds      = 43201
    environment_kms_key_arn = "alias/mine"
    log_kms_key_arn         = "alias/mine"
    reserved_concurrency    = -2
    memory_mb               = 64
    stack                   = "A_Stack"
  }

  expect_failures = [var.visibility_seconds, var.environment_kms_key_arn, var.log_kms_key_arn, var.reserved_concurrency, var.memory_mb, var.stack]
}
