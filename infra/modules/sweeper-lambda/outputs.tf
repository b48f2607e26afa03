output "function_name" {
  description = "The function's name, for the module `observability`."
  value       = module.function.name
}

output "function_arn" {
  description = "The function's ARN."
  value       = module.function.arn
}
