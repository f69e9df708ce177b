"""All pairs of rows: counted, and the most similar ones in the band kept. Knows arrays, not images."""
