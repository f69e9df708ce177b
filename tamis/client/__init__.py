"""A server as its clients see it: the REST client, and what it takes to send a folder."""
