output "url" {
  description = "Where the console is."
  value       = aws_apigatewayv2_api.this.api_endpoint
}

output "api_id" {
  description = "The API, for the module `observability` and for a domain of your own."
  value       = aws_apigatewayv2_api.this.id
}

output "function_name" {
  description = "The function's name, for the module `observability`."
  value       = module.function.name
}
