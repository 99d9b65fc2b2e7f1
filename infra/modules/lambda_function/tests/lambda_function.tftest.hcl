# Proves: the role and its policies, what is derived from the name, the version behind the alias, and the alarms.

mock_provider "aws" {
  source = "../../tests/mocks"
}

variables {
  name        = "sluice-test-health"
  description = "A function for tests."
  package     = "tests/package.zip"
  handler     = "functions.health.handler.handler"
  timeout     = 20
  environment = { TABLE_NAME = "sluice-test" }
  policies    = { read-routes = "{}" }

  platform = {
    package_bucket = "packages"
    kms_key_arn    = "arn:aws:kms:us-east-1:123456789012:key/test"
    layers         = ["arn:aws:lambda:us-east-1:123456789012:layer:sluice:1"]
    alarms         = { actions = ["arn:aws:sns:us-east-1:123456789012:alarms"] }
  }
}

run "has_a_role_with_one_policy_for_each_concern" {
  command = plan

  assert {
    condition     = output.role_name == var.name && output.concerns == tolist(["logs", "read-routes", "xray"])
    error_message = "The role must be the function's own, with its policies and those for logs and X-Ray."
  }

  assert {
    condition     = one(output.statements.logs).resources == toset(["arn:aws:logs:us-east-1:123456789012:log-group:/aws/lambda/sluice-test-health:*"])
    error_message = "The function may write its own log group only."
  }

  assert {
    condition     = one(output.statements.xray).actions == toset(["xray:PutTraceSegments", "xray:PutTelemetryRecords"]) && one(output.statements.xray).resources == toset(["*"])
    error_message = "X-Ray has no resource-level permissions; these two actions and no other are allowed on everything."
  }
}

run "runs_the_package_behind_the_alias" {
  command = plan

  assert {
    condition     = aws_lambda_function.this.publish && aws_lambda_alias.this.name == "live"
    error_message = "A version must be published for the alias."
  }

  assert {
    condition     = aws_s3_object.package.key == "functions/sluice-test-health/${filesha256("tests/package.zip")}.zip" && aws_lambda_function.this.source_code_hash == filebase64sha256("tests/package.zip")
    error_message = "The package must be named by its content."
  }

  assert {
    condition     = aws_lambda_function.this.architectures == tolist(["arm64"]) && aws_lambda_function.this.runtime == "python3.13" && aws_lambda_function.this.reserved_concurrent_executions == -1
    error_message = "The defaults must be arm64, python3.13 and the account's shared concurrency."
  }

  assert {
    condition     = one(aws_lambda_function.this.tracing_config).mode == "Active" && length(aws_lambda_function.this.snap_start) == 0 && !output.snap_start
    error_message = "Tracing must be on, and SnapStart off by default."
  }

  assert {
    condition     = length(aws_lambda_function_recursion_config.this) == 0 && output.recursive_loop == "Terminate"
    error_message = "Lambda must stop loops unless told that they are meant."
  }
}

run "encrypts_environment_logs_and_package" {
  command = plan

  assert {
    condition = alltrue([
      for key in [aws_lambda_function.this.kms_key_arn, aws_cloudwatch_log_group.this.kms_key_id, aws_s3_object.package.kms_key_id] : key == var.platform.kms_key_arn
    ])
    error_message = "Environment, logs and package must be encrypted with the key that is passed in."
  }

  assert {
    condition     = output.environment == tomap({ TABLE_NAME = "sluice-test" }) && output.log_group_name == "/aws/lambda/sluice-test-health"
    error_message = "The environment must be what is passed in, and the log group named by the function."
  }
}

run "has_alarms" {
  command = plan

  assert {
    condition     = toset(output.alarm_names) == toset(["sluice-test-health-errors", "sluice-test-health-throttles", "sluice-test-health-p95-duration"])
    error_message = "Errors, throttles and duration must be watched."
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.this["p95-duration"].threshold == 16000 && aws_cloudwatch_metric_alarm.this["p95-duration"].extended_statistic == "p95"
    error_message = "The duration must be compared with 80 % of the timeout, in milliseconds."
  }
}

run "follows_the_variables" {
  command = plan

  variables {
    reserved_concurrency = 5
    snap_start           = true
    recursive_loop       = "Allow"

    platform = {
      package_bucket           = "packages"
      kms_key_arn              = "arn:aws:kms:us-east-1:123456789012:key/test"
      architecture             = "x86_64"
      permissions_boundary_arn = "arn:aws:iam::123456789012:policy/boundary"
      alarms                   = null
    }
  }

  assert {
    condition     = aws_lambda_function.this.architectures == tolist(["x86_64"]) && one(aws_lambda_function.this.snap_start).apply_on == "PublishedVersions" && aws_lambda_function.this.reserved_concurrent_executions == 5
    error_message = "Architecture, SnapStart and reserved concurrency must follow the variables."
  }

  assert {
    condition     = one(aws_lambda_function_recursion_config.this).recursive_loop == "Allow" && one(aws_lambda_function_recursion_config.this).function_name == var.name && output.recursive_loop == "Allow"
    error_message = "A loop that is meant must not be stopped."
  }

  assert {
    condition     = aws_iam_role.this.permissions_boundary == "arn:aws:iam::123456789012:policy/boundary" && length(output.alarm_names) == 0
    error_message = "Boundary and alarms must follow the variables."
  }
}

run "keeps_environments_warm_instead_of_snapshots" {
  command = plan

  variables {
    provisioned_concurrency = 2
    snap_start              = true
  }

  assert {
    condition     = one(aws_lambda_provisioned_concurrency_config.this).provisioned_concurrent_executions == 2 && length(aws_lambda_function.this.snap_start) == 0
    error_message = "Provisioned concurrency and SnapStart exclude each other."
  }
}

run "asks_for_the_package" {
  command = plan

  variables {
    package = "tests/missing.zip"
  }

  expect_failures = [aws_s3_object.package]
}

run "refuses_bad_values" {
  command = plan

  variables {
    name                    = "Sluice_Health"
    description             = ""
    handler                 = "handler"
    memory_mb               = 64
    timeout                 = 901
    environment             = { "table-name" = "x" }
    policies                = { logs = "{}" }
    reserved_concurrency    = 1
    provisioned_concurrency = 2
    recursive_loop          = "Forever"
  }

  expect_failures = [
    var.name,
    var.description,
    var.handler,
    var.memory_mb,
    var.timeout,
    var.environment,
    var.policies,
    var.reserved_concurrency,
    var.recursive_loop,
  ]
}

run "refuses_a_bad_platform" {
  command = plan

  variables {
    platform = {
      package_bucket     = "packages"
      kms_key_arn        = "arn:aws:kms:us-east-1:123456789012:key/test"
      alias              = "1"
      runtime            = "python3.11"
      architecture       = "mips"
      log_retention_days = 2
      alarms             = { p95_duration_share = 80 }
    }
  }

  expect_failures = [var.platform]
}
