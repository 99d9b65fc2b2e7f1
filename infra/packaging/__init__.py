"""Turns functions/ and layers/ into the zips that Terraform deploys, and wire types into JSON Schemas."""
