# Proves: the key schema, what protects the data, and that the table's names are known before the table.

mock_provider "aws" {
  source = "../../tests/mocks"
}

variables {
  name        = "sluice-test"
  kms_key_arn = "arn:aws:kms:us-east-1:123456789012:key/test"
}

run "protects_the_data" {
  command = plan

  assert {
    condition     = one(aws_dynamodb_table.this.server_side_encryption).kms_key_arn == var.kms_key_arn
    error_message = "The table must be encrypted with the key that is passed in."
  }

  assert {
    condition     = one(aws_dynamodb_table.this.point_in_time_recovery).enabled && aws_dynamodb_table.this.deletion_protection_enabled
    error_message = "The table must be recoverable to any point in time and refuse deletion by default."
  }

  assert {
    condition     = aws_dynamodb_table.this.billing_mode == "PAY_PER_REQUEST"
    error_message = "The table must cost nothing while nobody calls."
  }
}

run "has_keys_stream_and_ttl" {
  command = plan

  assert {
    condition     = aws_dynamodb_table.this.hash_key == "pk" && aws_dynamodb_table.this.range_key == "sk"
    error_message = "The keys must be pk and sk."
  }

  assert {
    condition     = toset([for attribute in aws_dynamodb_table.this.attribute : attribute.name]) == toset(["pk", "sk", "gsi1pk", "gsi1sk"])
    error_message = "Only key attributes may be declared."
  }

  assert {
    condition     = one(aws_dynamodb_table.this.global_secondary_index).hash_key == "gsi1pk" && one(aws_dynamodb_table.this.global_secondary_index).projection_type == "ALL"
    error_message = "The index gsi1 must have the key gsi1pk and project everything."
  }

  assert {
    condition     = aws_dynamodb_table.this.stream_view_type == "NEW_AND_OLD_IMAGES" && one(aws_dynamodb_table.this.ttl).attribute_name == "expires_at"
    error_message = "The stream must show both images, and expires_at must be the TTL attribute."
  }
}

run "names_are_known_beforehand" {
  command = plan

  assert {
    condition     = output.arn == "arn:aws:dynamodb:us-east-1:123456789012:table/sluice-test" && output.index_arns["gsi1"] == "${output.arn}/index/gsi1"
    error_message = "The ARNs must follow from the name."
  }
}

run "can_be_unprotected_and_have_no_index" {
  command = plan

  variables {
    deletion_protection = false
    indexes             = []
  }

  assert {
    condition     = !aws_dynamodb_table.this.deletion_protection_enabled && length(aws_dynamodb_table.this.global_secondary_index) == 0 && length(aws_dynamodb_table.this.attribute) == 2
    error_message = "Protection and indexes must follow the variables."
  }
}

run "refuses_bad_names" {
  command = plan

  variables {
    name    = "a b"
    indexes = ["by_owner"]
  }

  expect_failures = [var.name, var.indexes]
}
