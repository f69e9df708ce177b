"""Where things are kept: the catalogue (SQL), the objects (folder or bucket), the queue. Nothing else knows these."""
