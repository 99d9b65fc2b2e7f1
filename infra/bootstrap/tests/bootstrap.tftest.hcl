# Proves: who may assume the roles, that the plan role only reads, and that the apply role can make no role outside the
# boundary.

mock_provider "aws" {
  source = "../tests/mocks"
}

variables {
  environment = "staging"
  repository  = "acme/sluice"
}

run "trusts_exactly_one_subject_each" {
  command = apply

  assert {
    condition = {
      for role, document in data.aws_iam_policy_document.trust : role => one(flatten([
        for condition in one(document.statement).condition : condition.values if condition.variable == "token.actions.githubusercontent.com:sub"
      ]))
      } == {
      plan  = "repo:acme/sluice:pull_request"
      apply = "repo:acme/sluice:environment:staging"
    }
    error_message = "Plan is for pull requests, apply for jobs of the environment; nothing else may assume a role."
  }

  assert {
    condition = alltrue(flatten([
      for document in values(data.aws_iam_policy_document.trust) : [for condition in one(document.statement).condition : condition.test == "StringEquals"]
    ]))
    error_message = "The trust policies must compare exactly, without wildcards."
  }

  assert {
    condition = alltrue([
      for document in values(data.aws_iam_policy_document.trust) : anytrue([
        for condition in one(document.statement).condition : condition.variable == "token.actions.githubusercontent.com:aud" && condition.values == tolist(["sts.amazonaws.com"])
      ])
    ])
    error_message = "Only tokens made for AWS may be accepted."
  }
}

run "gives_plan_nothing_to_write_with" {
  command = apply

  assert {
    condition = alltrue([
      for grant in values(local.grants) : startswith(grant.policy, "read-") if grant.role == "plan"
    ])
    error_message = "The plan role may have policies for reading only."
  }

  assert {
    condition = alltrue(flatten([
      for document in concat(values(data.aws_iam_policy_document.read), [data.aws_iam_policy_document.read_rest]) : [
        for statement in document.statement : [
          for action in statement.actions : can(regex("^([a-z0-9-]+:(Get|List|Describe|Validate)[A-Za-z]+|apigateway:GET|kms:Decrypt)$", action))
        ]
      ]
    ]))
    error_message = "A policy for reading may have actions that read only."
  }

  assert {
    condition     = length([for grant in values(local.grants) : grant if grant.role == "apply"]) <= 10
    error_message = "A role takes ten managed policies."
  }
}

run "keeps_secrets_and_results_out_of_reach" {
  command = apply

  assert {
    condition = alltrue(flatten([
      for document in concat(values(data.aws_iam_policy_document.read), values(data.aws_iam_policy_document.write), [data.aws_iam_policy_document.read_rest, data.aws_iam_policy_document.write_rest]) : [
        for statement in document.statement : [
          !contains(statement.actions, "secretsmanager:GetSecretValue"),
          # Objects of the packages and of the state may be read, results may not.
          !contains(statement.actions, "s3:GetObject") || alltrue([for resource in statement.resources : strcontains(resource, "-packages-") || strcontains(resource, "-terraform-state-")]),
        ]
      ]
    ]))
    error_message = "Neither role may read the providers' keys or what users sent and got."
  }
}

run "names_everything_it_can" {
  command = apply

  assert {
    condition = alltrue(flatten([
      for document in concat(
        values(data.aws_iam_policy_document.read),
        values(data.aws_iam_policy_document.write),
        [data.aws_iam_policy_document.write_roles],
        ) : [
        for statement in document.statement : concat(
          [for resource in statement.resources : resource != "*"],
          [for action in statement.actions : !endswith(action, ":*")],
        )
      ]
    ]))
    error_message = "No statement may be about everything."
  }

  # What AWS authorises on everything only: lists, the creation of a key (kept to this environment's tags) or of a mapping
  # (kept to its functions), subscriptions, log delivery.
  assert {
    condition = toset([
      for statement in concat(data.aws_iam_policy_document.read_rest.statement, data.aws_iam_policy_document.write_rest.statement) : statement.sid
      if contains(statement.resources, "*")
    ]) == toset(["ListAndValidate", "CreateKey", "CreateMappings", "Unsubscribe", "DeliverLogs"])
    error_message = "A statement about everything must be one of those that cannot be narrower."
  }

  assert {
    condition = alltrue([
      for statement in data.aws_iam_policy_document.write_rest.statement : one(statement.condition).variable == "lambda:FunctionArn" && one(statement.condition).values == tolist([local.function_arns, "${local.function_arns}:*"])
      if anytrue([for action in statement.actions : endswith(action, "EventSourceMapping")])
    ])
    error_message = "Mappings may be made and changed for functions of the environment only."
  }
}

