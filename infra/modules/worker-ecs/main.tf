# Workers as processes: a Fargate service that grows with what waits and shrinks to nothing.

data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  name         = "${var.stack}-worker"
  cluster_name = var.cluster_name == null ? aws_ecs_cluster.this[0].name : var.cluster_name
  cluster_arn  = var.cluster_name == null ? aws_ecs_cluster.this[0].arn : data.aws_ecs_cluster.given[0].arn

  # What the process needs after its grace period: interrupted steps get 5 s, then it lets go.
  stop_seconds = var.grace_seconds + 10

  environment = merge({
    ROOST_STORAGE               = "aws:${var.stack}"
    ROOST_AWS__BUCKET           = var.bucket
    ROOST_LEASE_SECONDS         = tostring(var.lease_seconds)
    ROOST_LOG_FORMAT            = "json"
    ROOST_RETENTION_SECONDS     = tostring(var.retention_days * 86400)
    ROOST_WORKER__CONCURRENCY   = tostring(var.concurrency)
    ROOST_WORKER__ENGINES       = var.engines
    ROOST_WORKER__GRACE_SECONDS = tostring(var.grace_seconds)
    ROOST_WORKER__HEALTH_PORT   = tostring(var.health_port)
  }, var.environment)
}

data "aws_ecs_cluster" "given" {
  count = var.cluster_name == null ? 0 : 1

  cluster_name = var.cluster_name
}

resource "aws_ecs_cluster" "this" {
  count = var.cluster_name == null ? 1 : 0

  name = var.stack
  tags = var.tags

  # Autoscaling divides what waits by the number of running tasks, which this counts.
  setting {
    name  = "containerInsights"
    value = "enabled"
  }
}

resource "aws_ecs_cluster_capacity_providers" "this" {
  count = var.cluster_name == null ? 1 : 0

  cluster_name       = aws_ecs_cluster.this[0].name
  capacity_providers = ["FARGATE", "FARGATE_SPOT"]
}

resource "aws_cloudwatch_log_group" "this" {
  name              = "/roost/${local.name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.log_kms_key_arn
  tags              = var.tags
}

resource "aws_ecs_task_definition" "this" {
  family                   = local.name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.cpu_units
  memory                   = var.memory_mb
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.task.arn
  tags                     = var.tags

  runtime_platform {
    cpu_architecture        = var.architecture
    operating_system_family = "LINUX"
  }

  # Blobs above 8 MB and what engines write go here; the root file system is read-only.
  volume {
    name = "tmp"
  }

  container_definitions = jsonencode([{
    name                   = "worker"
    image                  = var.image
    essential              = true
    command                = ["worker"]
    user                   = "10001:10001"
    readonlyRootFilesystem = true
    stopTimeout            = local.stop_seconds
    environment            = [for name in sort(keys(local.environment)) : { name = name, value = local.environment[name] }]
    secrets                = [for name in sort(keys(var.secrets)) : { name = name, valueFrom = var.secrets[name] }]
    mountPoints            = [{ sourceVolume = "tmp", containerPath = "/tmp", readOnly = false }]
    portMappings           = []
    systemControls         = []
    volumesFrom            = []
    linuxParameters        = { initProcessEnabled = true }

    healthCheck = {
      command     = ["CMD", "python", "-m", "roost.hosting.probe", tostring(var.health_port)]
      interval    = 30
      timeout     = 10
      retries     = 3
      startPeriod = 60
    }

    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.this.name
        awslogs-region        = data.aws_region.current.id
        awslogs-stream-prefix = "worker"
        mode                  = "non-blocking"
        max-buffer-size       = "4m"
      }
    }
  }])
}

resource "aws_ecs_service" "this" {
  name                               = local.name
  cluster                            = local.cluster_arn
  task_definition                    = aws_ecs_task_definition.this.arn
  desired_count                      = max(var.tasks_min, 1)
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  enable_ecs_managed_tags            = true
  propagate_tags                     = "SERVICE"
  tags                               = var.tags

  # The base runs on demand, what is above it on Spot by its share. A Spot task gets SIGTERM two
  # minutes before it goes, and hands its work over as for any other stop.
  dynamic "capacity_provider_strategy" {
    for_each = var.spot_percent < 100 ? [1] : []

    content {
      capacity_provider = "FARGATE"
      base              = var.tasks_on_demand
      weight            = 100 - var.spot_percent
    }
  }

  dynamic "capacity_provider_strategy" {
    for_each = var.spot_percent > 0 ? [1] : []

    content {
      capacity_provider = "FARGATE_SPOT"
      base              = 0
      weight            = var.spot_percent
    }
  }

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = var.subnet_ids
    security_groups  = var.security_group_ids
    assign_public_ip = var.assign_public_ip
  }

  # Autoscaling sets the count from here on.
  lifecycle {
    ignore_changes = [desired_count]
  }

  depends_on = [aws_ecs_cluster_capacity_providers.this, aws_iam_role_policy_attachment.task]
}
