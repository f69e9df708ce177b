"""The job: its steps, run in this process (local.py) or as durable jobs (durable/)."""
