output "environment" {
  description = "What workers and clients need, beside credentials with one of the policies."
  value = {
    AWS_REGION        = var.region
    ROOST_STORAGE     = "aws:${var.stack}"
    ROOST_AWS__BUCKET = module.artifacts.bucket
  }
}

output "policy_arns" {
  description = "ARN of the policy of each role."
  value       = module.iam.policy_arns
}