# Whether an action is authorised on everything only stands in the Service Authorization Reference. A statement that names
# a resource for it grants nothing.
run "names_nothing_where_aws_has_nothing_to_name" {
  command = apply

  assert {
    condition = alltrue(flatten([
      for document in concat(
        values(data.aws_iam_policy_document.read),
        values(data.aws_iam_policy_document.write),
        [data.aws_iam_policy_document.read_rest, data.aws_iam_policy_document.write_rest],
        ) : [
        for statement in document.statement : [
          for action in statement.actions : statement.resources == toset(["*"])
          if contains(["lambda:CreateEventSourceMapping", "sns:GetSubscriptionAttributes", "sns:Unsubscribe", "kms:CreateKey"], action)
        ]
      ]
    ]))
    error_message = "What AWS authorises on everything only must be granted on everything."
  }

  assert {
    condition = one([
      for statement in data.aws_iam_policy_document.read_rest.statement : one(statement.condition).test if statement.sid == "FindState"
    ]) == "StringLikeIfExists"
    error_message = "A state that does not exist yet must be told from one that may not be read."
  }
}

run "lets_apply_make_bounded_roles_only" {
  command = apply

  assert {
    condition = alltrue([
      for statement in data.aws_iam_policy_document.write_roles.statement : anytrue([
        for condition in statement.condition : condition.variable == "iam:PermissionsBoundary" && condition.values == tolist([aws_iam_policy.boundary.arn])
      ]) if length(setintersection(statement.actions, ["iam:CreateRole", "iam:PutRolePolicy", "iam:AttachRolePolicy"])) > 0
    ])
    error_message = "A role may be made and given powers only within the boundary."
  }

  assert {
    condition = alltrue(flatten([
      for statement in data.aws_iam_policy_document.write_roles.statement : [
        for action in statement.actions : !contains(["iam:DeleteRolePermissionsBoundary", "iam:CreatePolicyVersion", "iam:CreateUser", "iam:CreateAccessKey"], action)
      ]
    ]))
    error_message = "Neither the boundary nor what it is put on may be got round."
  }

  assert {
    condition     = alltrue([for role in values(aws_iam_role.this) : role.path == "/github/"]) && !strcontains(local.role_arns, "/github/")
    error_message = "The roles themselves must be out of the apply role's reach."
  }

  assert {
    condition     = alltrue([for statement in data.aws_iam_policy_document.boundary.statement : !anytrue([for action in statement.actions : startswith(action, "iam:") || startswith(action, "sts:")])])
    error_message = "The boundary must leave out everything that has to do with identities."
  }
}

run "keeps_the_state_safe" {
  command = apply

  assert {
    condition     = output.state_bucket == "sluice-staging-terraform-state-123456789012" && module.state.kms_key_arn == module.state_key.arn
    error_message = "The state must be in a bucket of its own, encrypted with a key of its own."
  }

  assert {
    condition     = length(aws_iam_openid_connect_provider.github) == 1 && one(aws_iam_openid_connect_provider.github).client_id_list == toset(["sts.amazonaws.com"])
    error_message = "GitHub must be registered, for tokens made for AWS."
  }
}

run "can_share_the_account" {
  command = apply

  variables {
    create_oidc_provider = false
    hosted_zone_id       = "Z1"
  }

  assert {
    condition     = length(aws_iam_openid_connect_provider.github) == 0
    error_message = "An account has GitHub as an identity provider once."
  }

  assert {
    condition     = anytrue([for statement in data.aws_iam_policy_document.write_rest.statement : statement.sid == "WriteZone" && statement.resources == toset(["arn:aws:route53:::hostedzone/Z1"])])
    error_message = "Only the named zone may be changed."
  }
}

run "refuses_wildcards" {
  command = plan

  variables {
    environment = "*"
    repository  = "acme/*"
    region      = "*"
    name        = "*"
  }

  expect_failures = [var.environment, var.repository, var.region, var.name]
}
