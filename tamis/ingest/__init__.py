"""From a source's entries to shards of verified images."""
