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
  authorizer = { type = "AWS_IAM" }
}

run "nobody_gets_in_unsigned" {
  command = apply

  module {
    source = "./modules/console"
  }

  assert {
    condition     = aws_apigatewayv2_route.default.authorization_type == "AWS_IAM"
    error_message = "Requests are signed."
  }

  assert {
    condition     = aws_apigatewayv2_integration.this.payload_format_version == "2.0"
    error_message = "The payload is the one the adapter reads."
  }

  assert {
    condition     = aws_apigatewayv2_stage.default.default_route_settings[0].throttling_rate_limit == 50
    error_message = "Requests are throttled."
  }

  assert {
    condition     = length(aws_apigatewayv2_stage.default.access_log_settings) == 1
    error_message = "Who asked for what is logged."
  }

  assert {
    condition     = length(aws_apigatewayv2_authorizer.jwt) == 0
    error_message = "There is no authorizer that nobody uses."
  }
}

run "a_token_of_your_issuer" {
  command = apply

  module {
    source = "./modules/console"
  }

  variables {
    authorizer = { type = "JWT", issuer = "https://issuer", audience = ["roost"], scopes = ["read"] }
  }

  assert {
    condition     = aws_apigatewayv2_route.default.authorization_type == "JWT" && aws_apigatewayv2_route.default.authorizer_id != null
    error_message = "Tokens are checked."
  }

  assert {
    condition     = aws_apigatewayv2_route.default.authorization_scopes == toset(["read"])
    error_message = "Scopes are checked."
  }
}

run "the_console_signs_in_itself" {
  command = plan

  module {
    source = "./modules/console"
  }

  variables {
    authorizer  = { type = "CONSOLE" }
    environment = { ROOST_CONSOLE__OPERATOR_TOKEN = "secret" }
  }

  assert {
    condition     = aws_apigatewayv2_route.default.authorization_type == "NONE" && local.sign_in == "token"
    error_message = "The console asks for its token."
  }
}

run "not_everybody_may_come" {
  command = plan

  module {
    source = "./modules/console"
  }

  variables {
    authorizer = { type = "NONE" }
  }

  expect_failures = [var.authorizer]
}

run "tokens_come_from_somewhere" {
  command = plan

  module {
    source = "./modules/console"
  }

  variables {
    authorizer = { type = "JWT" }
  }

  expect_failures = [var.authorizer]
}

run "a_console_that_asks_has_something_to_ask_for" {
  command = plan

  module {
    source = "./modules/console"
  }

  variables {
    authorizer = { type = "CONSOLE" }
  }

  expect_failures = [var.authorizer]
}

run "a_rate_of_zero_is_nobody" {
  command = plan

  module {
    source = "./modules/console"
  }

  variables {
    requests_per_second = 0
  }

  expect_failures = [var.requests_per_second]
}

run "a_burst_of_zero_is_nobody" {
  command = plan

  module {
    source = "./modules/console"
  }

  variables {
    requests_at_once = 0
  }

  expect_failures = [var.requests_at_once]
}

run "what_aws_would_refuse_is_refused_before" {
  command = plan

  module {
    source = "./modules/console"
  }

  variables {
    environment_kms_key_arn = "alias/mine"
    log_kms_key_arn         = "alias/mine"
    reserved_concurrency    = -2
    memory_mb               = 64
    stack                   = "A_Stack"
    package                 = { s3_bucket = "b" }
    runtime                 = "python3.10"
    architecture            = "sparc"
    log_retention_days      = 2
  }

  expect_failures = [var.environment_kms_key_arn, var.log_kms_key_arn, var.reserved_concurrency, var.memory_mb, var.stack, var.package, var.runtime, var.architecture, var.log_retention_days]
}


run "a_group_with_a_comma_would_be_two" {
  command = plan

  module {
    source = "./modules/console"
  }

  variables {
    roles = { admins = ["platform,on-call"] }
  }

  expect_failures = [var.roles]
}
