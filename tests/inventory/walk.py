"""A walk through every command and option against a running proof of concept, and what must come of each step."""

from __future__ import annotations

import attrs


@attrs.frozen
class Step:
    """One command line.

    Attributes:
        line: The words after ``flpoc``; ``{name}`` is what an earlier step has kept, or a place of the walk.
        code: The error code that it must end with; empty for a success.
        exit: The exit status.
        fields: Keys that its data must have, separated by spaces; ``[]``: it is a list, and its first row has them.
        keep: ``name=key``: what later lines may say for ``{name}``.
        files: Files to write first: path below the walk's folder to text.
        why: What the step shows, where its line does not say it.
    """

    line: str
    code: str = ""
    exit: int = 0
    fields: str = ""
    keep: str = ""
    files: dict[str, str] = attrs.field(factory=dict)
    why: str = ""


SCRIPT = """\
import logging
import time

import numpy as np

import flpoc.client as flare

log = logging.getLogger("train")
flare.init()
while flare.is_running():
    model = flare.receive()
    if model is None:
        break
    if flare.is_evaluate():
        flare.send(flare.FLModel(metrics={"accuracy": 0.9}))
        continue
    print("round", model.current_round, flush=True)
    log.debug("a detail")
    ACT
    flare.log("loss", 0.5)
    params = dict(model.params) or {"w": np.zeros(4, np.float32)}
    flare.send(flare.FLModel(params={name: value + 1 for name, value in params.items()}, metrics={"accuracy": 0.5}))
"""


def job(name: str, act: str = "pass", rounds: int = 2, more: str = "") -> dict[str, str]:
    """The files of a job folder."""
    return {
        f"jobs/{name}/job.conf": f'name = {name}\nrounds = {rounds}\nscript = "train.py"\nmin_clients = 2\n{more}\n',
        f"jobs/{name}/code/train.py": SCRIPT.replace("ACT", act),
    }


#: A folder with one job template.
TEMPLATE = {
    "home/templates/own/job.conf": "name = own\nscript = train.py # the one\n",
    "home/templates/own/code/train.py": "",
    "home/templates/own/info.conf": '{"description": "my own"}',
}

