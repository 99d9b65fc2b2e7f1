# Proves: encryption, that nothing is public, that results expire, and that plain HTTP is refused.

mock_provider "aws" {
  source = "../../tests/mocks"
}

variables {
  name            = "sluice-test-123456789012-us-east-1"
  expiration_days = { "async/" = 30, "workflows/" = 7 }
  kms_key_arn     = "arn:aws:kms:us-east-1:123456789012:key/test"
}

run "encrypts_and_keeps_private" {
  command = plan

  assert {
    condition     = output.kms_key_arn == var.kms_key_arn
    error_message = "Objects must be encrypted with the key that is passed in."
  }

  assert {
    condition = alltrue([
      aws_s3_bucket_public_access_block.this.block_public_acls,
      aws_s3_bucket_public_access_block.this.block_public_policy,
      aws_s3_bucket_public_access_block.this.ignore_public_acls,
      aws_s3_bucket_public_access_block.this.restrict_public_buckets,
    ])
    error_message = "Nothing may make the bucket public."
  }

  assert {
    condition     = one(aws_s3_bucket_policy.this).policy == data.aws_iam_policy_document.tls_only.json
    error_message = "The bucket must refuse plain HTTP."
  }

  assert {
    condition     = data.aws_iam_policy_document.tls_only.statement[0].resources == toset([output.arn, "${output.arn}/*"])
    error_message = "The policy must speak of the bucket and of its objects."
  }
}

run "lets_results_expire" {
  command = plan

  assert {
    condition = {
      for rule in aws_s3_bucket_lifecycle_configuration.this.rule : rule.id => try(one(rule.expiration).days, null)
      } == {
      abort-incomplete-uploads = null
      expire-async             = 30
      expire-workflows         = 7
    }
    error_message = "Each prefix must expire as told, and incomplete uploads must be dropped."
  }

  assert {
    condition     = one(aws_s3_bucket_versioning.this.versioning_configuration).status == "Enabled" && !aws_s3_bucket.this.force_destroy
    error_message = "By default versions are kept, and a bucket with objects is not destroyed."
  }
}

run "can_be_simple" {
  command = plan

  variables {
    versioning    = false
    force_destroy = true
    tls_only      = false
  }

  assert {
    condition     = one(aws_s3_bucket_versioning.this.versioning_configuration).status == "Suspended" && aws_s3_bucket.this.force_destroy && length(aws_s3_bucket_policy.this) == 0
    error_message = "Versioning, protection and the TLS policy must follow the variables."
  }
}

run "refuses_bad_values" {
  command = plan

  variables {
    name            = "Not_A_Bucket"
    expiration_days = { "async" = 0 }
  }

  expect_failures = [var.name, var.expiration_days]
}
