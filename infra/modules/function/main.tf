# One Lambda function with its role and its log group; used by worker-lambda, sweeper-lambda and
# console.

data "aws_partition" "current" {}

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "logs" {
  statement {
    sid       = "Logs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.this.arn}:*"]
  }
}

resource "aws_iam_role" "this" {
  name               = var.name
  description        = "Of the function ${var.name}."
  assume_role_policy = data.aws_iam_policy_document.trust.json
  tags               = var.tags
}

resource "aws_iam_role_policy" "logs" {
  name   = "logs"
  role   = aws_iam_role.this.id
  policy = data.aws_iam_policy_document.logs.json
}

resource "aws_iam_role_policy_attachment" "this" {
  role       = aws_iam_role.this.name
  policy_arn = var.policy_arn
}

# Network interfaces can't be named before they are there, so AWS keeps a policy for this.
resource "aws_iam_role_policy_attachment" "network" {
  count = var.vpc == null ? 0 : 1

  role       = aws_iam_role.this.name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/service-role/AWSLambdaVPCAccessExecutionRole"
}

resource "aws_cloudwatch_log_group" "this" {
  name              = "/aws/lambda/${var.name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.log_kms_key_arn
  tags              = var.tags
}

resource "aws_lambda_function" "this" {
  function_name                  = var.name
  description                    = var.description
  role                           = aws_iam_role.this.arn
  package_type                   = var.package.image_uri == null ? "Zip" : "Image"
  image_uri                      = var.package.image_uri
  filename                       = var.package.filename
  s3_bucket                      = var.package.s3_bucket
  s3_key                         = var.package.s3_key
  s3_object_version              = var.package.s3_object_version
  source_code_hash               = var.package.source_code_hash
  handler                        = var.package.image_uri == null ? var.handler : null
  runtime                        = var.package.image_uri == null ? var.runtime : null
  architectures                  = [var.architecture]
  memory_size                    = var.memory_mb
  timeout                        = var.timeout_seconds
  reserved_concurrent_executions = var.reserved_concurrency
  kms_key_arn                    = var.environment_kms_key_arn
  tags                           = var.tags

  # The image is the same for all functions; this says which one it is.
  dynamic "image_config" {
    for_each = var.package.image_uri == null ? [] : [1]

    content {
      entry_point = ["python", "-m", "awslambdaric"]
      command     = [var.handler]
    }
  }

  environment {
    variables = var.environment
  }

  logging_config {
    log_format            = "JSON"
    log_group             = aws_cloudwatch_log_group.this.name
    application_log_level = "INFO"
    system_log_level      = "WARN"
  }

  tracing_config {
    mode = "PassThrough"
  }

  dynamic "vpc_config" {
    for_each = var.vpc == null ? [] : [var.vpc]

    content {
      subnet_ids         = vpc_config.value.subnet_ids
      security_group_ids = vpc_config.value.security_group_ids
    }
  }

  lifecycle {
    precondition {
      condition     = (var.package.image_uri != null ? 1 : 0) + (var.package.filename != null ? 1 : 0) + (var.package.s3_key != null ? 1 : 0) == 1
      error_message = "Give the function's code as one of image_uri, filename, or s3_bucket with s3_key."
    }
  }

  depends_on = [aws_iam_role_policy.logs, aws_iam_role_policy_attachment.this]
}
