output "function_name" {
  description = "The function's name, for the module `observability`."
  value       = module.function.name
}

output "function_arn" {
  description = "The function's ARN."
  value       = module.function.arn
}

output "role_name" {
  description = "The function's role, for policies of your engines."
  value       = module.function.role_name
}
