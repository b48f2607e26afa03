output "name" {
  description = "The function's name."
  value       = aws_lambda_function.this.function_name
}

output "arn" {
  description = "The function's ARN."
  value       = aws_lambda_function.this.arn
}

output "invoke_arn" {
  description = "ARN by which API Gateway invokes it."
  value       = aws_lambda_function.this.invoke_arn
}

output "role_name" {
  description = "The function's role, for policies of your engines."
  value       = aws_iam_role.this.name
}

output "log_group" {
  description = "Where it logs to."
  value       = aws_cloudwatch_log_group.this.name
}
