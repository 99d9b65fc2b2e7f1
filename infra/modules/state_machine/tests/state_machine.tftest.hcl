# Proves: the role invokes exactly the given aliases, logs have no execution data, and what a definition must have.

mock_provider "aws" {
  source = "../../tests/mocks"
}

variables {
  name                = "sluice-test-chain"
  kms_key_arn         = "arn:aws:kms:us-east-1:123456789012:key/test"
  function_alias_arns = ["arn:aws:lambda:us-east-1:123456789012:function:step:live"]
  definition = jsonencode({
    StartAt = "Step"
    States = {
      Step = {
        Type           = "Task"
        Resource       = "arn:aws:states:::lambda:invoke"
        TimeoutSeconds = 10
        Retry          = [{ ErrorEquals = ["States.TaskFailed"] }]
        Catch          = [{ ErrorEquals = ["States.ALL"], Next = "Failed" }]
        End            = true
      }
      Failed = { Type = "Fail" }
    }
  })
}

run "invokes_the_given_aliases_only" {
  command = plan

  assert {
    condition     = one(data.aws_iam_policy_document.invoke.statement).actions == toset(["lambda:InvokeFunction"]) && one(data.aws_iam_policy_document.invoke.statement).resources == toset(var.function_alias_arns)
    error_message = "The role may invoke the given aliases and nothing else."
  }

  assert {
    condition     = toset(keys(aws_iam_role_policy.this)) == toset(["invoke", "logs", "xray"])
    error_message = "The role must have one policy for each concern."
  }

  assert {
    condition     = toset([for condition in one(data.aws_iam_policy_document.assume.statement).condition : condition.variable]) == toset(["aws:SourceAccount", "aws:SourceArn"])
    error_message = "Step Functions may assume the role for this state machine only."
  }
}

run "logs_what_happened_but_not_what_was_said" {
  command = apply

  assert {
    condition     = one(aws_sfn_state_machine.this.logging_configuration).level == "ALL" && !one(aws_sfn_state_machine.this.logging_configuration).include_execution_data
    error_message = "Every transition must be logged, without execution data."
  }

  assert {
    condition     = aws_cloudwatch_log_group.this.kms_key_id == var.kms_key_arn && output.log_group_name == "/aws/vendedlogs/states/sluice-test-chain"
    error_message = "The log group must be encrypted with the key that is passed in."
  }

  assert {
    condition     = one(aws_sfn_state_machine.this.tracing_configuration).enabled
    error_message = "Executions must be traced."
  }
}

run "has_an_alarm" {
  command = plan

  variables {
    alarms = { actions = ["arn:aws:sns:us-east-1:123456789012:alarms"] }
  }

  assert {
    condition     = output.alarm_names == ["sluice-test-chain-timed-out"] && one(aws_cloudwatch_metric_alarm.timed_out).dimensions == tomap({ StateMachineArn = output.arn })
    error_message = "An execution that runs into its limit must ring."
  }
}

run "can_do_without_tracing_and_alarm" {
  command = plan

  variables {
    tracing = false
    alarms  = null
  }

  assert {
    condition     = length(aws_sfn_state_machine.this.tracing_configuration) == 0 && length(output.alarm_names) == 0
    error_message = "Tracing and the alarm must follow the variables."
  }
}

run "refuses_a_task_that_cannot_fail_well" {
  command = plan

  variables {
    definition = jsonencode({ StartAt = "Step", States = { Step = { Type = "Task", Resource = "x", End = true } } })
  }

  expect_failures = [var.definition]
}

run "refuses_what_is_no_definition_and_no_alias" {
  command = plan

  variables {
    name                = "a name"
    definition          = "{"
    function_alias_arns = ["arn:aws:lambda:us-east-1:123456789012:function:*"]
  }

  expect_failures = [var.name, var.definition, var.function_alias_arns]
}
