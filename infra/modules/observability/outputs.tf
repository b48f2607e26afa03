output "alarm_arns" {
  description = "By name: the ARNs of the alarms."
  value = merge(
    { for name, alarm in aws_cloudwatch_metric_alarm.this : name => alarm.arn },
    { for key, alarm in aws_cloudwatch_metric_alarm.throttled : "throttled-${key}" => alarm.arn },
  )
}

output "dashboard" {
  description = "The dashboard's name."
  value       = aws_cloudwatch_dashboard.this.dashboard_name
}
