"""Self-supervised training on a manifest: SimCLR with margins and temperatures on difficult pairs; a linear probe."""
