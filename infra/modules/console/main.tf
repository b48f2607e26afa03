# The console as a function behind an HTTP API. The stage is `$default`, so the console's own paths
# are those of the API.

locals {
  name    = "${var.stack}-console"
  has_jwt = var.authorizer.type == "JWT"

  # Who signs in where the gateway lets everybody through: the console, with its own tokens.
  sign_in = var.authorizer.type == "CONSOLE" ? "token" : "gateway"
}

module "function" {
  source = "../function"

  name                    = local.name
  description             = "The console of the Roost stack ${var.stack}."
  handler                 = "roost.hosting.lambda_console.handler"
  package                 = var.package
  policy_arn              = var.policy_arn
  timeout_seconds         = 30
  memory_mb               = var.memory_mb
  reserved_concurrency    = var.reserved_concurrency
  runtime                 = var.runtime
  architecture            = var.architecture
  log_retention_days      = var.log_retention_days
  log_kms_key_arn         = var.log_kms_key_arn
  environment_kms_key_arn = var.environment_kms_key_arn
  vpc                     = var.vpc
  tags                    = var.tags

  environment = merge({
    ROOST_STORAGE                 = "aws:${var.stack}"
    ROOST_AWS__BUCKET             = var.bucket
    ROOST_CONSOLE__AUTH           = local.sign_in
    ROOST_CONSOLE__ROLE_CLAIM     = var.roles.claim
    ROOST_CONSOLE__ADMIN_ROLES    = join(",", var.roles.admins)
    ROOST_CONSOLE__OPERATOR_ROLES = join(",", var.roles.operators)
  }, var.environment)
}

resource "aws_apigatewayv2_api" "this" {
  name          = local.name
  description   = "The console of the Roost stack ${var.stack}."
  protocol_type = "HTTP"
  tags          = var.tags
}

resource "aws_apigatewayv2_integration" "this" {
  api_id                 = aws_apigatewayv2_api.this.id
  integration_type       = "AWS_PROXY"
  integration_uri        = module.function.invoke_arn
  payload_format_version = "2.0"
  timeout_milliseconds   = 30000
}

resource "aws_apigatewayv2_authorizer" "jwt" {
  count = local.has_jwt ? 1 : 0

  api_id           = aws_apigatewayv2_api.this.id
  name             = "${local.name}-jwt"
  authorizer_type  = "JWT"
  identity_sources = ["$request.header.Authorization"]

  jwt_configuration {
    issuer   = var.authorizer.issuer
    audience = var.authorizer.audience
  }
}

resource "aws_apigatewayv2_route" "default" {
  api_id               = aws_apigatewayv2_api.this.id
  route_key            = "$default"
  target               = "integrations/${aws_apigatewayv2_integration.this.id}"
  authorization_type   = { JWT = "JWT", AWS_IAM = "AWS_IAM", CONSOLE = "NONE" }[var.authorizer.type]
  authorizer_id        = local.has_jwt ? aws_apigatewayv2_authorizer.jwt[0].id : null
  authorization_scopes = local.has_jwt ? var.authorizer.scopes : null
}

resource "aws_cloudwatch_log_group" "access" {
  name              = "/aws/apigateway/${local.name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.log_kms_key_arn
  tags              = var.tags
}

resource "aws_apigatewayv2_stage" "default" {
  api_id      = aws_apigatewayv2_api.this.id
  name        = "$default"
  auto_deploy = true
  tags        = var.tags

  default_route_settings {
    throttling_rate_limit    = var.requests_per_second
    throttling_burst_limit   = var.requests_at_once
    detailed_metrics_enabled = true
  }

  access_log_settings {
    destination_arn = aws_cloudwatch_log_group.access.arn

    format = jsonencode({
      request_id   = "$context.requestId"
      ip           = "$context.identity.sourceIp"
      method       = "$context.httpMethod"
      path         = "$context.path"
      status       = "$context.status"
      bytes        = "$context.responseLength"
      milliseconds = "$context.responseLatency"
      user         = "$context.authorizer.claims.sub"
      error        = "$context.error.message"
    })
  }
}

resource "aws_lambda_permission" "api" {
  statement_id  = "OnlyThisApi"
  action        = "lambda:InvokeFunction"
  function_name = module.function.name
  principal     = "apigateway.amazonaws.com"
  source_arn    = "${aws_apigatewayv2_api.this.execution_arn}/*"
}
