# What the two roles may do: exactly the services of the main root, and within them only what bears
# its name. Both may read; only apply may write. A change of the main root that needs more is refused
# until this file says so.

locals {
  arn  = "arn:${local.partition}"
  here = "${var.region}:${local.account_id}"

  data_bucket_arn     = "${local.arn}:s3:::${local.prefix}-${local.account_id}-${var.region}"
  packages_bucket_arn = "${local.arn}:s3:::${local.prefix}-packages-${local.account_id}-${var.region}"
  bucket_arns         = [local.data_bucket_arn, local.packages_bucket_arn]
  package_arns        = ["${local.packages_bucket_arn}/functions/*", "${local.packages_bucket_arn}/layers/*"]
  table_arn           = "${local.arn}:dynamodb:${local.here}:table/${local.prefix}"
  function_arns       = "${local.arn}:lambda:${local.here}:function:${local.prefix}-*"
  layer_arns          = "${local.arn}:lambda:${local.here}:layer:${local.prefix}-*"

  log_arns = flatten([
    for name in [
      "/aws/lambda/${local.prefix}-*",
      "/aws/vendedlogs/states/${local.prefix}-*",
      "/aws/apigateway/${local.prefix}/*",
      "API-Gateway-Execution-Logs_*",
      "aws-waf-logs-${local.prefix}",
    ] : ["${local.arn}:logs:${local.here}:log-group:${name}", "${local.arn}:logs:${local.here}:log-group:${name}:*"]
  ])

  # API Gateway gives ids, not names: the role can reach any REST API of the region.
  api_arns = [for path in ["restapis", "restapis/*", "account", "domainnames", "domainnames/*", "tags/*"] : "${local.arn}:apigateway:${var.region}::/${path}"]

  waf_arns = [
    "${local.arn}:wafv2:${local.here}:regional/webacl/${local.prefix}/*",
    "${local.arn}:wafv2:${local.here}:regional/managedruleset/*/*",
    "${local.arn}:apigateway:${var.region}::/restapis/*/stages/*",
  ]

  # Area (one policy each) => thing => resources and the actions for looking at it and for changing it.
  areas = {
    data = {
      Table = {
        resources = [local.table_arn]
        read = [
          "dynamodb:DescribeTable",
          "dynamodb:DescribeTimeToLive",
          "dynamodb:DescribeContinuousBackups",
          "dynamodb:ListTagsOfResource",
        ]
        write = [
          "dynamodb:CreateTable",
          "dynamodb:UpdateTable",
          "dynamodb:DeleteTable",
          "dynamodb:UpdateTimeToLive",
          "dynamodb:UpdateContinuousBackups",
          "dynamodb:TagResource",
          "dynamodb:UntagResource",
        ]
      }
      Buckets = {
        resources = local.bucket_arns
        read = [
          "s3:ListBucket",
          "s3:GetBucketAcl",
          "s3:GetBucketCORS",
          "s3:GetBucketLocation",
          "s3:GetBucketLogging",
          "s3:GetBucketObjectLockConfiguration",
          "s3:GetBucketOwnershipControls",
          "s3:GetBucketPolicy",
          "s3:GetBucketPublicAccessBlock",
          "s3:GetBucketRequestPayment",
          "s3:GetBucketTagging",
          "s3:GetBucketVersioning",
          "s3:GetBucketWebsite",
          "s3:GetEncryptionConfiguration",
          "s3:GetLifecycleConfiguration",
          "s3:GetAccelerateConfiguration",
          "s3:GetReplicationConfiguration",
        ]
        write = [
          "s3:CreateBucket",
          "s3:DeleteBucket",
          "s3:ListBucketVersions",
          "s3:PutBucketPolicy",
          "s3:DeleteBucketPolicy",
          "s3:PutBucketPublicAccessBlock",
          "s3:PutBucketOwnershipControls",
          "s3:PutBucketTagging",
          "s3:PutBucketVersioning",
          "s3:PutEncryptionConfiguration",
          "s3:PutLifecycleConfiguration",
        ]
      }
      Packages = {
        resources = local.package_arns
        read      = ["s3:GetObject", "s3:GetObjectTagging", "s3:GetObjectVersion"]
        write     = ["s3:PutObject", "s3:PutObjectTagging", "s3:DeleteObject", "s3:DeleteObjectVersion"]
      }
      Queues = {
        resources = ["${local.arn}:sqs:${local.here}:${local.prefix}-*"]
        read      = ["sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:ListQueueTags"]
        write = [
          "sqs:CreateQueue",
          "sqs:DeleteQueue",
          "sqs:SetQueueAttributes",
          "sqs:TagQueue",
          "sqs:UntagQueue",
        ]
      }
      Secret = {
        resources = ["${local.arn}:secretsmanager:${local.here}:secret:${local.prefix}/*"]
        read      = ["secretsmanager:DescribeSecret", "secretsmanager:GetResourcePolicy"]
        write = [
          "secretsmanager:CreateSecret",
          "secretsmanager:UpdateSecret",
          "secretsmanager:DeleteSecret",
          "secretsmanager:TagResource",
          "secretsmanager:UntagResource",
        ]
      }
    }
    functions = {
      Functions = {
        resources = [local.function_arns]
        read = [
          "lambda:GetFunction",
          "lambda:GetFunctionConfiguration",
          "lambda:GetFunctionCodeSigningConfig",
          "lambda:GetFunctionConcurrency",
          "lambda:GetProvisionedConcurrencyConfig",
          "lambda:GetAlias",
          "lambda:GetFunctionEventInvokeConfig",
          "lambda:GetPolicy",
          "lambda:GetFunctionRecursionConfig",
          "lambda:GetFunctionUrlConfig",
          "lambda:ListVersionsByFunction",
          "lambda:ListTags",
        ]
        write = [
          "lambda:CreateFunction",
          "lambda:DeleteFunction",
          "lambda:UpdateFunctionCode",
          "lambda:UpdateFunctionConfiguration",
          "lambda:PublishVersion",
          "lambda:PutFunctionConcurrency",
          "lambda:DeleteFunctionConcurrency",
          "lambda:PutProvisionedConcurrencyConfig",
          "lambda:DeleteProvisionedConcurrencyConfig",
          "lambda:PutFunctionEventInvokeConfig",
          "lambda:DeleteFunctionEventInvokeConfig",
          "lambda:PutFunctionRecursionConfig",
          "lambda:CreateAlias",
          "lambda:UpdateAlias",
          "lambda:DeleteAlias",
          "lambda:CreateFunctionUrlConfig",
          "lambda:UpdateFunctionUrlConfig",
          "lambda:DeleteFunctionUrlConfig",
          "lambda:AddPermission",
          "lambda:RemovePermission",
          "lambda:TagResource",
          "lambda:UntagResource",
        ]
      }
      # One permission of the streaming function that the provider cannot write itself.
      Stacks = {
        resources = ["${local.arn}:cloudformation:${local.here}:stack/${local.prefix}-*"]
        read      = ["cloudformation:DescribeStacks", "cloudformation:GetTemplate"]
        write = [
          "cloudformation:CreateStack",
          "cloudformation:UpdateStack",
          "cloudformation:DeleteStack",
          "cloudformation:DescribeStackEvents",
          "cloudformation:TagResource",
          "cloudformation:UntagResource",
        ]
      }
      Layers = {
        resources = [
          local.layer_arns,
          "${local.layer_arns}:*",
        ]
        read  = ["lambda:GetLayerVersion"]
        write = ["lambda:PublishLayerVersion", "lambda:DeleteLayerVersion"]
      }
      Machine = {
        resources = ["${local.arn}:states:${local.here}:stateMachine:${local.prefix}-*"]
        read = [
          "states:DescribeStateMachine",
          "states:ListStateMachineVersions",
          "states:ListTagsForResource",
        ]
        write = [
          "states:CreateStateMachine",
          "states:UpdateStateMachine",
          "states:DeleteStateMachine",
          "states:TagResource",
          "states:UntagResource",
        ]
      }
      Logs = {
        resources = local.log_arns
        read      = ["logs:ListTagsForResource"]
        write = [
          "logs:CreateLogGroup",
          "logs:DeleteLogGroup",
          "logs:PutRetentionPolicy",
          "logs:AssociateKmsKey",
          "logs:TagResource",
          "logs:UntagResource",
        ]
      }
    }
    services = {
      Api = {
        resources = local.api_arns
        read      = ["apigateway:GET"]
        write = [
          "apigateway:POST",
          "apigateway:PUT",
          "apigateway:PATCH",
          "apigateway:DELETE",
          "apigateway:SetWebACL",
        ]
      }
      Firewall = {
        resources = local.waf_arns
        read = [
          "wafv2:GetWebACL",
          "wafv2:GetLoggingConfiguration",
          "wafv2:ListTagsForResource",
          "wafv2:GetWebACLForResource",
        ]
        write = [
          "wafv2:CreateWebACL",
          "wafv2:UpdateWebACL",
          "wafv2:DeleteWebACL",
          "wafv2:AssociateWebACL",
          "wafv2:DisassociateWebACL",
          "wafv2:PutLoggingConfiguration",
          "wafv2:DeleteLoggingConfiguration",
          "wafv2:TagResource",
          "wafv2:UntagResource",
        ]
      }
      Topic = {
        resources = ["${local.arn}:sns:${local.here}:${local.prefix}-*"]
        read = [
          "sns:GetTopicAttributes",
          "sns:ListTagsForResource",
          "sns:ListSubscriptionsByTopic",
        ]
        write = [
          "sns:CreateTopic",
          "sns:DeleteTopic",
          "sns:SetTopicAttributes",
          "sns:Subscribe",
          "sns:TagResource",
          "sns:UntagResource",
        ]
      }
      Bus = {
        resources = [
          "${local.arn}:events:${local.here}:event-bus/${local.prefix}",
          "${local.arn}:events:${local.here}:archive/${local.prefix}",
          # On the default bus, where AWS announces what its services do.
          "${local.arn}:events:${local.here}:rule/${local.prefix}-*",
          # On Sluice's own.
          "${local.arn}:events:${local.here}:rule/${local.prefix}/${local.prefix}-*",
        ]
        read = [
          "events:DescribeEventBus",
          "events:DescribeArchive",
          "events:DescribeRule",
          "events:ListTargetsByRule",
          "events:ListTagsForResource",
        ]
        write = [
          "events:CreateEventBus",
          "events:UpdateEventBus",
          "events:DeleteEventBus",
          "events:CreateArchive",
          "events:UpdateArchive",
          "events:DeleteArchive",
          "events:PutRule",
          "events:DeleteRule",
          "events:PutTargets",
          "events:RemoveTargets",
          "events:TagResource",
          "events:UntagResource",
        ]
      }
      Dashboard = {
        resources = ["${local.arn}:cloudwatch::${local.account_id}:dashboard/${local.prefix}"]
        read      = ["cloudwatch:GetDashboard"]
        write     = ["cloudwatch:PutDashboard", "cloudwatch:DeleteDashboards"]
      }
      Alarms = {
        resources = ["${local.arn}:cloudwatch:${local.here}:alarm:${local.prefix}-*"]
        read      = ["cloudwatch:ListTagsForResource"]
        write = [
          "cloudwatch:PutMetricAlarm",
          "cloudwatch:DeleteAlarms",
          "cloudwatch:TagResource",
          "cloudwatch:UntagResource",
        ]
      }
    }
  }
}

