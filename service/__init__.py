"""The HTTP side: REST API and dashboard over the catalogue, the object store and the job queue."""
