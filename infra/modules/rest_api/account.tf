# The CloudWatch role of API Gateway: one setting for the whole account and region, which every
# stage that writes logs needs.
resource "aws_api_gateway_account" "this" {
  count = var.manage_account ? 1 : 0

  cloudwatch_role_arn = aws_iam_role.api_gateway_logs[0].arn

  depends_on = [aws_iam_role_policy_attachment.api_gateway_logs]
}

resource "aws_iam_role" "api_gateway_logs" {
  count = var.manage_account ? 1 : 0

  name                 = "${var.name}-api-gateway-logs"
  description          = "Lets API Gateway write access and execution logs."
  assume_role_policy   = data.aws_iam_policy_document.assume_api_gateway.json
  permissions_boundary = var.permissions_boundary_arn
}

resource "aws_iam_role_policy_attachment" "api_gateway_logs" {
  count = var.manage_account ? 1 : 0

  role = aws_iam_role.api_gateway_logs[0].name
  # API Gateway checks that the account's role may do all that this policy of AWS's own names.
  policy_arn = "arn:${local.partition}:iam::aws:policy/service-role/AmazonAPIGatewayPushToCloudWatchLogs"
}

data "aws_iam_policy_document" "assume_api_gateway" {
  statement {
    sid     = "ApiGatewayOfThisAccount"
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["apigateway.amazonaws.com"]
    }
  }
}
