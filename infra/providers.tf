# AWS_ENDPOINT_URL, when set, is honoured by the provider: locally the same root is applied to
# the local cloud, and only the switches below differ.
provider "aws" {
  region = var.region

  s3_use_path_style           = var.local_endpoints
  skip_credentials_validation = var.local_endpoints
  skip_metadata_api_check     = var.local_endpoints
  skip_region_validation      = var.local_endpoints

  default_tags {
    tags = local.tags
  }
}

data "aws_caller_identity" "this" {}
data "aws_partition" "this" {}
data "aws_region" "this" {}
