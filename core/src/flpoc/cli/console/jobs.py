"""What the console does with jobs, by the commands of the command line."""

from __future__ import annotations

import click

from flpoc.cli import job_change, job_download, job_list, job_logs, job_operate, job_watch
from flpoc.cli.console.command import taken
from flpoc.cli.console.targets import site_argument

submit_job = taken(
    job_change.submit,
    "submit_job",
    click.Argument(["job_folder"], metavar="FOLDER"),
    examples=("submit_job jobs/hello", "submit_job jobs/hello --submit-token run-7"),
    text="""Submit the job in FOLDER: check it, sign it and send it. Gives the job's id.

    A relative FOLDER is looked for in the working directory, in the kit's
    transfer folder, and in $FLPOC_HOME/examples.
    """,
)

get_job_meta = taken(job_list.meta, "get_job_meta", examples=("get_job_meta ID",), verbatim=True)

monitor_job = taken(
    job_watch.monitor,
    "monitor_job",
    examples=("monitor_job ID",),
    text="""Follow a job round by round until it has ended.

    Ctrl-C ends the watching, not the job.
    """,
    verbatim=True,
)

wait_job = taken(job_watch.wait, "wait_job", examples=("wait_job ID --timeout 600",), verbatim=True)

get_job_log = taken(
    job_logs.logs,
    "get_job_log",
    site_argument(default="server"),
    examples=("get_job_log ID", "get_job_log ID site-1 --tail 20", "get_job_log ID all"),
    text="""Show the logs of a job, as far as they have reached the server.

    TARGET is server (if nothing is given), a site's name, client NAME, or all.
    Without any bound, the last 500 lines of each site are shown.
    """,
    verbatim=True,
)

download_job = taken(
    job_download.download,
    "download_job",
    click.Argument(["output_dir"], metavar="[DEST]", required=False, default="."),
    examples=("download_job ID", "download_job ID results --force"),
    text="""Download the results and logs of a job that has ended, to DEST/JOB_ID.

    DEST is the working directory if nothing is given. All of them come, or nothing.
    """,
    kinds={"job_id": "ended job", "output_dir": "file"},
)

abort_job = taken(job_change.abort, "abort_job", examples=("abort_job ID -f",), kinds={"job_id": "open job"})

delete_job = taken(job_change.delete, "delete_job", examples=("delete_job ID -f",), kinds={"job_id": "ended job"})

clone_job = taken(job_operate.clone, "clone_job", examples=("clone_job ID",))

configure_job_log = taken(
    job_operate.log_config,
    "configure_job_log",
    site_argument(),
    click.Argument(["level"]),
    examples=("configure_job_log ID DEBUG", "configure_job_log ID client site-1 full"),
    text="""Have a running job's processes log more, less or in another form, until the job ends.

    TARGET is server, a site's name, client NAME, or all (if nothing is given).
    LEVEL is DEBUG, INFO, WARNING, ERROR, CRITICAL, concise, msg_only, full,
    verbose, or reload: as at the start.
    """,
    kinds={"job_id": "open job"},
)

show_stats = taken(
    job_operate.stats,
    "show_stats",
    site_argument(),
    examples=("show_stats ID", "show_stats ID client site-1"),
    text="""Show where a running job is: rounds, what each site does, the newest numbers.

    TARGET is server, a site's name, client NAME, or all (if nothing is given).
    """,
    kinds={"job_id": "open job"},
)
