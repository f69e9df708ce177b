"""Every figure that the documentation quotes: each beside a peer and the physical limit, measured in the same run."""
