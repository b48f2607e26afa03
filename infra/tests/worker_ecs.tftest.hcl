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
  stack  = "t"
  bucket = "b"
  lanes = {
    high   = { name = "t-high", arn = "arn:aws:sqs:us-east-1:123456789012:t-high", url = "https://q/t-high" }
    normal = { name = "t-normal", arn = "arn:aws:sqs:us-east-1:123456789012:t-normal", url = "https://q/t-normal" }
    low    = { name = "t-low", arn = "arn:aws:sqs:us-east-1:123456789012:t-low", url = "https://q/t-low" }
  }
  policy_arn         = "arn:aws:iam::123456789012:policy/p"
  image              = "registry/roost:1.0"
  subnet_ids         = ["subnet-1"]
  security_group_ids = ["sg-1"]
}

run "a_task_is_made_to_drain" {
  command = apply

  module {
    source = "./modules/worker-ecs"
  }

  variables {
    grace_seconds = 90
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.this.container_definitions)[0].stopTimeout == 100
    error_message = "ECS waits longer than the worker does."
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.this.container_definitions)[0].readonlyRootFilesystem
    error_message = "The root file system is read-only."
  }

  assert {
    condition     = jsondecode(aws_ecs_task_definition.this.container_definitions)[0].user == "10001:10001"
    error_message = "The worker is not root."
  }

  assert {
    condition     = one([for one in jsondecode(aws_ecs_task_definition.this.container_definitions)[0].environment : one.value if one.name == "ROOST_WORKER__GRACE_SECONDS"]) == "90"
    error_message = "The worker knows its grace period."
  }

  assert {
    condition     = aws_ecs_task_definition.this.task_role_arn != null && aws_iam_role.task.name != aws_iam_role.execution.name
    error_message = "The worker and ECS have roles of their own."
  }

  assert {
    condition     = length(aws_appautoscaling_policy.from_zero) == 0
    error_message = "There is always a task."
  }

  assert {
    condition     = length(aws_ecs_service.this.capacity_provider_strategy) == 1
    error_message = "Nothing runs on Spot unless it is asked for."
  }
}

run "to_zero_and_on_spot" {
  command = apply

  module {
    source = "./modules/worker-ecs"
  }

  variables {
    tasks_min    = 0
    spot_percent = 80
    secrets      = { KEY = "arn:aws:secretsmanager:us-east-1:123456789012:secret:s-AbCdEf:key::", OTHER = "arn:aws:ssm:us-east-1:123456789012:parameter/p" }
  }

  assert {
    condition     = aws_appautoscaling_target.this.min_capacity == 0 && length(aws_appautoscaling_policy.from_zero) == 1
    error_message = "It starts from nothing."
  }

  assert {
    condition     = { for one in aws_ecs_service.this.capacity_provider_strategy : one.capacity_provider => one.weight } == { FARGATE = 20, FARGATE_SPOT = 80 }
    error_message = "Four of five on Spot."
  }

  assert {
    condition     = local.managed_secrets == ["arn:aws:secretsmanager:us-east-1:123456789012:secret:s-AbCdEf"] && local.parameters == ["arn:aws:ssm:us-east-1:123456789012:parameter/p"]
    error_message = "Each secret is read by its own action."
  }
}

run "an_image_is_pinned" {
  command = plan

  module {
    source = "./modules/worker-ecs"
  }

  variables {
    image = "registry/roost:latest"
  }

  expect_failures = [var.image]
}

run "an_image_has_a_version" {
  command = plan

  module {
    source = "./modules/worker-ecs"
  }

  variables {
    image = "roost"
  }

  expect_failures = [var.image]
}

run "fargate_waits_two_minutes_at_most" {
  command = plan

  module {
    source = "./modules/worker-ecs"
  }

  variables {
    grace_seconds = 111
  }

  expect_failures = [var.grace_seconds]
}

run "fargate_has_certain_cpus" {
  command = plan

  module {
    source = "./modules/worker-ecs"
  }

  variables {
    cpu_units = 500
  }

  expect_failures = [var.cpu_units]
}

run "a_worker_is_not_root" {
  command = plan

  module {
    source = "./modules/worker-ecs"
  }

  variables {
    health_port = 80
  }

  expect_failures = [var.health_port]
}

run "a_subnet_is_needed" {
  command = plan

  module {
    source = "./modules/worker-ecs"
  }

  variables {
    subnet_ids = []
  }

  expect_failures = [var.subnet_ids]
}

run "a_percent_is_a_percent" {
  command = plan

  module {
    source = "./modules/worker-ecs"
  }

  variables {
    spot_percent = 101
  }

  expect_failures = [var.spot_percent]
}

run "secrets_are_arns" {
  command = plan

  module {
    source = "./modules/worker-ecs"
  }

  variables {
    secrets = { KEY = "hunter2" }
  }

  expect_failures = [var.secrets]
}

run "the_ceiling_is_above_the_floor" {
  command = plan

  module {
    source = "./modules/worker-ecs"
  }

  variables {
    tasks_min = 3
    tasks_max = 2
  }

  expect_failures = [var.tasks_max]
}

run "leases_end_with_sqs" {
  command = plan

  module {
    source = "./modules/worker-ecs"
  }

  variables {
    lease_seconds = 43201
  }

  expect_failures = [var.lease_seconds]
}

run "fargate_has_memory_for_its_cpu" {
  command = plan

  module {
    source = "./modules/worker-ecs"
  }

  variables {
    cpu_units = 4096
    memory_mb = 4096
  }

  expect_failures = [var.memory_mb]
}

run "what_aws_would_refuse_is_refused_before" {
  command = plan

  module {
    source = "./modules/worker-ecs"
  }

  variables {
    log_kms_key_arn    = "alias/mine"
    tasks_on_demand    = -1
    memory_mb          = 1536
    stack              = "A_Stack"
    concurrency        = 0
    retention_days     = -1
    architecture       = "sparc"
    tasks_min          = -1
    work_per_task      = 0
    oldest_seconds     = 30
    log_retention_days = 2
  }

  expect_failures = [var.log_kms_key_arn, var.tasks_on_demand, var.memory_mb, var.stack, var.concurrency, var.retention_days, var.architecture, var.tasks_min, var.work_per_task, var.oldest_seconds, var.log_retention_days]
}
