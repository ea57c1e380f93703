"""``flpoc job``: everything about jobs."""

from __future__ import annotations

import click

from flpoc.cli.command import Group

_TABLE = (
    ("abort", "flpoc.cli.job_change:abort", "End a job that has not ended."),
    ("check", "flpoc.cli.job_check:check", "Check a job, without a server; also whether it can be repeated."),
    ("clone", "flpoc.cli.job_operate:clone", "Submit a copy of a job as your own."),
    ("create", "flpoc.cli.job_templates:create", "Make a job folder from a template."),
    ("delete", "flpoc.cli.job_change:delete", "Delete a job that has ended, and all that is kept of it."),
    ("download", "flpoc.cli.job_download:download", "Download a job's results and logs."),
    ("list", "flpoc.cli.job_list:list_jobs", "List jobs."),
    ("list-templates", "flpoc.cli.job_templates:list_templates", "List job templates."),
    ("log-config", "flpoc.cli.job_operate:log_config", "Have a running job's processes log more, less or otherwise."),
    ("logs", "flpoc.cli.job_logs:logs", "Show the logs of a job."),
    ("meta", "flpoc.cli.job_list:meta", "Show everything about a job."),
    ("monitor", "flpoc.cli.job_watch:monitor", "Follow a job round by round until it has ended."),
    ("show-variables", "flpoc.cli.job_templates:show_variables", "Show what can be changed in a job."),
    ("stats", "flpoc.cli.job_operate:stats", "Show where a running job is, site by site."),
    ("submit", "flpoc.cli.job_change:submit", "Submit a job."),
    ("wait", "flpoc.cli.job_watch:wait", "Wait until a job has ended."),
)


@click.group(
    cls=Group,
    table=_TABLE,
    aliases={"log": "log-config"},
    help="Submit, watch and manage jobs, and download their results.",
)
def job() -> None:
    pass
