# The values come from environments/<environment>.s3.tfbackend:
#   terraform init -backend-config=environments/dev.s3.tfbackend -backend-config=bucket=<state bucket>
terraform {
  backend "s3" {}
}
