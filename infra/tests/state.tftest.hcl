mock_provider "aws" {}

variables {
  stack = "t"
}

run "tables_are_made_safe" {
  command = plan

  module {
    source = "./modules/state"
  }

  assert {
    condition     = toset(keys(aws_dynamodb_table.this)) == toset(["journal", "index", "claims"])
    error_message = "There are three tables."
  }

  assert {
    condition     = alltrue([for table in aws_dynamodb_table.this : table.deletion_protection_enabled && table.billing_mode == "PAY_PER_REQUEST"])
    error_message = "Tables are protected, and paid for by request."
  }

  assert {
    condition     = alltrue([for table in aws_dynamodb_table.this : table.point_in_time_recovery[0].enabled])
    error_message = "Tables can be restored."
  }

  assert {
    condition     = aws_dynamodb_table.this["journal"].hash_key == "work" && aws_dynamodb_table.this["journal"].range_key == "position"
    error_message = "The journal's key is work and position, in this order."
  }

  assert {
    condition     = aws_dynamodb_table.this["journal"].stream_view_type == "NEW_IMAGE" && !aws_dynamodb_table.this["index"].stream_enabled
    error_message = "The journal's stream is the feed; no other table has one."
  }

  assert {
    condition     = alltrue([for name in ["index", "claims"] : [for ttl in aws_dynamodb_table.this[name].ttl : ttl.attribute_name if ttl.enabled] == ["expires_at"]]) && alltrue([for ttl in aws_dynamodb_table.this["journal"].ttl : !ttl.enabled])
    error_message = "What is over has an instant in expires_at, by which it is deleted; entries of journals have none."
  }

  assert {
    condition     = toset([for index in aws_dynamodb_table.this["index"].global_secondary_index : index.name]) == toset(["state", "due"])
    error_message = "The index table has the indexes state and due."
  }
}

run "recovery_can_be_turned_off" {
  command = plan

  module {
    source = "./modules/state"
  }

  variables {
    recovery_days       = 0
    deletion_protection = false
    write_units_max     = 100
    kms_key_arn         = "arn:aws:kms:us-east-1:123456789012:key/1"
  }

  assert {
    condition     = alltrue([for table in aws_dynamodb_table.this : !table.point_in_time_recovery[0].enabled])
    error_message = "0 days turn it off."
  }

  assert {
    condition     = alltrue([for table in aws_dynamodb_table.this : table.server_side_encryption[0].kms_key_arn == var.kms_key_arn])
    error_message = "The key is used for every table."
  }
}

run "a_stack_is_named_as_roost_takes_it" {
  command = plan

  module {
    source = "./modules/state"
  }

  variables {
    stack = "Not_A_Stack"
  }

  expect_failures = [var.stack]
}

run "recovery_is_35_days_at_most" {
  command = plan

  module {
    source = "./modules/state"
  }

  variables {
    recovery_days = 36
  }

  expect_failures = [var.recovery_days]
}

run "a_ceiling_is_at_least_one" {
  command = plan

  module {
    source = "./modules/state"
  }

  variables {
    write_units_max = 0
  }

  expect_failures = [var.write_units_max]
}

run "a_key_is_an_arn" {
  command = plan

  module {
    source = "./modules/state"
  }

  variables {
    kms_key_arn = "alias/mine"
  }

  expect_failures = [var.kms_key_arn]
}
