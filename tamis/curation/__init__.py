"""Who is difficult: from embeddings to clusters, scores, thresholds, estimates, and a selection."""
