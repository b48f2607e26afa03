# Alarms that somebody has to act on, each with a link to what to do, and a dashboard.

data "aws_region" "current" {}

locals {
  definition = jsondecode(file("${path.module}/../../../roost/storage/aws/stack.json")).tables

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
      { title = "Throttled writes", stat = "Sum", metrics = concat([for key in sort(keys(var.tables)) : [for one in local.throttles[key] : concat(["AWS/DynamoDB", "WriteThrottleEvents"], flatten([for name, value in one.dimensions : [name, value]]))]]...) },
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

# CloudWatch counts a table's throttled writes and those of each of its indexes apart; an index whose
# partition is hot holds up the table. What is not throttled has no metric, and counts as 0.
locals {
  throttles = {
    for key, table in var.tables : key => concat(
      [{ id = "table", dimensions = { TableName = table.name } }],
      [for index in sort(keys(local.definition[key].indexes)) : {
        id         = index
        dimensions = { TableName = table.name, GlobalSecondaryIndexName = index }
      }]
    )
  }
}

resource "aws_cloudwatch_metric_alarm" "throttled" {
  for_each = var.tables

  alarm_name          = "${var.stack}-throttled-${each.key}"
  alarm_description   = "DynamoDB throttles writes to ${each.value.name} or its indexes. Roost makes them again, so work is slow and not lost. What to do: ${local.runbook}#throttled"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 100
  evaluation_periods  = 5
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
  tags                = var.tags

  metric_query {
    id          = "throttled"
    label       = "throttled writes"
    expression  = join("+", [for one in local.throttles[each.key] : "FILL(${one.id},0)"])
    return_data = true
  }

  dynamic "metric_query" {
    for_each = local.throttles[each.key]

    content {
      id          = metric_query.value.id
      return_data = false

      metric {
        namespace   = "AWS/DynamoDB"
        metric_name = "WriteThrottleEvents"
        stat        = "Sum"
        period      = 60
        dimensions  = metric_query.value.dimensions
      }
    }
  }
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
