"""Names of the environment's variables by which a process hands settings to the processes of its tasks."""

JOBS = "LETHEON_JOBS"  # how many tasks run at once
THREADS = "LETHEON_THREADS"  # set where OMP_NUM_THREADS is the scheduler's choice and not the user's
PRECISION = "LETHEON_PRECISION"  # what `precision="auto"` is on the processor
TRACKER = "LETHEON_TRACK"  # the tracker that metrics are copied to
STARTED_HERE = "LETHEON_STARTED_HERE"  # set in the processes that `--processes` started, which reports for them
