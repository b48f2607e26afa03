output "cluster_name" {
  description = "The cluster's name."
  value       = local.cluster_name
}

output "service_name" {
  description = "The service's name, for the module `observability`."
  value       = aws_ecs_service.this.name
}

output "task_role_name" {
  description = "The workers' role, for policies of your engines."
  value       = aws_iam_role.task.name
}

output "log_group" {
  description = "Where the workers log to."
  value       = aws_cloudwatch_log_group.this.name
}
