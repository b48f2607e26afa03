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
  name            = "f"
  description     = "d"
  handler         = "h"
  policy_arn      = "arn:aws:iam::123456789012:policy/p"
  timeout_seconds = 60
  memory_mb       = 512
  package         = { image_uri = "registry/roost:1.0" }
}

run "an_image_is_told_what_it_is" {
  command = apply

  module {
    source = "./modules/function"
  }

  assert {
    condition     = aws_lambda_function.this.package_type == "Image" && aws_lambda_function.this.image_config[0].command == tolist(["h"])
    error_message = "The image runs the handler."
  }

  assert {
    condition     = aws_lambda_function.this.handler == null
    error_message = "An image has no handler setting."
  }

  assert {
    condition     = length(aws_iam_role_policy_attachment.network) == 0
    error_message = "Without a network it has no rights on one."
  }
}

run "a_zip_has_a_runtime" {
  command = plan

  module {
    source = "./modules/function"
  }

  variables {
    package = { s3_bucket = "code", s3_key = "roost.zip" }
    vpc     = { subnet_ids = ["subnet-1"], security_group_ids = ["sg-1"] }
  }

  assert {
    condition     = aws_lambda_function.this.package_type == "Zip" && aws_lambda_function.this.handler == "h" && aws_lambda_function.this.runtime == "python3.13"
    error_message = "A zip is run by a runtime."
  }

  assert {
    condition     = length(aws_iam_role_policy_attachment.network) == 1
    error_message = "In a network it may have interfaces there."
  }
}

run "code_comes_from_one_place" {
  command = plan

  module {
    source = "./modules/function"
  }

  variables {
    package = { image_uri = "registry/roost:1.0", filename = "roost.zip" }
  }

  expect_failures = [aws_lambda_function.this]
}

run "code_comes_from_somewhere" {
  command = plan

  module {
    source = "./modules/function"
  }

  variables {
    package = {}
  }

  expect_failures = [aws_lambda_function.this]
}

run "memory_is_what_lambda_has" {
  command = plan

  module {
    source = "./modules/function"
  }

  variables {
    memory_mb = 64
  }

  expect_failures = [var.memory_mb]
}

run "concurrency_is_a_number" {
  command = plan

  module {
    source = "./modules/function"
  }

  variables {
    reserved_concurrency = -2
  }

  expect_failures = [var.reserved_concurrency]
}

run "a_function_is_named_as_lambda_takes_it" {
  command = plan

  module {
    source = "./modules/function"
  }

  variables {
    name = "a b"
  }

  expect_failures = [var.name]
}

run "what_aws_would_refuse_is_refused_before" {
  command = plan

  module {
    source = "./modules/function"
  }

  variables {
    environment_kms_key_arn = "alias/mine"
    log_kms_key_arn         = "alias/mine"
    timeout_seconds         = 901
    package                 = { s3_bucket = "b" }
    runtime                 = "python3.10"
    architecture            = "sparc"
    log_retention_days      = 2
  }

  expect_failures = [var.environment_kms_key_arn, var.log_kms_key_arn, var.timeout_seconds, var.package, var.runtime, var.architecture, var.log_retention_days]
}