data "aws_iam_policy_document" "read" {
  for_each = local.areas

  dynamic "statement" {
    for_each = each.value

    content {
      sid       = "Read${statement.key}"
      actions   = statement.value.read
      resources = statement.value.resources
    }
  }
}

data "aws_iam_policy_document" "write" {
  for_each = local.areas

  dynamic "statement" {
    for_each = each.value

    content {
      sid       = "Write${statement.key}"
      actions   = statement.value.write
      resources = statement.value.resources
    }
  }
}

# ---- What does not fit that pattern ----

data "aws_iam_policy_document" "read_rest" {
  #checkov:skip=CKV_AWS_356:The lists have no resource-level permissions, and show names only.
  statement {
    sid       = "ReadState"
    actions   = ["s3:GetObject"]
    resources = ["${module.state.arn}/${local.state_key}"]
  }

  statement {
    sid       = "FindState"
    actions   = ["s3:ListBucket"]
    resources = [module.state.arn]

    # Whether a state that is looked for is not there yet, or may not be read, S3 says only to whoever may list; and
    # who asks for an object names no prefix.
    condition {
      test     = "StringLikeIfExists"
      variable = "s3:prefix"
      values   = ["${var.environment}/*"]
    }
  }

  statement {
    sid       = "DecryptState"
    actions   = ["kms:Decrypt"]
    resources = [module.state_key.arn]
  }

  # The routes are items of the table; no other item can be read.
  statement {
    sid       = "ReadRoutes"
    actions   = ["dynamodb:GetItem"]
    resources = [local.table_arn]

    condition {
      test     = "ForAllValues:StringEquals"
      variable = "dynamodb:LeadingKeys"
      values   = ["ROUTES"]
    }
  }

  statement {
    sid       = "ReadMappings"
    actions   = ["lambda:GetEventSourceMapping", "lambda:ListTags"]
    resources = ["${local.arn}:lambda:${local.here}:event-source-mapping:*"]
  }

  statement {
    sid = "ReadRoles"
    actions = [
      "iam:GetRole",
      "iam:GetRolePolicy",
      "iam:ListRolePolicies",
      "iam:ListAttachedRolePolicies",
      "iam:ListRoleTags",
    ]
    resources = [local.role_arns]
  }

  statement {
    sid = "ReadKey"
    actions = [
      "kms:DescribeKey",
      "kms:GetKeyPolicy",
      "kms:GetKeyRotationStatus",
      "kms:ListResourceTags",
    ]
    resources = [local.key_arns]

    dynamic "condition" {
      for_each = local.own_tags

      content {
        test     = "StringEquals"
        variable = "aws:ResourceTag/${condition.key}"
        values   = [condition.value]
      }
    }
  }

  # Packages are encrypted; their metadata cannot be read without the key.
  statement {
    sid       = "DecryptPackages"
    actions   = ["kms:Decrypt"]
    resources = [local.key_arns]

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["s3.${var.region}.amazonaws.com", "dynamodb.${var.region}.amazonaws.com"]
    }

    dynamic "condition" {
      for_each = local.own_tags

      content {
        test     = "StringEquals"
        variable = "aws:ResourceTag/${condition.key}"
        values   = [condition.value]
      }
    }
  }

  statement {
    sid = "ListAndValidate"
    actions = [
      "cloudwatch:DescribeAlarms",
      "kms:ListAliases",
      "logs:DescribeLogGroups",
      "lambda:ListEventSourceMappings",
      "lambda:ListLayerVersions",
      "sns:GetSubscriptionAttributes",
      "states:ValidateStateMachineDefinition",
    ]
    # AWS authorises these on everything only.
    resources = ["*"]
  }

  dynamic "statement" {
    for_each = var.hosted_zone_id == null ? [] : [var.hosted_zone_id]

    content {
      sid       = "ReadZone"
      actions   = ["route53:GetHostedZone", "route53:ListResourceRecordSets"]
      resources = ["${local.arn}:route53:::hostedzone/${statement.value}"]
    }
  }
}

