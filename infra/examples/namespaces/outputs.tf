output "environment" {
  description = "What each team's programs need, beside credentials with one of its policies."
  value = {
    for team in var.teams : team => {
      AWS_REGION        = var.region
      ROOST_STORAGE     = "aws:${var.stack}"
      ROOST_AWS__BUCKET = module.artifacts.bucket
      ROOST_NAMESPACE   = team
    }
  }
}

output "policy_arns" {
  description = "ARN of the policy of each role of each team."
  value       = { for team, policies in module.team : team => policies.policy_arns }
}

output "worker_policy_arn" {
  description = "ARN of the policy of the workers, who serve all teams."
  value       = module.iam.policy_arns["worker"]
}
