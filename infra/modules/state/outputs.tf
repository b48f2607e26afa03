output "tables" {
  description = "By `journal`, `index` and `claims`: the table's `name` and `arn`."
  value       = { for key, table in aws_dynamodb_table.this : key => { name = table.name, arn = table.arn } }
}

output "stream_arn" {
  description = "The journal table's stream: every event of every work item, for 24 hours."
  value       = aws_dynamodb_table.this["journal"].stream_arn
}

output "kms_key_arn" {
  description = "The key that was given, or null."
  value       = var.kms_key_arn
}
