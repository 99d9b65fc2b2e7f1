# What API Gateway answers by itself, without a function, in OpenAI's error shape.

locals {
  gateway_responses = {
    BAD_REQUEST_BODY = {
      status  = 400
      type    = "invalid_request_error"
      code    = "invalid_body"
      message = "The request body does not match the schema of this route."
    }
    BAD_REQUEST_PARAMETERS = {
      status  = 400
      type    = "invalid_request_error"
      code    = "invalid_parameters"
      message = "A required request parameter is missing."
    }
    UNAUTHORIZED = {
      status  = 401
      type    = "authentication_error"
      code    = "invalid_api_key"
      message = "Incorrect or missing API key. Send it in the header Authorization, after Bearer, or in x-api-key."
    }
    # The authorizer refuses a key with a Deny, since raising would count as an error of its own (docs/adr/0007).
    # An AWS signature that is valid but not allowed gets this type as well.
    ACCESS_DENIED = {
      status  = 401
      type    = "authentication_error"
      code    = "invalid_api_key"
      message = "Incorrect or missing API key, or AWS credentials that may not use this route. Send a key in the header Authorization, after Bearer, or in x-api-key."
    }
    INVALID_API_KEY = {
      status  = 403
      type    = "permission_error"
      code    = "access_denied"
      message = "This API key may not use this route."
    }
    INVALID_SIGNATURE = {
      status  = 403
      type    = "permission_error"
      code    = "invalid_signature"
      message = "The request signature is not valid."
    }
    EXPIRED_TOKEN = {
      status  = 403
      type    = "permission_error"
      code    = "expired_token"
      message = "The security token of the request has expired."
    }
    WAF_FILTERED = {
      status  = 403
      type    = "permission_error"
      code    = "blocked"
      message = "The request was blocked by the firewall."
    }
    # API Gateway gives this type to every path that it does not know, and to an unsigned
    # request for a route that wants a signature. Callers mistype paths far more often.
    MISSING_AUTHENTICATION_TOKEN = {
      status  = 404
      type    = "invalid_request_error"
      code    = "unknown_url"
      message = "Unknown request URL or method, or an unsigned request to an administrative route."
    }
    RESOURCE_NOT_FOUND = {
      status  = 404
      type    = "invalid_request_error"
      code    = "unknown_url"
      message = "Unknown request URL or method."
    }
    REQUEST_TOO_LARGE = {
      status  = 413
      type    = "invalid_request_error"
      code    = "request_too_large"
      message = "The request is larger than 10 MB."
    }
    UNSUPPORTED_MEDIA_TYPE = {
      status  = 415
      type    = "invalid_request_error"
      code    = "unsupported_media_type"
      message = "Send the request as application/json."
    }
    THROTTLED = {
      status  = 429
      type    = "rate_limit_error"
      code    = "rate_limit_exceeded"
      message = "Too many requests. Try again in a moment."
    }
    QUOTA_EXCEEDED = {
      status  = 429
      type    = "rate_limit_error"
      code    = "rate_limit_exceeded"
      message = "The request quota is used up."
    }
    AUTHORIZER_FAILURE = {
      status  = 500
      type    = "server_error"
      code    = "authorizer_error"
      message = "The API key could not be checked. Try again."
    }
    AUTHORIZER_CONFIGURATION_ERROR = {
      status  = 500
      type    = "server_error"
      code    = "authorizer_error"
      message = "The API key could not be checked. Try again."
    }
    API_CONFIGURATION_ERROR = {
      status  = 500
      type    = "server_error"
      code    = "internal_error"
      message = "The server is not configured correctly."
    }
    INTEGRATION_FAILURE = {
      status  = 502
      type    = "server_error"
      code    = "internal_error"
      message = "The server failed to answer the request."
    }
    INTEGRATION_TIMEOUT = {
      status  = 504
      type    = "server_error"
      code    = "timeout"
      message = "The server did not answer in time."
    }
    # Whatever is not named above keeps its own status.
    DEFAULT_4XX = {
      status  = null
      type    = "invalid_request_error"
      code    = "bad_request"
      message = "The request was refused."
    }
    DEFAULT_5XX = {
      status  = null
      type    = "server_error"
      code    = "internal_error"
      message = "The server failed to answer the request."
    }
  }
}

resource "aws_api_gateway_gateway_response" "this" {
  for_each = local.gateway_responses

  rest_api_id   = aws_api_gateway_rest_api.this.id
  response_type = each.key
  status_code   = each.value.status

  response_templates = {
    "application/json" = jsonencode({
      error = {
        message = each.value.message
        type    = each.value.type
        param   = null
        code    = each.value.code
      }
    })
  }

  response_parameters = merge(
    { "gatewayresponse.header.x-request-id" = "context.requestId" },
    each.value.status == 429 ? { "gatewayresponse.header.retry-after" = "'1'" } : {},
  )
}
