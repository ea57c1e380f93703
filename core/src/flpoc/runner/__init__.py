"""The two processes in which a job's code runs: controller and trainer."""
