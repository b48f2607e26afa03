output "bucket" {
  description = "The bucket's name, for `ROOST_AWS__BUCKET`."
  value       = aws_s3_bucket.this.bucket
}

output "arn" {
  description = "The bucket's ARN."
  value       = aws_s3_bucket.this.arn
}

output "blobs_arn" {
  description = "ARN pattern of the objects that Roost reads and writes."
  value       = "${aws_s3_bucket.this.arn}/${local.definition.blob_prefix}*"
}

output "kms_key_arn" {
  description = "The key that was given, or null."
  value       = var.kms_key_arn
}
