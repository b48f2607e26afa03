output "policy_arns" {
  description = "ARN of the policy of each role: enqueuer, worker, sweeper, console_viewer, console_operator."
  value       = { for role, policy in aws_iam_policy.role : role => policy.arn }
}

output "policy_documents" {
  description = "The policies themselves, for roles that want them inline."
  value       = { for role, document in data.aws_iam_policy_document.role : role => document.json }
}
