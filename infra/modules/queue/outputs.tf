output "lanes" {
  description = "By lane: the queue's `name`, `arn` and `url`."
  value       = { for lane, queue in aws_sqs_queue.lane : lane => { name = queue.name, arn = queue.arn, url = queue.url } }
}

output "dead_letters" {
  description = "The dead-letter queue's `name`, `arn` and `url`."
  value       = { name = aws_sqs_queue.dead.name, arn = aws_sqs_queue.dead.arn, url = aws_sqs_queue.dead.url }
}

output "visibility_seconds" {
  description = "The visibility timeout of the lanes."
  value       = local.visibility_seconds
}

output "kms_key_arn" {
  description = "The key that was given, or null."
  value       = var.kms_key_arn
}
