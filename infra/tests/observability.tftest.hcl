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
}

run "every_alarm_says_what_to_do" {
  command = plan

  module {
    source = "./modules/observability"
  }

  variables {
    function_names        = ["t-worker", "t-sweeper"]
    sweeper_function_name = "t-sweeper"
    console               = { api_id = "a" }
    ecs                   = { cluster_name = "t", service_name = "t-worker" }
    alarm_topic_arns      = ["arn:aws:sns:us-east-1:123456789012:alarms"]
  }

  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.this : strcontains(alarm.alarm_description, "operations.md#")])
    error_message = "Every alarm links to its runbook."
  }

  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.this : length(alarm.alarm_actions) == 1 && length(alarm.ok_actions) == 1])
    error_message = "Somebody is told, also of the end."
  }

  assert {
    condition     = alltrue([for name in ["oldest-message-low", "dead-letters", "function-errors-t-worker", "function-throttles-t-worker", "sweeper-silent", "no-workers", "console-errors"] : contains(keys(aws_cloudwatch_metric_alarm.this), name)])
    error_message = "There is an alarm for everything."
  }

  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.throttled : strcontains(alarm.alarm_description, "operations.md#throttled") && length(alarm.alarm_actions) == 1 && length(alarm.ok_actions) == 1])
    error_message = "These as well."
  }

  assert {
    condition = {
      for key, alarm in aws_cloudwatch_metric_alarm.throttled :
      key => [for query in alarm.metric_query : query.expression if query.return_data][0]
      } == {
      journal = "FILL(table,0)+FILL(marks,0)"
      index   = "FILL(table,0)+FILL(due,0)+FILL(state,0)"
      claims  = "FILL(table,0)"
    }
    error_message = "A hot index throttles as a table does."
  }

  assert {
    condition     = contains([for widget in jsondecode(aws_cloudwatch_dashboard.this.dashboard_body).widgets : widget.properties.metrics if widget.properties.title == "Throttled writes"][0], ["AWS/DynamoDB", "WriteThrottleEvents", "GlobalSecondaryIndexName", "due", "TableName", "t-index"])
    error_message = "The dashboard shows it for each index."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.this["sweeper-silent"].treat_missing_data == "breaching"
    error_message = "Silence is the fault there."
  }

  assert {
    condition     = length(jsondecode(aws_cloudwatch_dashboard.this.dashboard_body).widgets) == 10
    error_message = "The dashboard shows all of it."
  }
}

run "what_is_not_there_has_no_alarm" {
  command = plan

  module {
    source = "./modules/observability"
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.this) + length(aws_cloudwatch_metric_alarm.throttled) == 7
    error_message = "Lanes, dead letters and tables."
  }
}

run "alarms_say_what_to_do" {
  command = plan

  module {
    source = "./modules/observability"
  }

  assert {
    condition     = endswith(aws_cloudwatch_metric_alarm.this["dead-letters"].alarm_description, "What to do: infra/operations.md#dead-letters")
    error_message = "Without an address of yours, the guide's section."
  }
}

run "alarms_link_to_your_copy_of_the_guide" {
  command = plan

  module {
    source = "./modules/observability"
  }

  variables {
    runbook_url = "https://wiki.example.com/roost"
  }

  assert {
    condition     = endswith(aws_cloudwatch_metric_alarm.this["dead-letters"].alarm_description, "What to do: https://wiki.example.com/roost#dead-letters")
    error_message = "A link to a section."
  }
}

run "sqs_tells_ages_once_a_minute" {
  command = plan

  module {
    source = "./modules/observability"
  }

  variables {
    oldest_seconds = 59
  }

  expect_failures = [var.oldest_seconds]
}

run "a_runbook_is_on_the_web" {
  command = plan

  module {
    source = "./modules/observability"
  }

  variables {
    runbook_url = "infra/operations.md"
  }

  expect_failures = [var.runbook_url]
}

run "what_aws_would_refuse_is_refused_before" {
  command = plan

  module {
    source = "./modules/observability"
  }

  variables {
    alarm_topic_arns = ["people@example.com"]
    stack            = "A_Stack"
  }

  expect_failures = [var.alarm_topic_arns, var.stack]
}