data "aws_iam_policy_document" "write_rest" {
  #checkov:skip=CKV_AWS_111:Log delivery, subscriptions, and the creation of keys and mappings have no resource-level permissions.
  #checkov:skip=CKV_AWS_356:Log delivery, subscriptions, and the creation of keys and mappings have no resource-level permissions.
  statement {
    sid       = "WriteState"
    actions   = ["s3:PutObject"]
    resources = ["${module.state.arn}/${local.state_key}"]
  }

  statement {
    sid       = "LockState"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
    resources = ["${module.state.arn}/${local.lock_key}"]
  }

  statement {
    sid       = "EncryptState"
    actions   = ["kms:GenerateDataKey"]
    resources = [module.state_key.arn]
  }

  statement {
    sid       = "WriteRoutes"
    actions   = ["dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"]
    resources = [local.table_arn]

    condition {
      test     = "ForAllValues:StringEquals"
      variable = "dynamodb:LeadingKeys"
      values   = ["ROUTES"]
    }
  }

  # A mapping has an id only, and none before it is made; the function that it feeds says whose it is.
  statement {
    sid       = "CreateMappings"
    actions   = ["lambda:CreateEventSourceMapping"]
    resources = ["*"]

    condition {
      test     = "ArnLike"
      variable = "lambda:FunctionArn"
      values   = [local.function_arns, "${local.function_arns}:*"]
    }
  }

  statement {
    sid       = "WriteMappings"
    actions   = ["lambda:UpdateEventSourceMapping", "lambda:DeleteEventSourceMapping"]
    resources = ["${local.arn}:lambda:${local.here}:event-source-mapping:*"]

    condition {
      test     = "ArnLike"
      variable = "lambda:FunctionArn"
      values   = [local.function_arns, "${local.function_arns}:*"]
    }
  }

  statement {
    sid       = "TagMappings"
    actions   = ["lambda:TagResource", "lambda:UntagResource"]
    resources = ["${local.arn}:lambda:${local.here}:event-source-mapping:*"]
  }

  statement {
    sid     = "CreateKey"
    actions = ["kms:CreateKey", "kms:TagResource"]
    # A key has no ARN before it is made; its tags say whose it will be.
    resources = ["*"]

    dynamic "condition" {
      for_each = local.own_tags

      content {
        test     = "StringEquals"
        variable = "aws:RequestTag/${condition.key}"
        values   = [condition.value]
      }
    }
  }

  statement {
    sid = "WriteKey"
    actions = [
      "kms:CreateAlias",
      "kms:DeleteAlias",
      "kms:UpdateAlias",
      "kms:EnableKeyRotation",
      "kms:PutKeyPolicy",
      "kms:ScheduleKeyDeletion",
      "kms:TagResource",
      "kms:UntagResource",
      "kms:UpdateKeyDescription",
      # Lambda and DynamoDB are given the use of the key by whoever creates the function or the table.
      "kms:CreateGrant",
      "kms:Encrypt",
      "kms:GenerateDataKey",
      "kms:Decrypt",
    ]
    resources = [local.key_arns]

    dynamic "condition" {
      for_each = local.own_tags

      content {
        test     = "StringEquals"
        variable = "aws:ResourceTag/${condition.key}"
        values   = [condition.value]
      }
    }
  }

  statement {
    sid       = "WriteAlias"
    actions   = ["kms:CreateAlias", "kms:DeleteAlias", "kms:UpdateAlias"]
    resources = ["${local.arn}:kms:${local.here}:alias/${local.prefix}"]
  }

  statement {
    sid     = "Unsubscribe"
    actions = ["sns:Unsubscribe"]
    # Unlike its topic, a subscription is no resource to IAM.
    resources = ["*"]
  }

  statement {
    sid = "DeliverLogs"
    actions = [
      "logs:CreateLogDelivery",
      "logs:GetLogDelivery",
      "logs:UpdateLogDelivery",
      "logs:DeleteLogDelivery",
      "logs:ListLogDeliveries",
      "logs:PutResourcePolicy",
      "logs:DescribeResourcePolicies",
    ]
    # Log delivery has no resource-level permissions.
    resources = ["*"]
  }

  dynamic "statement" {
    for_each = var.hosted_zone_id == null ? [] : [var.hosted_zone_id]

    content {
      sid       = "WriteZone"
      actions   = ["route53:ChangeResourceRecordSets"]
      resources = ["${local.arn}:route53:::hostedzone/${statement.value}"]
    }
  }

  dynamic "statement" {
    for_each = var.hosted_zone_id == null ? [] : [var.hosted_zone_id]

    content {
      sid     = "AwaitZone"
      actions = ["route53:GetChange"]
      # A change is named by an id that Route 53 makes.
      resources = ["${local.arn}:route53:::change/*"]
    }
  }
}

