"""The job's steps: plain functions of what is among the objects, which know no SQL, no job engine and no HTTP.

Each returns keys of objects that never change, so that it may be done again. worker/local.py runs them one after the
other over a folder; worker/durable/ makes each a durable step with rows, progress and leases. Both give the same bytes.
"""
