"""The steps as durable jobs of DBOS, with rows, progress and leases. Started by `tamis worker`, or by `tamis serve`."""