# ---- Roles that the main root makes ----
# Apply may make roles, and so could give itself any power; it may do so only within the boundary.

data "aws_iam_policy_document" "write_roles" {
  statement {
    sid = "WriteBoundedRoles"
    actions = [
      "iam:CreateRole",
      "iam:PutRolePolicy",
      "iam:DeleteRolePolicy",
      "iam:PutRolePermissionsBoundary",
    ]
    resources = [local.role_arns]

    condition {
      test     = "ArnEquals"
      variable = "iam:PermissionsBoundary"
      values   = [aws_iam_policy.boundary.arn]
    }
  }

  statement {
    sid       = "AttachApiGatewayLogs"
    actions   = ["iam:AttachRolePolicy", "iam:DetachRolePolicy"]
    resources = [local.role_arns]

    condition {
      test     = "ArnEquals"
      variable = "iam:PermissionsBoundary"
      values   = [aws_iam_policy.boundary.arn]
    }

    condition {
      test     = "ArnEquals"
      variable = "iam:PolicyARN"
      values   = ["${local.arn}:iam::aws:policy/service-role/AmazonAPIGatewayPushToCloudWatchLogs"]
    }
  }

  statement {
    sid = "WriteRoles"
    actions = [
      "iam:DeleteRole",
      "iam:UpdateRole",
      # What the provider calls when a description has changed.
      "iam:UpdateRoleDescription",
      "iam:UpdateAssumeRolePolicy",
      "iam:TagRole",
      "iam:UntagRole",
      "iam:ListInstanceProfilesForRole",
    ]
    resources = [local.role_arns]
  }

  statement {
    sid       = "PassRoles"
    actions   = ["iam:PassRole"]
    resources = [local.role_arns]

    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["lambda.amazonaws.com", "states.amazonaws.com", "apigateway.amazonaws.com"]
    }
  }

  statement {
    sid       = "MakeServiceRoles"
    actions   = ["iam:CreateServiceLinkedRole"]
    resources = ["${local.arn}:iam::${local.account_id}:role/aws-service-role/*"]

    condition {
      test     = "StringEquals"
      variable = "iam:AWSServiceName"
      values   = ["wafv2.amazonaws.com", "ops.apigateway.amazonaws.com"]
    }
  }
}

