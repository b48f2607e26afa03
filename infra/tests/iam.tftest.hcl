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
  tables = {
    journal = { name = "t-journal", arn = "arn:aws:dynamodb:us-east-1:123456789012:table/t-journal" }
    index   = { name = "t-index", arn = "arn:aws:dynamodb:us-east-1:123456789012:table/t-index" }
    claims  = { name = "t-claims", arn = "arn:aws:dynamodb:us-east-1:123456789012:table/t-claims" }
  }
  lanes = {
    high   = { name = "t-high", arn = "arn:aws:sqs:us-east-1:123456789012:t-high", url = "https://q/t-high" }
    normal = { name = "t-normal", arn = "arn:aws:sqs:us-east-1:123456789012:t-normal", url = "https://q/t-normal" }
    low    = { name = "t-low", arn = "arn:aws:sqs:us-east-1:123456789012:t-low", url = "https://q/t-low" }
  }
  dead_letters = { name = "t-dead", arn = "arn:aws:sqs:us-east-1:123456789012:t-dead", url = "https://q/t-dead" }
  stream_arn   = "arn:aws:dynamodb:us-east-1:123456789012:table/t-journal/stream/s"
  bucket_arn   = "arn:aws:s3:::b"
  blobs_arn    = "arn:aws:s3:::b/blobs/*"
}

run "there_is_a_policy_for_each_role" {
  command = plan

  module {
    source = "./modules/iam"
  }

  assert {
    condition     = toset(keys(aws_iam_policy.role)) == toset(["enqueuer", "worker", "sweeper", "console_viewer", "console_operator"])
    error_message = "Five roles."
  }

  assert {
    condition     = aws_iam_policy.role["console_viewer"].name == "t-console-viewer"
    error_message = "Named after the stack and the role."
  }

  assert {
    condition     = !anytrue(values(local.is_fenced))
    error_message = "Without namespaces nobody is fenced in."
  }
}

run "a_team_is_fenced_in" {
  command = plan

  module {
    source = "./modules/iam"
  }

  variables {
    name       = "t-team"
    namespaces = ["team"]
  }

  assert {
    condition     = local.is_fenced["enqueuer"] && local.is_fenced["console_viewer"] && local.is_fenced["console_operator"]
    error_message = "Enqueuers and consoles are fenced in."
  }

  assert {
    condition     = !local.is_fenced["worker"] && !local.is_fenced["sweeper"]
    error_message = "Workers and sweepers serve all."
  }

  assert {
    condition     = alltrue([for grant in local.grants["console_viewer"] : !contains(grant.actions, "dynamodb:Scan")])
    error_message = "A fence does not hold a scan."
  }

  assert {
    condition     = alltrue([for grant in local.grants["console_viewer"] : grant.fence if startswith(grant.part, "index") || contains(["journal", "claims"], grant.part)])
    error_message = "Every table is fenced."
  }

  assert {
    condition     = aws_iam_policy.role["enqueuer"].name == "t-team-enqueuer"
    error_message = "Named after the team."
  }
}

run "a_namespace_is_named_as_roost_takes_it" {
  command = plan

  module {
    source = "./modules/iam"
  }

  variables {
    namespaces = ["team", "*"]
  }

  expect_failures = [var.namespaces]
}

run "what_belongs_to_all_namespaces_is_no_team_s" {
  command = plan

  module {
    source = "./modules/iam"
  }

  variables {
    namespaces = ["roost-keys"]
  }

  expect_failures = [var.namespaces]
}

run "all_tables_are_needed" {
  command = plan

  module {
    source = "./modules/iam"
  }

  variables {
    tables = { journal = { name = "t-journal", arn = "arn:aws:dynamodb:us-east-1:123456789012:table/t-journal" }, index = { name = "i", arn = "i" }, other = { name = "o", arn = "o" } }
  }

  expect_failures = [var.tables]
}

run "a_policy_is_named_as_iam_takes_it" {
  command = plan

  module {
    source = "./modules/iam"
  }

  variables {
    name = "my team"
  }

  expect_failures = [var.name]
}

run "what_aws_would_refuse_is_refused_before" {
  command = plan

  module {
    source = "./modules/iam"
  }

  variables {
    kms_key_arns = ["alias/mine"]
    stack        = "A_Stack"
  }

  expect_failures = [var.kms_key_arns, var.stack]
}
