"""Durable jobs: ingest, embed, curate, export, train. Started by `tamis worker`, or by `tamis serve` for itself."""
