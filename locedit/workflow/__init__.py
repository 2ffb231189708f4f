"""What the workflow's scripts share: configuration, jobs, GPUs, provenance."""
