# Three things move the number of tasks: work per task, the age of the oldest message, and, from
# zero tasks, that there is work at all. Work in hand counts as work, so that no task is stopped
# while all are busy.
#
# Everything is filled with 0: SQS tells nothing of a queue that nobody has touched for six hours, as
# those of other lanes while no task runs, and a sum with a series that is missing is missing.

locals {
  queue_names = sort([for lane in var.lanes : lane.name])
  letters     = [for index in range(length(local.queue_names)) : { name = local.queue_names[index], id = index }]
  waiting     = join("+", [for queue in local.letters : "FILL(waiting${queue.id},0)"])
  in_hand     = join("+", [for queue in local.letters : "FILL(inhand${queue.id},0)"])
}

resource "aws_appautoscaling_target" "this" {
  service_namespace  = "ecs"
  scalable_dimension = "ecs:service:DesiredCount"
  resource_id        = "service/${local.cluster_name}/${aws_ecs_service.this.name}"
  min_capacity       = var.tasks_min
  max_capacity       = var.tasks_max
  tags               = var.tags
}

resource "aws_appautoscaling_policy" "work_per_task" {
  name               = "${local.name}-work-per-task"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.this.service_namespace
  scalable_dimension = aws_appautoscaling_target.this.scalable_dimension
  resource_id        = aws_appautoscaling_target.this.resource_id

  target_tracking_scaling_policy_configuration {
    target_value       = var.work_per_task
    scale_out_cooldown = 30
    scale_in_cooldown  = 300

    customized_metric_specification {
      dynamic "metrics" {
        for_each = local.letters

        content {
          id          = "waiting${metrics.value.id}"
          return_data = false

          metric_stat {
            stat = "Average"

            metric {
              namespace   = "AWS/SQS"
              metric_name = "ApproximateNumberOfMessagesVisible"

              dimensions {
                name  = "QueueName"
                value = metrics.value.name
              }
            }
          }
        }
      }

      dynamic "metrics" {
        for_each = local.letters

        content {
          id          = "inhand${metrics.value.id}"
          return_data = false

          metric_stat {
            stat = "Average"

            metric {
              namespace   = "AWS/SQS"
              metric_name = "ApproximateNumberOfMessagesNotVisible"

              dimensions {
                name  = "QueueName"
                value = metrics.value.name
              }
            }
          }
        }
      }

      metrics {
        id          = "tasks"
        return_data = false

        metric_stat {
          stat = "Average"

          metric {
            namespace   = "ECS/ContainerInsights"
            metric_name = "RunningTaskCount"

            dimensions {
              name  = "ClusterName"
              value = local.cluster_name
            }

            dimensions {
              name  = "ServiceName"
              value = aws_ecs_service.this.name
            }
          }
        }
      }

      # Without tasks there is nothing to divide by: then all the work counts as that of one.
      metrics {
        id          = "work"
        label       = "work per task"
        expression  = "(${local.waiting}+${local.in_hand})/IF(FILL(tasks,0)>0,FILL(tasks,0),1)"
        return_data = true
      }
    }
  }
}

# Messages that grow old say that the tasks there are don't suffice, however few messages it are.
resource "aws_appautoscaling_policy" "oldest" {
  name               = "${local.name}-oldest-message"
  policy_type        = "StepScaling"
  service_namespace  = aws_appautoscaling_target.this.service_namespace
  scalable_dimension = aws_appautoscaling_target.this.scalable_dimension
  resource_id        = aws_appautoscaling_target.this.resource_id

  step_scaling_policy_configuration {
    adjustment_type          = "PercentChangeInCapacity"
    cooldown                 = 120
    metric_aggregation_type  = "Maximum"
    min_adjustment_magnitude = 1

    step_adjustment {
      metric_interval_lower_bound = 0
      metric_interval_upper_bound = var.oldest_seconds
      scaling_adjustment          = 25
    }

    step_adjustment {
      metric_interval_lower_bound = var.oldest_seconds
      scaling_adjustment          = 100
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "oldest" {
  alarm_name          = "${local.name}-scale-oldest-message"
  alarm_description   = "Adds tasks: a message has waited for longer than ${var.oldest_seconds} s. Nobody needs to act."
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.oldest_seconds
  evaluation_periods  = 2
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_appautoscaling_policy.oldest.arn]
  tags                = var.tags

  dynamic "metric_query" {
    for_each = local.letters

    content {
      id          = "age${metric_query.value.id}"
      return_data = false

      metric {
        namespace   = "AWS/SQS"
        metric_name = "ApproximateAgeOfOldestMessage"
        period      = 60
        stat        = "Maximum"
        dimensions  = { QueueName = metric_query.value.name }
      }
    }
  }

  metric_query {
    id          = "oldest"
    label       = "oldest message"
    expression  = "MAX([${join(",", [for queue in local.letters : "FILL(age${queue.id},0)"])}])"
    return_data = true
  }
}

# From zero: target tracking looks at averages of minutes; this one at the first message.
resource "aws_appautoscaling_policy" "from_zero" {
  count = var.tasks_min == 0 ? 1 : 0

  name               = "${local.name}-from-zero"
  policy_type        = "StepScaling"
  service_namespace  = aws_appautoscaling_target.this.service_namespace
  scalable_dimension = aws_appautoscaling_target.this.scalable_dimension
  resource_id        = aws_appautoscaling_target.this.resource_id

  step_scaling_policy_configuration {
    adjustment_type         = "ExactCapacity"
    cooldown                = 60
    metric_aggregation_type = "Maximum"

    step_adjustment {
      metric_interval_lower_bound = 0
      scaling_adjustment          = 1
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "from_zero" {
  count = var.tasks_min == 0 ? 1 : 0

  alarm_name          = "${local.name}-scale-from-zero"
  alarm_description   = "Starts a task: there is work, and nobody to do it. Nobody needs to act."
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = 1
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_appautoscaling_policy.from_zero[0].arn]
  tags                = var.tags

  dynamic "metric_query" {
    for_each = local.letters

    content {
      id          = "waiting${metric_query.value.id}"
      return_data = false

      metric {
        namespace   = "AWS/SQS"
        metric_name = "ApproximateNumberOfMessagesVisible"
        period      = 60
        stat        = "Maximum"
        dimensions  = { QueueName = metric_query.value.name }
      }
    }
  }

  metric_query {
    id          = "tasks"
    return_data = false

    metric {
      namespace   = "ECS/ContainerInsights"
      metric_name = "RunningTaskCount"
      period      = 60
      stat        = "Maximum"
      dimensions  = { ClusterName = local.cluster_name, ServiceName = aws_ecs_service.this.name }
    }
  }

  metric_query {
    id          = "unattended"
    label       = "work without a task"
    expression  = "IF(FILL(tasks,0)<1,${local.waiting},0)"
    return_data = true
  }
}
