"""The commands of `cloud-service`, one file per group."""
