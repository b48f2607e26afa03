# Alarms that somebody has to act on, each with a link to what to do, and a dashboard.

data "aws_region" "current" {}

locals {
  runbook = coalesce(var.runbook_url, "infra/operations.md")

  alarms = merge(
    { for lane, queue in var.lanes : "oldest-message-${lane}" => {
      runbook     = "oldest-message"
      description = "A message of the lane ${lane} has waited for more than ${var.oldest_seconds} s: workers don't keep up, or none runs."
      namespace   = "AWS/SQS"
      metric      = "ApproximateAgeOfOldestMessage"
      stat        = "Maximum"
      dimensions  = { QueueName = queue.name }
      comparison  = "GreaterThanThreshold"
      threshold   = var.oldest_seconds
      periods     = 5
      missing     = "notBreaching"
    } },
    { dead-letters = {
      runbook     = "dead-letters"
      description = "There are messages in the dead-letter queue: some that are not Roost's, or that no worker could finish."
      namespace   = "AWS/SQS"
      metric      = "ApproximateNumberOfMessagesVisible"
      stat        = "Maximum"
      dimensions  = { QueueName = var.dead_letters.name }
      comparison  = "GreaterThanThreshold"
      threshold   = 0
      periods     = 1
      missing     = "notBreaching"
    } },
    { for key, table in var.tables : "throttled-${key}" => {
      runbook     = "throttled"
      description = "DynamoDB throttles writes to ${table.name}. Roost makes them again, so work is slow and not lost."
      namespace   = "AWS/DynamoDB"
      metric      = "WriteThrottleEvents"
      stat        = "Sum"
      dimensions  = { TableName = table.name }
      comparison  = "GreaterThanThreshold"
      threshold   = 100
      periods     = 5
      missing     = "notBreaching"
    } },
    { for name in var.function_names : "function-errors-${name}" => {
      runbook     = "function-errors"
      description = "The function ${name} fails: it times out, runs out of memory, or can't be started."
      namespace   = "AWS/Lambda"
      metric      = "Errors"
      stat        = "Sum"
      dimensions  = { FunctionName = name }
      comparison  = "GreaterThanThreshold"
      threshold   = 3
      periods     = 5
      missing     = "notBreaching"
    } },
    { for name in var.function_names : "function-throttles-${name}" => {
      runbook     = "function-throttles"
      description = "The function ${name} is not started as often as it should be: its concurrency, or the account's, is used up."
      namespace   = "AWS/Lambda"
      metric      = "Throttles"
      stat        = "Sum"
      dimensions  = { FunctionName = name }
      comparison  = "GreaterThanThreshold"
      threshold   = 10
      periods     = 5
      missing     = "notBreaching"
    } },
    var.sweeper_function_name == null ? {} : { sweeper-silent = {
      runbook     = "sweeper-silent"
      description = "The sweeper has not run for five minutes: what sleeps is not woken, lost deliveries stay lost."
      namespace   = "AWS/Lambda"
      metric      = "Invocations"
      stat        = "Sum"
      dimensions  = { FunctionName = var.sweeper_function_name }
      comparison  = "LessThanThreshold"
      threshold   = 1
      periods     = 5
      missing     = "breaching"
    } },
    var.ecs == null ? {} : { no-workers = {
      runbook     = "no-workers"
      description = "No worker of the service ${var.ecs.service_name} runs."
      namespace   = "ECS/ContainerInsights"
      metric      = "RunningTaskCount"
      stat        = "Maximum"
      dimensions  = { ClusterName = var.ecs.cluster_name, ServiceName = var.ecs.service_name }
      comparison  = "LessThanThreshold"
      threshold   = 1
      periods     = 5
      missing     = "breaching"
    } },
    var.console == null ? {} : { console-errors = {
      runbook     = "console-errors"
      description = "The console answers with errors of its own (5xx)."
      namespace   = "AWS/ApiGateway"
      metric      = "5xx"
      stat        = "Sum"
      dimensions  = { ApiId = var.console.api_id }
      comparison  = "GreaterThanThreshold"
      threshold   = 5
      periods     = 5
      missing     = "notBreaching"
    } },
  )

  queue_names = concat([for lane in sort(keys(var.lanes)) : var.lanes[lane].name], [var.dead_letters.name])
  table_names = [for key in sort(keys(var.tables)) : var.tables[key].name]

  widgets = concat(
    [
      { title = "Waiting", stat = "Maximum", metrics = [for name in local.queue_names : ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", name]] },
      { title = "In hand", stat = "Maximum", metrics = [for name in local.queue_names : ["AWS/SQS", "ApproximateNumberOfMessagesNotVisible", "QueueName", name]] },
      { title = "Age of the oldest message (s)", stat = "Maximum", metrics = [for name in local.queue_names : ["AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", name]] },
      { title = "Write units", stat = "Sum", metrics = [for name in local.table_names : ["AWS/DynamoDB", "ConsumedWriteCapacityUnits", "TableName", name]] },
      { title = "Read units", stat = "Sum", metrics = [for name in local.table_names : ["AWS/DynamoDB", "ConsumedReadCapacityUnits", "TableName", name]] },
      { title = "Throttled writes", stat = "Sum", metrics = [for name in local.table_names : ["AWS/DynamoDB", "WriteThrottleEvents", "TableName", name]] },
    ],
    length(var.function_names) == 0 ? [] : [
      { title = "Invocations", stat = "Sum", metrics = [for name in var.function_names : ["AWS/Lambda", "Invocations", "FunctionName", name]] },
      { title = "Errors", stat = "Sum", metrics = [for name in var.function_names : ["AWS/Lambda", "Errors", "FunctionName", name]] },
      { title = "Duration (ms)", stat = "p95", metrics = [for name in var.function_names : ["AWS/Lambda", "Duration", "FunctionName", name]] },
    ],
    var.ecs == null ? [] : [
      { title = "Tasks", stat = "Maximum", metrics = [["ECS/ContainerInsights", "RunningTaskCount", "ClusterName", var.ecs.cluster_name, "ServiceName", var.ecs.service_name]] },
    ],
  )
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.alarms

  alarm_name          = "${var.stack}-${each.key}"
  alarm_description   = "${each.value.description} What to do: ${local.runbook}#${each.value.runbook}"
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  statistic           = each.value.stat
  dimensions          = each.value.dimensions
  comparison_operator = each.value.comparison
  threshold           = each.value.threshold
  period              = 60
  evaluation_periods  = each.value.periods
  treat_missing_data  = each.value.missing
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
  tags                = var.tags
}

resource "aws_cloudwatch_dashboard" "this" {
  dashboard_name = var.stack

  dashboard_body = jsonencode({
    widgets = [
      for index, widget in local.widgets : {
        type   = "metric"
        x      = 8 * (index % 3)
        y      = 6 * floor(index / 3)
        width  = 8
        height = 6
        properties = {
          title   = widget.title
          stat    = widget.stat
          metrics = widget.metrics
          period  = 60
          region  = data.aws_region.current.id
          view    = "timeSeries"
        }
      }
    ]
  })
}
