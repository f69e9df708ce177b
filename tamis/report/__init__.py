"""What a manifest says, for people: one HTML file that needs nothing else."""