_BEFORE = (
    Step("version", fields="version plugin_api python"),
    Step("config", fields="config_file poc_workspace_dir active_startup_kit"),
    Step("config inspect", fields="active findings config_file"),
    Step("job list", code="STARTUP_KIT_MISSING", exit=2),
    Step("system status", code="STARTUP_KIT_MISSING", exit=2),
    Step("study list", code="STARTUP_KIT_MISSING", exit=2),
    Step("job list --kit-id nobody", code="STARTUP_KIT_MISSING", exit=2),
    Step("job list --startup-kit {home}/nowhere", code="STARTUP_KIT_MISSING", exit=2),
    Step("job list --kit-id a --startup-kit b", code="INVALID_ARGS", exit=4),
    Step("poc start", code="INVALID_ARGS", exit=4, why="nothing is prepared"),
    Step("poc stop", code="INVALID_ARGS", exit=4),
    Step("poc clean --debug", code="INVALID_ARGS", exit=4),
    Step("poc add-site site-3", code="INVALID_ARGS", exit=4),
    Step("poc add-user lead ada@example.org", code="INVALID_ARGS", exit=4),
    Step("poc config", fields="config_file poc_workspace_dir env_override jobs_dir"),
    Step("poc config -pw {workspace}", fields="config_file poc_workspace_dir"),
    Step("poc config --pw {workspace}", fields="config_file poc_workspace_dir"),
    Step("poc config --poc-workspace-dir {workspace}", fields="config_file poc_workspace_dir"),
    Step("poc config --poc_workspace_dir {workspace}", fields="config_file poc_workspace_dir"),
    Step("config -pw {workspace}", fields="poc_workspace_dir"),
    Step("config --poc_workspace_dir {workspace}", fields="poc_workspace_dir"),
    Step("config -jt {home}/nowhere", code="INVALID_ARGS", exit=4),
    Step("config -jt {home}/templates", fields="job_templates_dir", files=TEMPLATE),
    Step("config --job_templates_dir {home}/templates", fields="job_templates_dir"),
    Step("config add me {home}/nowhere", code="INVALID_ARGS", exit=4),
    Step("config use nobody", code="INVALID_ARGS", exit=4),
    Step("config remove nobody", code="INVALID_ARGS", exit=4),
)
_PROFILE = "name: hospitals\nserver:\n  host: localhost\n  fed_learn_port: 18402\n"
_HOSPITAL = "name: hospitals\nparticipants:\n  - {name: hospital-a, type: client, org: alpha}\n"
_CERT = "cert approve {folder}/asked/hospital-a.request.zip --profile {folder}/profile.yaml"
_KIT = "package {folder}/answer.zip"
_PAPERS = (
    Step("provision", code="INVALID_ARGS", exit=4, why="there is no project.yml"),
    Step("provision -g", fields="project_yml message next_step suggested_command"),
    Step("provision -g", code="INVALID_ARGS", exit=4, why="no terminal to ask at"),
    Step("provision --generate --force", fields="project_yml"),
    Step("provision -p {home}/project.yml -w {folder}/kits -c x -e -s", fields="workspace packages"),
    Step("provision --project-file {home}/project.yml --workspace {folder}/kits", code="INVALID_ARGS", exit=4),
    Step("provision -p {home}/project.yml -w {folder}/kits --force --custom-folder x", fields="packages"),
    Step("provision -p {home}/project.yml -w {folder}/kits --force --edge --scripts", fields="packages"),
    Step(
        "provision -p {home}/project.yml -w {folder}/kits --add-client {folder}/site.yml",
        fields="packages",
        files={"site.yml": "name: site-7\norg: nvidia\n"},
    ),
    Step(
        "provision -p {home}/project.yml -w {folder}/kits --add-user {folder}/user.yml",
        fields="packages",
        files={"user.yml": "name: bob@nvidia.com\norg: nvidia\nrole: lead\n"},
    ),
    Step("preflight-check -p {folder}/nowhere", code="INVALID_ARGS", exit=4),
    Step(
        "preflight-check --package-path {folder}/kits/example_project/prod_00/server --state {folder}/state",
        fields="package checks overall",
    ),
    Step(
        "preflight -p {folder}/kits/example_project/prod_00/site-1 --connect-timeout 1",
        exit=1,
        fields="package checks overall",
        why="no server runs",
    ),
    Step("cert init --profile {folder}/nowhere.yaml -o {folder}/ca", code="PROJECT_FILE_NOT_FOUND", exit=4),
    Step(
        "cert init --profile {folder}/profile.yaml -o {folder}/ca --org central --valid-days 2000 --deploy-version 00",
        fields="project rootca_fingerprint_sha256",
        files={"profile.yaml": _PROFILE, "hospital-a.yaml": _HOSPITAL},
    ),
    Step("cert init --profile {folder}/profile.yaml --output-dir {folder}/ca", code="CA_ALREADY_EXISTS", exit=1),
    Step("cert init --profile {folder}/profile.yaml -o {folder}/ca --force", fields="former_ca_dir"),
    Step("cert request -p {folder}/hospital-a.yaml --out {folder}/asked"),
    Step("cert request --participant {folder}/hospital-a.yaml --out {folder}/asked", code="KEY_ALREADY_EXISTS", exit=1),
    Step("cert request -p {folder}/hospital-a.yaml --out {folder}/asked --force"),
    Step(f"{_CERT} -c {{folder}}/nowhere", code="CA_NOT_FOUND", exit=1),
    Step(
        f"{_CERT} -c {{folder}}/ca --out {{folder}}/answer.zip --org alpha --valid-days 30",
        fields="rootca_fingerprint_sha256",
    ),
    Step(
        f"{_CERT} --ca-dir {{folder}}/ca --out {{folder}}/answer.zip",
        code="CERT_ALREADY_EXISTS",
        exit=1,
    ),
    Step(f"{_CERT} -c {{folder}}/ca --out {{folder}}/answer.zip --force"),
    Step(f"{_CERT} -c {{folder}}/ca --role lead", code="INVALID_CERT_TYPE", exit=4),
    Step(f"{_KIT} --fingerprint {'00' * 32}", code="ROOTCA_FINGERPRINT_MISMATCH", exit=4),
    Step(f"{_KIT} --request-dir {{folder}}/nowhere", code="REQUEST_DIR_NOT_FOUND", exit=4),
    Step(f"{_KIT} -w {{folder}}/made --request-dir {{folder}}/asked"),
    Step(f"{_KIT} --workspace {{folder}}/made --request-dir {{folder}}/asked", code="OUTPUT_DIR_EXISTS", exit=1),
    Step(f"{_KIT} -w {{folder}}/made --request-dir {{folder}}/asked --force"),
)
_PREPARE = (
    Step("poc prepare -n 0", code="INVALID_ARGS", exit=4),
    Step("poc prepare --number-of-clients -3", code="INVALID_ARGS", exit=4),
    Step("poc prepare --number_of_clients 1 --launcher nobody", code="PLUGIN_NOT_FOUND", exit=4),
    Step("poc prepare -he", code="PLUGIN_NOT_FOUND", exit=4),
    Step("poc prepare --he", code="PLUGIN_NOT_FOUND", exit=4),
    Step("poc prepare -d", code="LAUNCH_FAILED", exit=1, why="no Docker engine here, or not that image"),
    Step("poc prepare --docker-image x", code="LAUNCH_FAILED", exit=1),
    Step("poc prepare --docker_image x --launcher local", code="INVALID_ARGS", exit=4),
    Step("poc prepare -i {home}/nowhere.yml", code="INVALID_CONFIG", exit=4),
    Step("poc prepare --project-input {home}/nowhere.yml", code="INVALID_CONFIG", exit=4),
    Step("poc prepare --project_input {home}/nowhere.yml -debug", code="INVALID_CONFIG", exit=4),
    Step("poc prepare -c site-1 site-1", code="INVALID_CONFIG", exit=4),
    Step("poc prepare --clients a b c", fields="workspace clients startup_kit port_preflight"),
    Step("poc prepare -n 2", code="INVALID_ARGS", exit=4, why="no terminal to ask at"),
    Step(
        "poc prepare -i {home}/project.yml --force --debug --launcher local",
        code="INVALID_ARGS",
        exit=4,
        why="the file says which launcher",
    ),
    Step("poc prepare -i {home}/project.yml --force", fields="workspace clients startup_kit port_preflight"),
    Step("poc start -gpu 7", code="INVALID_ARGS", exit=4),
    Step("poc start --gpu 7", code="INVALID_ARGS", exit=4),
    Step("poc start -p nobody", code="INVALID_ARGS", exit=4),
    Step("poc start --service nobody", code="INVALID_ARGS", exit=4),
    Step("poc start -ex nobody", code="INVALID_ARGS", exit=4),
    Step("poc start --exclude nobody", code="INVALID_ARGS", exit=4),
    Step("job list", code="CONNECTION_FAILED", exit=2, why="it does not run"),
    Step("poc start --port 0", code="INVALID_ARGS", exit=4),
    Step(
        "poc start --timeout 60 -debug",
        fields="status server_url server_address admin_address default_port default_server_port default_admin_port "
        "wait no_wait ready_timeout ready clients console_logs port_conflict port_preflight warnings already_running",
    ),
    Step("poc start --no-wait --debug --study default", fields="already_running warnings"),
    Step("poc start --port 9", code="INVALID_ARGS", exit=4, why="what runs keeps its port"),
    Step("poc prepare -n 2", code="INVALID_ARGS", exit=4, why="it runs"),
)
_KITS = (
    Step("config list", fields="[] active id status identity cert_role path role org project certificate findings"),
    Step(
        "config inspect",
        fields="active path config_file status identity cert_role role org project certificate findings",
    ),
    Step("config add other {admin}", fields="registered_startup_kit path next_step"),
    Step("config add other {lead}", code="INVALID_ARGS", exit=4),
    Step("config add other {lead} --force", fields="registered_startup_kit path next_step"),
    Step("config use other", fields="startup_kit identity project certificate findings"),
    Step("config remove other", fields="removed_startup_kit warning next_step"),
    Step("config -d {admin}", fields="config_file poc_workspace_dir active_startup_kit"),
    Step("config --startup_kit_dir {admin}", fields="active_startup_kit"),
    Step("config use admin@nvidia.com", fields="startup_kit identity project certificate findings"),
)
_TEMPLATES = (
    Step("job list-templates", fields="[] name description controller_type execution_api_type"),
    Step("job list-templates -d {home}/nowhere", code="INVALID_ARGS", exit=4),
    Step("job list_templates -d {home}/templates -debug", fields="[] name"),
    Step("job list-templates --job-templates-dir {home}/templates --debug", fields="[] name"),
    Step("job list-templates --job_templates_dir {home}/templates", fields="[] name"),
    Step("job create -j {folder}/default", fields="job_folder status template variables", why="it is sag_pt"),
    Step("job create -w nothing", code="INVALID_ARGS", exit=4),
    Step("job create -w sag_np -j {folder}/readme", code="INVALID_ARGS", exit=4, files={"readme": "a file"}),
    Step("job create -w sag_np -j {folder}/src/job -sd {folder}/src", code="INVALID_ARGS", exit=4,
         files={"src/mine.py": ""}),
    Step("job create -w sag_np -j {folder}/templated -sd {folder}/nowhere", code="INVALID_ARGS", exit=4),
    Step("job create -w sag_np -j {folder}/templated -f job.conf rounds", code="INVALID_ARGS", exit=4),
    Step("job create -w sag_np -j {folder}/templated -f job.conf round=3", code="INVALID_CONFIG", exit=4),
    Step("job create -w sag_np -j {folder}/templated -f job.conf rounds=3 seed=1 -debug",
         fields="job_folder status template variables"),
    Step("job create --template cyclic_np --job-folder {folder}/templated --force --debug", fields="status"),
    Step("job create --template own --job_folder {folder}/templated --script-dir {folder}/src "
         "--config-file job.conf script=mine.py -force", fields="status"),
    Step("job create -w own -d {home}/templates -j {folder}/more/mine --script_dir {folder}/src "
         "--config_file job.conf script=mine.py --config_file job.conf rounds=1", fields="status"),
    Step("job create -w own --job-templates-dir {home}/templates -j {folder}/more/mine", fields="status"),
    Step("job create -w own --job_templates_dir {home}/templates -j {folder}/more/mine", fields="status"),
    Step("job show-variables", code="INVALID_ARGS", exit=4),
    Step("job show-variables -j {folder}/templated -debug", fields="job_folder variables"),
    Step("job show_variables --job-folder {folder}/templated --debug", fields="variables"),
    Step("job show-variables --job_folder {folder}/templated", fields="variables"),
    Step("poc prepare-jobs-dir", code="INVALID_ARGS", exit=4),
    Step("poc prepare-jobs-dir -j {folder}/nowhere", code="INVALID_ARGS", exit=4),
    Step("poc prepare-jobs-dir -j {folder}/more -debug", fields="jobs_dir config_file"),
    Step("poc prepare-jobs-dir --jobs-dir {folder}/more --debug", fields="jobs_dir"),
    Step("poc prepare_jobs_dir --jobs_dir {folder}/more", fields="jobs_dir"),
    Step("job submit -j mine", fields="job_id", keep="mine=job_id", why="it is found in the jobs folder"),
    Step("job abort {mine} --force", fields="job_id"),
)  # fmt: skip
_SUBMIT = (
    Step("job submit", code="INVALID_ARGS", exit=4),
    Step("job submit -j {folder}/nowhere", code="INVALID_ARGS", exit=4),
    Step(
        "job submit -j {folder}/jobs/foreign",
        code="JOB_INVALID",
        exit=1,
        files={"jobs/foreign/meta.json": "{}", "jobs/foreign/app/config/config_fed_server.json": "{}"},
    ),
    Step("job submit -j {folder}/jobs/hello", fields="job_id", keep="finished=job_id", files=job("hello")),
    Step(
        "job wait {finished} --timeout 60 --interval 1 --metric loss",
        fields="job_id status duration_s job_meta last_stats stats_raw",
    ),
    Step("job submit --job-folder {folder}/jobs/hello --submit-token t-1", fields="job_id", keep="token=job_id"),
    Step("job submit --job_folder {folder}/jobs/hello --submit-token t-1", fields="job_id existing"),
    Step(
        "job submit -j {folder}/jobs/other --submit-token t-1",
        code="SUBMIT_TOKEN_CONFLICT",
        exit=4,
        files=job("other", "1"),
    ),
    Step("job submit -j {folder}/jobs/other --submit-token !", code="INVALID_ARGS", exit=4),
    Step("job submit -j {folder}/jobs/other -debug", fields="job_id", keep="deleted=job_id"),
    Step("job wait {token} --timeout 60", fields="job_id status"),
    Step("job wait {deleted} --timeout 60", fields="job_id status"),
    Step("job delete {token}", code="INVALID_ARGS", exit=4, why="no terminal to ask at"),
    Step("job delete {token} --force", fields="job_id submit_records_marked_deleted"),
    Step("job submit -j {folder}/jobs/hello --submit-token t-1 --debug", code="SUBMIT_TOKEN_JOB_DELETED", exit=4),
    Step("job list --submit-token t-1", code="SUBMIT_TOKEN_JOB_DELETED", exit=4),
    Step("job meta {token}", code="JOB_NOT_FOUND", exit=1),
    Step(
        "job submit -j {folder}/jobs/wrong",
        fields="job_id",
        keep="failed=job_id",
        files=job("wrong", "raise ValueError('no column')"),
    ),
    Step("job wait {failed} --timeout 60", code="JOB_FINISHED_EXCEPTION", exit=1, fields="cause"),
    Step(
        "job submit -j {folder}/jobs/needy",
        fields="job_id",
        keep="never=job_id",
        files=job("needy", more="needs { gpus = 4 }"),
    ),
    Step("job wait {never} --timeout 60", code="JOB_FAILED", exit=1, fields="cause"),
)
_LOOK = (
    Step("job list", fields="[] job_id job_name status submit_time duration_s study"),
    Step("job list -n hel -i {finished} -r -m 3", fields="[] job_id"),
    Step("job list --name hel --id {finished} --reverse --max 3 --study default", fields="[] job_id"),
    Step("job list --kit-id lead@nvidia.com", fields="[] job_id"),
    Step("job list --startup-kit {lead}", fields="[] job_id"),
    Step("job list --study nowhere", code="AUTH_FAILED", exit=2),
    Step("job list --study NO", code="INVALID_ARGS", exit=4),
    Step(
        "job meta {finished}",
        fields="name resource_spec min_clients mandatory_clients deploy_map byoc study submitter_name submitter_org "
        "submitter_role job_folder_name job_id submit_time start_time finish_time duration_s status job_deploy_detail "
        "schedule_count last_schedule_time job_clients",
    ),
    Step("job logs {finished}", fields="job_id target logs logs_truncated sites filters"),
    Step("job logs {finished} --site all --tail 5 --max-bytes 1000 --since 2026-01-01", fields="logs sites filters"),
    Step("job logs {finished} --sites site-1", fields="logs sites filters"),
    Step("job logs {finished} --site nobody", code="LOG_NOT_FOUND", exit=1),
    Step("job logs {finished} --tail -1", code="INVALID_ARGS", exit=4),
    Step(
        "job monitor {finished} --timeout 60 --interval 1 --stats-target all --metric loss",
        fields="job_id status job_meta",
    ),
    Step("job stats {finished}", code="JOB_NOT_RUNNING", exit=1),
    Step("job log-config {finished} INFO", code="JOB_NOT_RUNNING", exit=1),
    Step("job abort {finished} --force", code="JOB_NOT_RUNNING", exit=1),
    Step("job abort {finished}", code="INVALID_ARGS", exit=4),
    Step(
        "job download {finished} -o {folder}/results",
        fields="job_id download_path path artifact_discovery artifacts missing_artifacts",
    ),
    Step("job download {finished} -o {folder}/results", code="INVALID_ARGS", exit=4),
    Step("job download {finished} --output-dir {folder}/results --force", fields="download_path"),
    Step(
        "job download {finished} --output_dir {folder}/readme",
        code="OUTPUT_DIR_NOT_WRITABLE",
        exit=1,
        files={"readme": "a file"},
    ),
    Step("job clone {finished}", fields="source_job_id new_job_id", keep="clone=new_job_id"),
    Step("job wait {clone} --timeout 60", fields="status"),
)
_MAKER = """
from flpoc.recipe import NumpyFedAvgRecipe

def made(name="made"):
    return NumpyFedAvgRecipe(name=name, min_clients=2, train_script="train.py", model={"w": [0.0]})

first = made("first")
MORE
"""
_RECIPES = (
    Step("completion bash", fields="shell script"),
    Step("completion tcsh", code="INVALID_ARGS", exit=4),
    Step("recipe", fields="[] name"),
    Step(
        "recipe list --framework numpy --filter algorithm=fedavg",
        fields="[] name description framework module class algorithm aggregation state_exchange privacy",
    ),
    Step("recipe list --filter colour=blue", code="INVALID_ARGS", exit=4),
    Step(
        "recipe show fedavg_numpy",
        fields="client_requirements framework_support heterogeneity_support privacy_compatible parameters "
        "optional_dependencies template_references notes",
    ),
    Step("recipe show nobody", code="RECIPE_ENTRY_NOT_FOUND", exit=1),
    Step(
        "recipe export {folder}/recipes/job.py --export-dir {folder}/jobs",
        fields="name job_folder files",
        files={"recipes/job.py": _MAKER.replace("MORE", ""), "recipes/train.py": SCRIPT.replace("ACT", "pass")},
    ),
    Step("recipe export {folder}/recipes/job.py --export-dir {folder}/jobs --entry made", fields="name job_folder"),
    Step("recipe export {folder}/recipes/job.py --entry nobody", code="RECIPE_ENTRY_NOT_FOUND", exit=1),
    Step(
        "recipe export {folder}/recipes/two.py",
        code="RECIPE_ENTRY_AMBIGUOUS",
        exit=1,
        files={"recipes/two.py": _MAKER.replace("MORE", "second = made('second')")},
    ),
    Step(
        "recipe export {folder}/recipes/bad.py",
        code="RECIPE_EXPORT_FAILED",
        exit=1,
        files={"recipes/bad.py": _MAKER.replace("MORE", "1 / 0")},
    ),
    Step("recipe export {folder}/nowhere.py", code="INVALID_ARGS", exit=4),
    Step("job submit -j {folder}/jobs/made", fields="job_id", keep="made=job_id"),
    Step("job wait {made} --timeout 60", fields="status"),
)
_RUNNING = (
    Step(
        "job submit -j {folder}/jobs/long",
        fields="job_id",
        keep="running=job_id",
        files=job("long", "time.sleep(0.2)", rounds=1000),
    ),
    Step("job wait {running} --timeout 8", code="TIMEOUT", exit=3, fields="job_id status timeout_seconds"),
    Step("job monitor {running} --timeout 1", code="TIMEOUT", exit=3),
    Step("job delete {running} --force", code="JOB_NOT_DONE", exit=4),
    Step("job download {running}", code="JOB_NOT_DONE", exit=4),
    Step("job stats {running}", fields="job_id stats"),
    Step("job stats {running} --site site-1", fields="job_id stats"),
    Step("job stats {running} --site nobody", code="SITE_NOT_FOUND", exit=1),
    Step("job log-config {running}", code="LOG_CONFIG_INVALID", exit=4),
    Step("job log-config {running} LOUD", code="LOG_CONFIG_INVALID", exit=4),
    Step("job log-config {running} DEBUG", fields="job_id config sites status"),
    Step("job log {running} full --site site-1", fields="job_id config sites status"),
    Step("job log_config {running} reload --site nobody", code="SITE_NOT_FOUND", exit=1),
    Step("system status", fields="server_status server_start_time jobs clients client_status"),
    Step("system status client site-1", fields="client_status"),
    Step("system status server", fields="server_status jobs clients"),
    Step("system status nobody", code="INVALID_ARGS", exit=4),
    Step("system status client nobody", code="SITE_NOT_FOUND", exit=1),
    Step("system resources", fields="server site-1 site-2"),
    Step("system resources client site-2", fields="site-2"),
    Step("system env", fields="server site-1 site-2"),
    Step("system version", fields="sites admin_version compatible mismatched_sites"),
    Step("system version --site site-1", fields="sites"),
    Step("system log", fields="site lines"),
    Step("system log --site site-1 --tail 3", fields="site lines"),
    Step("system log-config", code="LOG_CONFIG_INVALID", exit=4),
    Step("system log-config debug", fields="site log_config status"),
    Step("system log_config reload --site server", fields="site log_config status"),
    Step("system disable-client site-2", code="INVALID_ARGS", exit=4, why="no terminal to ask at"),
    Step("system disable-client nobody --force", code="SITE_NOT_FOUND", exit=1),
    Step(
        "system disable-client site-2 --force --reason maintenance",
        fields="client_name state credential_revoked rejoin_allowed already_disabled",
    ),
    Step("system disable_client site-2 --force", fields="already_disabled"),
    Step("system enable-client site-2 --force", fields="client_name state rejoin_allowed"),
    Step("job wait {running} --timeout 60", code="JOB_FAILED", exit=1, why="one of its sites was disabled"),
    Step(
        "job submit -j {folder}/jobs/forever",
        fields="job_id",
        keep="aborted=job_id",
        files=job("forever", "time.sleep(0.2)", rounds=1000),
    ),
    Step("job abort {aborted} --force", fields="job_id status"),
    Step("job wait {aborted} --timeout 60", code="JOB_ABORTED", exit=1),
    Step("system restart client site-1", code="INVALID_ARGS", exit=4, why="no terminal to ask at"),
    Step("system restart client site-1 --force --timeout 60", fields="target status timeout result"),
    Step("system restart server --force --timeout 60", fields="target status timeout result"),
    Step("system restart client site-1 --force --no-wait", fields="target status result"),
    Step("system restart", code="INVALID_ARGS", exit=4),
    Step("system shutdown client site-2 --force --no-wait", fields="target status result"),
)
_STUDIES = (
    Step("study register cancer", code="INVALID_ARGS", exit=4),
    Step(
        "study register cancer --sites site-1", code="INVALID_ARGS", exit=4, why="a project_admin says the organisation"
    ),
    Step("study register NO --site-org nvidia:site-1", code="INVALID_STUDY_NAME", exit=4),
    Step("study register cancer --site-org nvidia", code="INVALID_ARGS", exit=4),
    Step("study register cancer --site-org nvidia:site-1", fields="name site_orgs users sites"),
    Step("study register mine --sites site-1 --kit-id org-admin@nvidia.com", fields="name site_orgs"),
    Step("study register other --site-org nvidia:site-1 --kit-id lead@nvidia.com", code="NOT_AUTHORIZED", exit=1),
    Step("study list", fields="startup_kit identity studies study_details"),
    Step("study show cancer", fields="name sites users site_orgs"),
    Step("study show nowhere", code="STUDY_NOT_FOUND", exit=1),
    Step("study add-user cancer lead@nvidia.com", fields="users"),
    Step("study add-user cancer lead@nvidia.com", code="USER_ALREADY_IN_STUDY", exit=1),
    Step("study remove-user cancer lead@nvidia.com", fields="users"),
    Step("study remove_user cancer lead@nvidia.com", code="USER_NOT_IN_STUDY", exit=1),
    Step("study add-site cancer --site-org nvidia:site-2", fields="sites"),
    Step("study add_site mine --sites site-2 --kit-id org-admin@nvidia.com", fields="sites"),
    Step("study add-site mine --site-org acme:site-9 --kit-id org-admin@nvidia.com", code="INVALID_ARGS", exit=4),
    Step("study remove-site cancer --site-org nvidia:site-2", fields="sites"),
    Step("study remove-site mine --sites site-2 --kit-id org-admin@nvidia.com", fields="sites"),
    Step("study remove-site cancer --site-org nvidia:site-2", code="INVALID_SITE", exit=4),
    Step("study register cancer --site-org nvidia:site-1 --kit-id org-admin@nvidia.com", code="INVALID_ARGS", exit=4),
    Step("job submit -j {folder}/jobs/hello --study cancer", fields="job_id", keep="studied=job_id"),
    Step("job meta {studied}", code="JOB_NOT_FOUND", exit=1, why="the job is in another study"),
    Step("study remove cancer", code="STUDY_HAS_JOBS", exit=1),
    Step("job abort {studied} --force --study cancer", fields="job_id"),
    Step("job delete {studied} --force --study cancer", fields="job_id"),
    Step("study remove cancer", fields="name"),
    Step("study remove nowhere", code="STUDY_NOT_FOUND", exit=1),
)
_RIGHTS = (
    Step("job submit -j {folder}/jobs/hello --kit-id org-admin@nvidia.com", code="AUTH_FAILED", exit=2),
    Step("job download {finished} --kit-id lead@nvidia.com", code="AUTH_FAILED", exit=2),
    Step("job clone {finished} --kit-id lead@nvidia.com", code="AUTH_FAILED", exit=2),
    Step("cert list", fields="certificates"),
    Step("cert revoke", code="INVALID_ARGS", exit=4),
    Step("cert revoke --kit {lead}", code="INVALID_ARGS", exit=4, why="no terminal to ask at"),
    Step("cert revoke nobody@nvidia.com --force", code="CERT_NOT_FOUND", exit=1),
    Step("cert revoke --kit {lead} --force --reason gone --kit-id org-admin@nvidia.com", code="AUTH_FAILED", exit=2),
    Step("cert revoke --serial ab12 --force --reason lost", fields="serial name time number already_revoked"),
)
_PLUGINS = (
    Step("plugins list", fields="[] name"),
    Step("plugins show local", fields="name"),
    Step("plugins show nobody", code="PLUGIN_NOT_FOUND", exit=4),
    Step("plugins check", fields=""),
    Step("plugins check local", fields=""),
    Step("plugins new formatter loud -o {folder}/new", fields=""),
    Step("plugins new nothing x --output-dir {folder}/new", code="INVALID_ARGS", exit=4),
    Step("plugins disable local", fields=""),
    Step("plugins enable local", fields=""),
    Step("plugins load no.such.module", code="PLUGIN_BROKEN", exit=4),
    Step("plugins unload no.such.module", fields="changed"),
    Step("audit show {workspace}/state/server --tail 5", fields=""),
    Step("audit show {workspace}/state/server --denied", fields=""),
    Step("audit verify {workspace}/state/server", fields=""),
    Step("audit verify {workspace}/state/server --expect 00", code="INVALID_ARGS", exit=4),
    Step("console -c list_jobs --keep-going --idle-timeout 5", code="INVALID_ARGS", exit=4, why="it writes text only"),
    Step("console --command list_jobs", code="INVALID_ARGS", exit=4, why="it writes text only"),
    Step("poc start -p admin@nvidia.com", code="INVALID_ARGS", exit=4, why="a console writes text only"),
)
_SIMULATED = (
    Step(
        "simulator {folder}/jobs/simulated -n 3 -t 2 -w {folder}/simulated -l INFO -m 3 -gpu 0",
        fields="job_id status duration_s results metrics rounds sha256 cause",
        files=job("simulated"),
    ),
    Step(
        "simulator {folder}/jobs/simulated --clients a b --threads 1 --workspace {folder}/simulated --gpu [0,1]"
        " --log-config full --max-clients 2",
        fields="status",
    ),
    Step(
        "simulator {folder}/jobs/simulated -c a,b --n-clients 2 --log_config DEBUG --max_clients 2"
        " -w {folder}/simulated",
        fields="status",
    ),
    Step("simulator {folder}/jobs/simulated --n_clients 2 -w {folder}/simulated -debug", fields="status"),
    Step("simulator {folder}/jobs/simulated --debug -n 3 -m 2", code="INVALID_ARGS", exit=4),
    Step("simulator {folder}/jobs/simulated -b nothing", code="PLUGIN_NOT_FOUND", exit=4),
    Step("simulator {folder}/jobs/simulated --backend nothing", code="PLUGIN_NOT_FOUND", exit=4),
    Step("simulator {folder}/jobs/simulated -n 1", code="INVALID_ARGS", exit=4, why="the job needs two"),
    Step("simulator {folder}/jobs/simulated -l LOUD", code="LOG_CONFIG_INVALID", exit=4),
    Step("simulator {folder}/jobs/simulated -w /proc/x", code="OUTPUT_DIR_NOT_WRITABLE", exit=1),
    Step("job check -j {folder}/jobs/simulated", fields="job_name folder repeated differences"),
    Step("job check --job-folder {folder}/jobs/simulated --repeat -c a,b", fields="repeated differences"),
    Step("job check --job_folder {folder}/jobs/simulated --clients a b", code="INVALID_ARGS", exit=4),
    Step("simulator {folder}/jobs/strange", code="INVALID_CONFIG", exit=4,
         files={"jobs/strange/job.conf": "scirpt = 1\n"}),
    Step("simulator {folder}/jobs/odd", code="JOB_INVALID", exit=1, files=job("odd", more="workflow = odd")),
    Step("simulator {folder}/jobs/fails -w {folder}/simulated", code="JOB_FINISHED_EXCEPTION", exit=1,
         fields="cause", files=job("fails", "raise ValueError('no')")),
)  # fmt: skip
_ADDED = (
    Step("poc add-user lead ada@example.org -debug",
         fields="status type id identity org cert_role startup_kit prod_dir next_step"),
    Step("poc add_user lead ada@example.org", code="INVALID_ARGS", exit=4),
    Step("poc add-user lead ada@example.org --force --debug", fields="status"),
    Step("poc add-user member ada@example.org --force", code="INVALID_ARGS", exit=4, why="a role is not changed"),
    Step("poc add-user member bob@example.org --org acme", fields="org"),
    Step("poc add-user project_admin eve@example.org", code="INVALID_ARGS", exit=4),
    Step("poc add-user leed eve@example.org", code="INVALID_ARGS", exit=4),
    Step("job list --kit-id ada@example.org", fields="[] job_id"),
    Step("poc add-site site-3 --org nvidia -debug", fields="status type name org startup_kit prod_dir"),
    Step("poc add_site site-3", code="INVALID_ARGS", exit=4),
    Step("poc add-site site-3 --force --debug", fields="status"),
    Step("poc add-site ada@example.org --force", code="INVALID_ARGS", exit=4, why="the name of a user"),
    Step("poc start -p site-3 --timeout 60", fields="ready started"),
    Step("system resources client site-3", fields="site-3"),
)  # fmt: skip
_AFTER = (
    Step("system shutdown all --force --timeout 60", fields="target status result"),
    Step("poc start -p server", fields="ready warnings"),
    Step("poc start --service site-1", fields="ready"),
    Step("poc stop -p site-1 -debug", fields="status services"),
    Step("poc stop --service site-1 --debug", fields="status already_stopped"),
    Step("poc start -ex server --timeout 60", fields="ready"),
    Step("poc start --exclude server", fields="already_running"),
    Step("poc stop -ex server", fields="status"),
    Step("poc stop --exclude server", fields="status"),
    Step("poc stop --no-wait", fields="status wait no_wait"),
    Step("poc stop", fields="status wait no_wait server_reachable already_stopped active_job_ids active_jobs_aborted"),
    Step("poc clean --force -debug", fields="workspace status"),
    Step("nothing", code="INVALID_ARGS", exit=4),
    Step("job nothing", code="INVALID_ARGS", exit=4),
    Step("job", code="INVALID_ARGS", exit=4),
    Step("job list --format yaml", code="INVALID_ARGS", exit=4),
    Step("job list --connect-timeout 0", code="INVALID_ARGS", exit=4),
)
#: All steps in their order.
STEPS = (
    *_BEFORE, *_PAPERS, *_PREPARE, *_KITS, *_TEMPLATES, *_SUBMIT, *_LOOK, *_RECIPES, *_RUNNING, *_STUDIES, *_RIGHTS,
    *_PLUGINS, *_SIMULATED, *_ADDED,
    *_AFTER,
)  # fmt: skip
