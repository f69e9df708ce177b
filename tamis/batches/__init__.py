"""What a training draws from a manifest: its samples, by weight, and which pairs of a batch are difficult."""
