"""The roof: Prefect flows, schedules and the command line that start everything else."""
