provider "aws" {
  region = var.region

  default_tags {
    tags = {
      application = var.name
      environment = var.environment
      managed-by  = "terraform-bootstrap"
    }
  }
}

data "aws_caller_identity" "this" {}
data "aws_partition" "this" {}