# The most that any role of the main root may be allowed to do, whatever its own policies say.
data "aws_iam_policy_document" "boundary" {
  #checkov:skip=CKV_AWS_111:A boundary grants nothing; the logging and X-Ray actions have no narrower resource for all its roles.
  #checkov:skip=CKV_AWS_356:A boundary grants nothing; the logging and X-Ray actions have no narrower resource for all its roles.
  #checkov:skip=CKV_AWS_108:A boundary grants nothing; what it names is limited to this environment's own data.
  statement {
    sid = "Data"
    actions = [
      "dynamodb:GetItem",
      "dynamodb:BatchGetItem",
      "dynamodb:PutItem",
      "dynamodb:UpdateItem",
      "dynamodb:DeleteItem",
      "dynamodb:ConditionCheckItem",
      "dynamodb:Query",
      "dynamodb:DescribeStream",
      "dynamodb:GetRecords",
      "dynamodb:GetShardIterator",
      "dynamodb:ListStreams",
    ]
    resources = [local.table_arn, "${local.table_arn}/index/*", "${local.table_arn}/stream/*"]
  }

  statement {
    sid = "Objects"
    actions = [
      "s3:GetObject",
      "s3:PutObject",
      "s3:DeleteObject",
      "s3:AbortMultipartUpload",
      "s3:ListMultipartUploadParts",
    ]
    resources = ["${local.data_bucket_arn}/*"]
  }

  statement {
    sid = "Queues"
    actions = [
      "sqs:SendMessage",
      "sqs:ReceiveMessage",
      "sqs:DeleteMessage",
      "sqs:ChangeMessageVisibility",
      "sqs:GetQueueAttributes",
    ]
    resources = ["${local.arn}:sqs:${local.here}:${local.prefix}-*"]
  }

  statement {
    sid       = "Secret"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = ["${local.arn}:secretsmanager:${local.here}:secret:${local.prefix}/*"]
  }

  statement {
    sid       = "Key"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [local.key_arns]

    dynamic "condition" {
      for_each = local.own_tags

      content {
        test     = "StringEquals"
        variable = "aws:ResourceTag/${condition.key}"
        values   = [condition.value]
      }
    }
  }

  statement {
    sid     = "Models"
    actions = ["bedrock:InvokeModel", "bedrock:InvokeModelWithResponseStream"]
    resources = [
      "${local.arn}:bedrock:*::foundation-model/*",
      "${local.arn}:bedrock:*:${local.account_id}:inference-profile/*",
    ]
  }

  statement {
    sid       = "Guardrails"
    actions   = ["bedrock:ApplyGuardrail"]
    resources = ["${local.arn}:bedrock:${local.here}:guardrail/*"]
  }

  statement {
    sid       = "Endpoints"
    actions   = ["sagemaker:InvokeEndpoint"]
    resources = ["${local.arn}:sagemaker:${local.here}:endpoint/*"]
  }

  statement {
    sid       = "Events"
    actions   = ["events:PutEvents"]
    resources = ["${local.arn}:events:${local.here}:event-bus/${local.prefix}"]
  }

  statement {
    sid     = "Workflows"
    actions = ["states:StartExecution", "states:DescribeExecution"]
    resources = [
      "${local.arn}:states:${local.here}:stateMachine:${local.prefix}-*",
      "${local.arn}:states:${local.here}:execution:${local.prefix}-*:*",
    ]
  }

  statement {
    sid       = "Tasks"
    actions   = ["lambda:InvokeFunction"]
    resources = ["${local.function_arns}:*"]
  }

  statement {
    sid = "SeenFromInside"
    actions = [
      "logs:CreateLogGroup",
      "logs:CreateLogStream",
      "logs:DescribeLogGroups",
      "logs:DescribeLogStreams",
      "logs:FilterLogEvents",
      "logs:GetLogEvents",
      "logs:PutLogEvents",
      "logs:CreateLogDelivery",
      "logs:GetLogDelivery",
      "logs:UpdateLogDelivery",
      "logs:DeleteLogDelivery",
      "logs:ListLogDeliveries",
      "logs:PutResourcePolicy",
      "logs:DescribeResourcePolicies",
      "xray:PutTraceSegments",
      "xray:PutTelemetryRecords",
      "xray:GetSamplingRules",
      "xray:GetSamplingTargets",
    ]
    # Log delivery and X-Ray have no resource-level permissions; API Gateway checks its role for all log groups.
    resources = ["*"]
  }
}

