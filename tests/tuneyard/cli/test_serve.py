"""Messages of Serve about a replica that does not start are summarized in one line."""

from __future__ import annotations

from tuneyard.cli.serve import summarize

FAILED = """The deployment failed to start 3 times in a row. See controller logs for details. Error:
\x1b[36mray::ServeReplica:x:X.initialize_and_get_metadata()\x1b[39m (pid=1735, ip=192.0.2.2)
  File "/ray/serve/_private/replica.py", line 1928, in initialize
    raise RuntimeError(traceback.format_exc()) from None
RuntimeError: Traceback (most recent call last):
  File "/x.py", line 9, in __init__
    raise ValueError("inner")
    ^^^^^^^^^^^^^^^^^^^^^^^^^
ValueError: inner

The above exception was the direct cause of the following exception:

\x1b[36mray::ServeReplica:x:X.initialize_and_get_metadata()\x1b[39m (pid=1735, ip=192.0.2.2)
  File "/x.py", line 10, in __init__
    raise CheckpointError(text) from e
    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
tuneyard.core.errors.CheckpointError: row 3:
  trained: 17
  served:  18
"""


def test_a_replica_s_error_stands_at_the_end_of_its_traceback() -> None:
    assert summarize(FAILED) == (
        "The deployment failed to start 3 times in a row. See controller logs for details. Error: "
        "tuneyard.core.errors.CheckpointError: row 3: trained: 17 served: 18"
    )
    assert summarize("Failed to update\nthe deployments ['X'].") == "Failed to update the deployments ['X']."
    assert summarize("") == ""
