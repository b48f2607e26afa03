# What each role may do, from the same file that the tests compare with the calls that its code
# makes. Each part of a stack is one statement, on exactly that part.

locals {
  file  = jsondecode(file("${path.module}/../../../roost/storage/aws/roles.json"))
  lanes = [for lane in var.lanes : lane.arn]

  arns = {
    "journal"        = [var.tables["journal"].arn]
    "journal/marks"  = ["${var.tables["journal"].arn}/index/marks"]
    "journal/stream" = [var.stream_arn]
    "index"          = [var.tables["index"].arn]
    "index/state"    = ["${var.tables["index"].arn}/index/state"]
    "index/due"      = ["${var.tables["index"].arn}/index/due"]
    "claims"         = [var.tables["claims"].arn]
    "lanes"          = local.lanes
    "dead_letters"   = [var.dead_letters.arn]
    "blobs"          = [var.blobs_arn]
    "bucket"         = [var.bucket_arn]
  }

  # Workers and sweepers serve all namespaces. What a fence can't hold in is left out for the others:
  # an index whose keys have no namespace, the stream, and scans.
  fenceable = ["enqueuer", "console_viewer", "console_operator"]
  is_fenced = { for role in keys(local.file.roles) : role => length(var.namespaces) > 0 && contains(local.fenceable, role) }

  grants = {
    for role, parts in local.file.roles : role => [
      for part, actions in parts : {
        part    = part
        actions = local.is_fenced[role] ? setsubtract(actions, local.file.never_fenced) : toset(actions)
        fence   = local.is_fenced[role] && contains(local.file.fenced, part)
      }
      if !(local.is_fenced[role] && contains(local.file.never_fenced_parts, part))
    ]
  }

  # Journals of idempotency keys and of conversations belong to all namespaces; their names are
  # digests of a namespace and a key. What is paused for all is read by all. What operators did in
  # a namespace is in journals that are named after it.
  keys = { for role in local.fenceable : role => distinct(flatten([
    for namespace in var.namespaces : concat(
      ["${namespace}/*"],
      [for prefix in local.file.shared[role] : "${replace(prefix, "{namespace}", namespace)}*"],
    )
  ])) }
  read_keys = { for role in local.fenceable : role => distinct(flatten([
    for namespace in var.namespaces :
    [for prefix in local.file.shared_reads[role] : "${replace(prefix, "{namespace}", namespace)}*"]
  ])) }
}

data "aws_iam_policy_document" "role" {
  for_each = local.grants

  dynamic "statement" {
    for_each = { for grant in each.value : grant.part => grant }

    content {
      sid       = join("", [for word in split("/", replace(statement.key, "_", "/")) : title(word)])
      actions   = statement.value.actions
      resources = local.arns[statement.key]

      # Every key begins with the namespace. The second condition refuses calls that name no key:
      # for them the first one would hold.
      dynamic "condition" {
        for_each = statement.value.fence ? [1] : []

        content {
          test     = "ForAllValues:StringLike"
          variable = "dynamodb:LeadingKeys"
          values   = local.keys[each.key]
        }
      }

      dynamic "condition" {
        for_each = statement.value.fence ? [1] : []

        content {
          test     = "Null"
          variable = "dynamodb:LeadingKeys"
          values   = ["false"]
        }
      }
    }
  }

  dynamic "statement" {
    for_each = local.is_fenced[each.key] && length(lookup(local.read_keys, each.key, [])) > 0 ? [local.read_keys[each.key]] : []

    content {
      sid       = "JournalOfAll"
      actions   = ["dynamodb:Query"]
      resources = local.arns["journal"]

      condition {
        test     = "ForAllValues:StringLike"
        variable = "dynamodb:LeadingKeys"
        values   = statement.value
      }

      condition {
        test     = "Null"
        variable = "dynamodb:LeadingKeys"
        values   = ["false"]
      }
    }
  }

  dynamic "statement" {
    for_each = length(var.kms_key_arns) > 0 ? [1] : []

    content {
      sid       = "Keys"
      actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
      resources = var.kms_key_arns
    }
  }
}

resource "aws_iam_policy" "role" {
  for_each = local.grants

  name        = "${var.name == null ? var.stack : var.name}-${replace(each.key, "_", "-")}"
  description = "What Roost's ${replace(each.key, "_", " ")} calls, and nothing else."
  policy      = data.aws_iam_policy_document.role[each.key].json
  tags        = var.tags
}
