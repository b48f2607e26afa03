# Journal, work index and resource claims. Keys, indexes, the stream and the time to live come from
# the same file that `roost aws create` and the tests read.

locals {
  tables = jsondecode(file("${path.module}/../../../roost/storage/aws/stack.json")).tables

  # Each key attribute once: those of a table and of its indexes.
  attributes = {
    for name, table in local.tables : name => merge([
      for part in concat(table.key, flatten([for index in table.indexes : index.key])) : { (part.name) = part.type }
    ]...)
  }
}

resource "aws_dynamodb_table" "this" {
  for_each = local.tables

  name                        = "${var.stack}-${each.key}"
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = each.value.key[0].name
  range_key                   = try(each.value.key[1].name, null)
  stream_enabled              = each.value.stream != null
  stream_view_type            = each.value.stream
  deletion_protection_enabled = var.deletion_protection
  tags                        = var.tags

  dynamic "attribute" {
    for_each = local.attributes[each.key]

    content {
      name = attribute.key
      type = attribute.value
    }
  }

  dynamic "global_secondary_index" {
    for_each = each.value.indexes

    content {
      name            = global_secondary_index.key
      hash_key        = global_secondary_index.value.key[0].name
      range_key       = try(global_secondary_index.value.key[1].name, null)
      projection_type = global_secondary_index.value.projection

      dynamic "on_demand_throughput" {
        for_each = var.write_units_max == null ? [] : [var.write_units_max]

        content {
          max_read_request_units  = -1
          max_write_request_units = on_demand_throughput.value
        }
      }
    }
  }

  dynamic "on_demand_throughput" {
    for_each = var.write_units_max == null ? [] : [var.write_units_max]

    content {
      max_read_request_units  = -1
      max_write_request_units = on_demand_throughput.value
    }
  }

  # Only what says nothing any more has the attribute: live work never.
  dynamic "ttl" {
    for_each = each.value.time_to_live == null ? [] : [each.value.time_to_live]

    content {
      attribute_name = ttl.value
      enabled        = true
    }
  }

  point_in_time_recovery {
    enabled                 = var.recovery_days > 0
    recovery_period_in_days = var.recovery_days > 0 ? var.recovery_days : null
  }

  # Without a key of your own DynamoDB encrypts with one that AWS owns, at no cost.
  dynamic "server_side_encryption" {
    for_each = var.kms_key_arn == null ? [] : [var.kms_key_arn]

    content {
      enabled     = true
      kms_key_arn = server_side_encryption.value
    }
  }
}