resource "aws_iam_policy" "boundary" {
  name        = "${local.prefix}-boundary"
  description = "The most that any role of ${local.prefix} may be allowed to do."
  policy      = data.aws_iam_policy_document.boundary.json
}

# ---- Policies and who has them ----

locals {
  role_arns = "${local.arn}:iam::${local.account_id}:role/${local.prefix}-*"
  key_arns  = "${local.arn}:kms:${local.here}:key/*"
  own_tags  = { application = var.name, environment = var.environment }

  policies = merge(
    { for area, document in data.aws_iam_policy_document.read : "read-${area}" => document.json },
    { for area, document in data.aws_iam_policy_document.write : "write-${area}" => document.json },
    {
      read-rest   = data.aws_iam_policy_document.read_rest.json
      write-rest  = data.aws_iam_policy_document.write_rest.json
      write-roles = data.aws_iam_policy_document.write_roles.json
    },
  )

  grants = merge([
    for role in keys(local.roles) : {
      for policy in keys(local.policies) : "${role}/${policy}" => { role = role, policy = policy }
      if role == "apply" || startswith(policy, "read-")
    }
  ]...)
}

# Managed policies, since inline ones may have 10,240 characters together. A role takes ten.
resource "aws_iam_policy" "this" {
  for_each = local.policies

  name        = "${local.prefix}-github-${each.key}"
  description = "Part of what GitHub's workflows may do with ${local.prefix}."
  policy      = each.value
}

resource "aws_iam_role_policy_attachment" "this" {
  for_each = local.grants

  role       = aws_iam_role.this[each.value.role].name
  policy_arn = aws_iam_policy.this[each.value.policy].arn
}
