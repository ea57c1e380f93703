"""What a console understands: its commands by group, where each is, and what it does not have."""

from __future__ import annotations

import re
from typing import Final

import attrs


@attrs.frozen
class Entry:
    """A command of the console.

    Attributes:
        name: What the user types.
        place: Where it is, ``module:attribute`` below this package; imported when it is called.
        summary: One line of help.
        also: The command of the command line that does the same, without ``flpoc``; or empty.
    """

    name: str
    place: str
    summary: str
    also: str = ""


#: The commands, in the order in which they are shown.
GROUPS: Final[dict[str, tuple[Entry, ...]]] = {
    "jobs": (
        Entry("submit_job", "jobs:submit_job", "Submit the job in a folder.", "job submit"),
        Entry("list_jobs", "job_lists:list_jobs", "List jobs.", "job list"),
        Entry("list_job", "job_lists:list_job", "Show the line of one job."),
        Entry("get_job_meta", "jobs:get_job_meta", "Show everything about a job.", "job meta"),
        Entry("monitor_job", "jobs:monitor_job", "Follow a job round by round until it has ended.", "job monitor"),
        Entry("wait_job", "jobs:wait_job", "Wait until a job has ended.", "job wait"),
        Entry("get_job_log", "jobs:get_job_log", "Show the logs of a job.", "job logs"),
        Entry("download_job", "jobs:download_job", "Download a job's results and logs.", "job download"),
        Entry("download_job_components", "job_lists:download_job_components", "List a job's files, or download some."),
        Entry("abort_job", "jobs:abort_job", "End a job that has not ended.", "job abort"),
        Entry("delete_job", "jobs:delete_job", "Delete a job that has ended.", "job delete"),
        Entry("clone_job", "jobs:clone_job", "Submit a copy of a job as your own.", "job clone"),
        Entry("configure_job_log", "jobs:configure_job_log", "Have a running job log otherwise.", "job log-config"),
    ),
    "running jobs": (
        Entry("show_stats", "jobs:show_stats", "Show where a running job is, site by site.", "job stats"),
        Entry("show_errors", "job_lists:show_errors", "Show why a job, or a site in it, failed."),
    ),
    "system": (
        Entry("check_status", "system:check_status", "Show the server, its jobs and sites.", "system status"),
        Entry("sys_info", "system:sys_info", "Show what machines server and sites run on."),
        Entry("report_resources", "system:report_resources", "Show what they have for jobs.", "system resources"),
        Entry("report_env", "system:report_env", "Show versions and plugins.", "system env"),
        Entry("report_version", "system:report_version", "Show which flpoc runs where.", "system version"),
        Entry("shutdown", "system:shutdown", "End the server or sites.", "system shutdown"),
        Entry("restart", "system:restart", "End the server or sites and begin anew.", "system restart"),
        Entry("disable_client", "system:disable_client", "Keep a site out.", "system disable-client"),
        Entry("enable_client", "system:enable_client", "Let a site in again.", "system enable-client"),
        Entry("configure_site_log", "system:configure_site_log", "Have them log otherwise.", "system log-config"),
    ),
    "logs of server and sites": (
        Entry("tail", "logs:tail", "Show the last lines of the log of the server or a site.", "system log"),
        Entry("head", "logs:head", "Show its first lines."),
        Entry("cat", "logs:cat", "Show all of it that is told."),
        Entry("grep", "logs:grep", "Show its lines that match a pattern."),
    ),
    "studies": (
        Entry("list_studies", "studies:list_studies", "List the studies that you may know of.", "study list"),
        Entry("show_study", "studies:show_study", "Show the sites and users of a study.", "study show"),
        Entry("register_study", "studies:register_study", "Make a study.", "study register"),
        Entry("remove_study", "studies:remove_study", "Remove a study that has no jobs.", "study remove"),
        Entry("add_study_site", "studies:add_study_site", "Add sites to a study.", "study add-site"),
        Entry("remove_study_site", "studies:remove_study_site", "Take sites out of a study.", "study remove-site"),
        Entry("add_study_user", "studies:add_study_user", "Let a user work in a study.", "study add-user"),
        Entry("remove_study_user", "studies:remove_study_user", "Take a user out of a study.", "study remove-user"),
    ),
    "this console": (
        Entry("help", "local:help_", "List the commands, or explain one: ? NAME."),
        Entry("info", "local:info", "Show who is connected where, and with which kit."),
        Entry("timeout", "local:timeout", "Show or set how long to try to reach the server."),
        Entry("lpwd", "local:lpwd", "Show the working directory on this machine."),
        Entry("lls", "local:lls", "List a folder of this machine."),
        Entry("bye", "local:bye", "End the console; so does Ctrl-D."),
    ),
}

ENTRIES: Final = {entry.name: entry for entries in GROUPS.values() for entry in entries}

#: Other words for commands.
ALIASES: Final = {"?": "help", "exit": "bye", "quit": "bye", "wait_for_job": "wait_job", "ll": "lls"}

_FILES: Final = "files of a site never leave it; its service log is shown by `tail`, `head`, `cat` and `grep`"
#: What other consoles have and this one does not, and what to use instead.
NOT_HERE: Final = {
    "remove_client": "`disable_client NAME` keeps a site out; for good, `flpoc cert revoke NAME` in a shell",
    "reset_errors": "errors belong to their job and stay with it: `show_errors ID`, `delete_job ID`",
    "delete_workspace": "`delete_job ID` deletes a job with all that is kept of it",
    "show_scopes": "a site's owner writes its privacy rules into local/policy.json; `report_env client` shows plugins",
    "app_command": "scripts take no commands; `show_stats ID` and `monitor_job ID` show where a job is",
    "list_sessions": "the server keeps no sessions; `flpoc audit show` says who did what",
    "check_session": "there is no session that could end; `info` shows the connection",
    "pwd": _FILES,
    "ls": _FILES,
}

_OF_COMMAND_LINE: Final = {entry.also: entry.name for entry in ENTRIES.values() if entry.also}
_LINE: Final = re.compile(r"\bflpoc ((?:job|system|study) [a-z]+(?:-[a-z]+)*)")
#: Options of the command line that are plain words here.
_PLAIN: Final = re.compile(
    r"\b((?:submit_job|get_job_log|configure_job_log|configure_site_log|show_stats|report_version)\b[^`\n]*?)"
    r" (?:-j|--site) (?=\S)"
)


def known(word: str) -> str:
    """The command that *word* means, or the word itself; ``-`` equals ``_``."""
    name = word.replace("-", "_")
    return ALIASES.get(name, name)


def in_console(text: str) -> str:
    """The same advice with commands of the command line as they are called here."""
    text = _LINE.sub(lambda found: _OF_COMMAND_LINE.get(found.group(1), found.group()), text)
    return _PLAIN.sub(r"\1 ", text).replace("--site ", "TARGET ").replace("--output-dir", "DEST")


def instead_of(words: list[str]) -> str:
    """The console's command for a line that was meant for a shell; empty if there is none."""
    rest = words[1:] if words[:1] == ["flpoc"] else words
    return _OF_COMMAND_LINE.get(" ".join(rest[:2]).replace("_", "-"), "")
