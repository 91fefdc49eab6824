"""Jobs that outlive the request and the process that asked for them: recorded, queued, watched, cancelled, retried.

The record is a row in the records database; the work is a process of its own, ``python -m pipelines.…``, here or on a
Ray cluster; between them stands a supervisor that can be lost at any time, because all it knows is in the record, in
the folder of the job, or on the cluster.
"""
