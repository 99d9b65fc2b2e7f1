# What must exist before the main root can be applied by a workflow: a place for its state, and
# roles that GitHub may assume without any stored key. Applied once for an account, by hand.

locals {
  prefix     = "${var.name}-${var.environment}"
  account_id = data.aws_caller_identity.this.account_id
  partition  = data.aws_partition.this.partition

  state_bucket = "${local.prefix}-terraform-state-${local.account_id}"
  state_key    = "${var.environment}/terraform.tfstate"
  lock_key     = "${local.state_key}.tflock"
}

# ---- State ----

module "state_key" {
  source = "../modules/encryption_key"

  alias       = "${local.prefix}-terraform-state"
  description = "Encrypts the Terraform state of ${local.prefix}."
}

module "state" {
  source = "../modules/bucket"

  name        = local.state_bucket
  versioning  = true
  kms_key_arn = module.state_key.arn
}

# ---- GitHub ----

resource "aws_iam_openid_connect_provider" "github" {
  count = var.create_oidc_provider ? 1 : 0

  url            = "https://token.actions.githubusercontent.com"
  client_id_list = ["sts.amazonaws.com"]
}

locals {
  oidc_provider_arn = "arn:${local.partition}:iam::${local.account_id}:oidc-provider/token.actions.githubusercontent.com"

  roles = {
    # Any pull request of the repository itself; GitHub gives none of a fork a token.
    plan = {
      description = "Reads what Terraform plans for ${local.prefix}; for pull requests."
      subject     = "repo:${var.repository}:pull_request"
    }
    # Only jobs of the GitHub environment, and so behind its approvals and branch rules.
    apply = {
      description = "Applies Terraform to ${local.prefix}; for jobs of the environment ${var.environment}."
      subject     = "repo:${var.repository}:environment:${var.environment}"
    }
  }
}

data "aws_iam_policy_document" "trust" {
  #checkov:skip=CKV_AWS_358:The subjects are exact, which checkov does not see through for_each; the tests here do.
  for_each = local.roles

  statement {
    sid     = "GitHubActions"
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [local.oidc_provider_arn]
    }

    condition {
      test     = "StringEquals"
      variable = "token.actions.githubusercontent.com:aud"
      values   = ["sts.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "token.actions.githubusercontent.com:sub"
      values   = [each.value.subject]
    }
  }
}

resource "aws_iam_role" "this" {
  for_each = local.roles

  name = "${local.prefix}-${each.key}"
  # Apart from the roles of the main root, which apply may change.
  path                 = "/github/"
  description          = each.value.description
  assume_role_policy   = data.aws_iam_policy_document.trust[each.key].json
  max_session_duration = 3600

  depends_on = [aws_iam_openid_connect_provider.github]
}
