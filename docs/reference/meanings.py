"""What the source cannot say about itself: error codes, variables, keys of files, in a sentence each."""

from __future__ import annotations

#: Error codes; a code that is in the source and not here fails the tests.
CODES = {
    "AMBIGUOUS_KEY": "`package`: the key of the request is missing, and there are several others.",
    "AUTH_FAILED": "The server, or a site, does not allow it: unknown or revoked certificate, wrong role, policy.",
    "AUTH_INVALID_STUDY_NAME": "In the data of `AUTH_FAILED`: a study cannot have this name.",
    "AUTH_STUDY_USER_NOT_MAPPED": "In the data of `AUTH_FAILED`: there is no such study that you may work in.",
    "AUTH_UNKNOWN_STUDY": "In the data of `AUTH_FAILED`: there is no such study.",
    "BUILD_FAILED": "`package`: the kit that was approved cannot be made here: another version of flpoc.",
    "CA_ALREADY_EXISTS": "`cert init`: there is a certificate authority in this folder already.",
    "CA_LOAD_FAILED": "The certificate authority cannot be used: no key, a wrong passphrase, a damaged file.",
    "CA_NOT_FOUND": "There is no certificate authority in this folder.",
    "CA_VERSION_ALREADY_EXISTS": "`cert init --force`: the former authority had this version; kits of both would be "
    "mixed.",
    "CERT_ALREADY_EXISTS": "`cert approve`: this request was answered already.",
    "CERT_CHAIN_INVALID": "`package`: the certificate was not issued by the authority that comes with it.",
    "CERT_EXPIRED": "`package`: the certificate is not valid now.",
    "CERT_NOT_FOUND": "`package`: there is no certificate in the answer.",
    "CERT_OUTPUT_WRITE_FAILED": "`cert approve`: the answer cannot be written.",
    "CERT_SIGNING_FAILED": "`cert approve`: the authority cannot certify this: its time is over, a name cannot be "
    "used.",
    "CERT_TYPE_UNKNOWN": "`package`: the certificate does not say whether it is for a server, a site or a user.",
    "CONFIG_USE_MUTATES_GLOBAL_STATE": "A finding of `config use`: other terminals use this kit from now on, too.",
    "CONFIG_NOT_FOUND": "`deploy prepare`: the file named by --config is not there.",
    "CONNECTION_FAILED": "The server cannot be reached.",
    "CSR_NOT_FOUND": "`cert approve`: there is no certificate signing request in the request.",
    "DISK_FULL": "There is no room left on a disk of this machine, the server or a site.",
    "FILE_FAILED": "The system refuses what was to be done with a file or folder; the message names it.",
    "INTEGRITY_FAILED": "Bytes are not what they were said to be: a checksum, a signature, a model, an audit log.",
    "INTERNAL_ERROR": "A defect of flpoc or of a plugin.",
    "INVALID_ARGS": "A command was called wrongly.",
    "INVALID_CERT_TYPE": "No such type of participant or role; or project_admin, without `--role project_admin`.",
    "INVALID_CONFIG": "A project, job or settings file is wrong; the message names the file and the key.",
    "INVALID_CSR": "`cert approve`: the certificate signing request is damaged, not signed with its key, or the key is "
    "not EC P-256.",
    "INVALID_ENDPOINT": "The address of a server cannot be dialled, or two files say different ports.",
    "INVALID_KIT": "A startup kit is incomplete, was changed, or is not to be trusted.",
    "INVALID_NAME": "A participant or an organisation cannot be called so.",
    "INVALID_PROJECT_FILE": "A profile, or the definition of a participant, cannot be used; the message says where.",
    "INVALID_PROJECT_NAME": "A project cannot be called so.",
    "INVALID_REQUEST_ZIP": "`cert approve`: the file is no request, or was changed on its way.",
    "INVALID_ROOTCA_FINGERPRINT": "What was given as a fingerprint is no SHA-256.",
    "INVALID_SIGNED_ZIP": "`package`: the file is no answer, is not signed by its authority, or was changed on its "
    "way.",
    "INVALID_SITE": "A site cannot have this name, is not in the study, or is not yours to add.",
    "INVALID_STUDY_NAME": "A study cannot have this name.",
    "JOB_ABORTED": "The job was aborted.",
    "JOB_AMBIGUOUS": "Several jobs have an id that begins like this.",
    "JOB_FAILED": "The job failed, or can never be scheduled.",
    "JOB_FINISHED_EXCEPTION": "The job's own code failed.",
    "JOB_INVALID": "What was given is no job that flpoc can run.",
    "JOB_NOT_DONE": "The job has not ended yet.",
    "JOB_NOT_FOUND": "The study has no such job.",
    "JOB_NOT_REPEATABLE": "`job check --repeat`: the same task does not give the same update; what differs is in the "
    "report.",
    "JOB_NOT_RUNNING": "The job has ended already.",
    "JOB_PARTIAL": "The job ended with fewer sites in a round than expected, and does not say that this is enough.",
    "KEY_ALREADY_EXISTS": "`cert request`: there is a key of this participant already.",
    "KEY_CERT_MISMATCH": "`package`: the certificate was issued for another key than that of the request.",
    "KEY_INVALID": "`package`: the private key cannot be read, or others can read it.",
    "KEY_NOT_FOUND": "`package`: the private key of the request is not here.",
    "LAUNCH_FAILED": "A process could not be started.",
    "LOCAL_SITE_INVALID": "`site.yaml` of a request cannot be read.",
    "LOCAL_SITE_MISMATCH": "`package`: `site.yaml` was changed after it was sent.",
    "LOCAL_SITE_UNSUPPORTED_FEATURE": "`site.yaml` has keys that cannot be used with requests.",
    "LOG_CONFIG_INVALID": "No log level or mode is given, or one that does not exist.",
    "LOG_NOT_FOUND": "There is no log of this job and site.",
    "NOT_AUTHORIZED": "Your role may not do this in the whole project.",
    "NO_ACTIVE_STARTUP_KIT": "A finding about kits: no startup kit is active.",
    "NO_PARTICIPANTS": "The definition of a participant names nobody.",
    "OUTPUT_DIR_EXISTS": "What was to be made is there already.",
    "OUTPUT_DIR_NOT_WRITABLE": "A folder cannot be written to: that for results, a request, a kit or an authority.",
    "PLUGIN_BROKEN": "A plugin cannot be imported, or failed when it was asked.",
    "PLUGIN_CHECK_FAILED": "`plugins check` found something wrong; the findings are in the report.",
    "PLUGIN_CONFLICT": "Two plugins offer what was asked for under one name.",
    "PLUGIN_NOT_FOUND": "No installed plugin offers what was asked for.",
    "PROJECT_CA_MISMATCH": "The authority is that of another project, or kits of another authority are in the same "
    "folder.",
    "PROJECT_FILE_NOT_FOUND": "The profile, or the definition of a participant, is not there.",
    "PROJECT_PROFILE_MISMATCH": "`cert approve`: the request is for another project than that of the profile.",
    "RECIPE_ENTRY_AMBIGUOUS": "Several recipes are meant: of one name in the catalogue, or made by one program.",
    "RECIPE_ENTRY_NOT_FOUND": "There is no such recipe, or a program ended without one.",
    "RECIPE_EXPORT_FAILED": "The job of a recipe could not be written: the program failed, or a script is missing.",
    "REQUEST_DIR_INCOMPLETE": "`package`: a file is missing in the folder of the request.",
    "REQUEST_DIR_MISMATCH": "`package`: this is the folder of another request.",
    "REQUEST_DIR_NOT_FOUND": "`package`: the folder of the request is not here.",
    "REQUEST_METADATA_INVALID": "`request.json` cannot be read.",
    "REQUEST_METADATA_MISMATCH": "`request.json` does not describe the other files of the request.",
    "REQUEST_METADATA_NOT_FOUND": "`request.json` is missing.",
    "REQUEST_ZIP_NOT_FOUND": "`cert approve`: there is no such request.",
    "RESOURCE_EXHAUSTED": "A limit is reached.",
    "REVOCATION_CONFLICT": "Somebody else has revoked a certificate at the same time.",
    "ROOTCA_ALREADY_EXISTS": "`cert init`: there is the certificate of an authority in this folder, without its key.",
    "ROOTCA_FINGERPRINT_MISMATCH": "`package`: the answer is signed by another authority than was expected.",
    "ROOTCA_LOAD_FAILED": "`package`: the certificate of the authority cannot be read.",
    "ROOTCA_NOT_FOUND": "`package`: there is no certificate of the authority in the answer.",
    "SERVER_NAME_HOST_MISMATCH": "`cert approve`: the request is for another server than that of the profile.",
    "SERVICE_FAILED": "A server or site of this machine did not start, or its port is taken.",
    "SIGNED_ZIP_IDENTITY_CONFLICT": "`package`: the parts of the answer do not name the same participant.",
    "SIGNED_ZIP_NOT_FOUND": "`package`: there is no such answer.",
    "SITE_NOT_FOUND": "A site that is named is not connected, or has no part in what is asked for.",
    "STARTUP_KIT_CERT_EXPIRED": "A finding about kits: the certificate of this kit is not valid any more.",
    "STARTUP_KIT_CERT_EXPIRING_SOON": "A finding about kits: the certificate of this kit ends soon.",
    "STARTUP_KIT_CERT_MISSING": "A finding about kits: this kit has no certificate.",
    "STARTUP_KIT_CERT_UNREADABLE": "A finding about kits: the certificate of this kit cannot be read.",
    "STARTUP_KIT_INVALID": "A finding about kits: what is registered is no startup kit, or was changed.",
    "STARTUP_KIT_MISSING": "No startup kit is given or active, or it is not where it should be.",
    "STARTUP_KIT_PATH_MISSING": "A finding about kits: the folder of a registered kit is gone.",
    "STUDY_ALREADY_EXISTS": "The name is that of a study which is not yours.",
    "STUDY_HAS_JOBS": "A study with jobs cannot be removed.",
    "STUDY_NOT_FOUND": "There is no such study that you may know of.",
    "SUBMIT_TOKEN_CONFLICT": "This submit token belongs to a job with other contents.",
    "SUBMIT_TOKEN_JOB_DELETED": "The job of this submit token was deleted.",
    "SYSTEM_NOT_READY": "Sites that are needed are not connected.",
    "TIMEOUT": "A wait was longer than allowed; what was waited for goes on.",
    "UNSUPPORTED_TOPOLOGY": "There are no relays: sites dial the server directly.",
    "USER_ALREADY_IN_STUDY": "The user works in the study already.",
    "USER_NOT_IN_STUDY": "The user does not work in the study.",
    "UNSUPPORTED_KIT": "`deploy prepare`: a user's kit has nothing to start.",
    "VERSION_MISMATCH": "Two sides cannot work together: other versions of flpoc, other plugins.",
}

#: Words in capitals in the source that are no error codes.
NO_CODES = {
    "COMP_CWORD", "COMP_WORDBREAKS", "COMP_WORDS", "CUDA_VISIBLE_DEVICES", "DOCKER_HOST", "FILTER_HISTORY",
    "GRPC_VERBOSITY", "INITIAL_METRICS", "JOB_FILES", "JOB_ID", "LD_AUDIT", "LD_LIBRARY_PATH", "LD_PRELOAD",
    "MALLOC_ARENA_MAX", "MODEL_OWNER", "NUM_STEPS_CURRENT_ROUND", "PROCESSED_ALGORITHM", "PROCESSED_KEYS",
    "REQUEST_ZIP", "SIGNED_ZIP", "SITE_NAME", "SUBMIT_MODEL_NAME", "VALIDATE_TYPE", "VECLIB_MAXIMUM_THREADS",
    "WEIGHT_DIFF",
}  # fmt: skip

#: Variables that a user sets.
USER_VARIABLES = {
    "FLPOC_CA_PASSPHRASE": "Passphrase of a project's authority: its key is then kept encrypted.",
    "FLPOC_CONFIG": "The configuration file, instead of `~/.flpoc/config.conf`.",
    "FLPOC_EXPORT_DIR": "Programs that run a recipe write its job folder below this folder instead, and end.",
    "FLPOC_HOME": "A folder with `examples/`, where relative job folders are looked for last.",
    "FLPOC_POC_PORT": "The port that a proof of concept without a project file takes if it is free, instead of 8002.",
    "FLPOC_POC_WORKSPACE": "The workspace of the proof of concept; before the configured one.",
    "FLPOC_SIMULATOR_WORKSPACE_ROOT": "Where simulations leave their results, instead of `/tmp/flpoc/simulation`.",
    "FLPOC_STARTUP_KIT_DIR": "The startup kit that commands use; before the active one.",
    "NO_COLOR": "Set to anything: no colours on a terminal either.",
}

#: Variables that flpoc sets for the processes it starts.
JOB_VARIABLES = {
    "FLPOC_CODE": "In job processes: the folder with the job's code.",
    "FLPOC_SITE": "In a trainer: the site's name.",
    "FLPOC_SOCKET": "In job processes: the socket of the owner, the server or the site's agent.",
    "FLPOC_TOKEN_FILE": "In job processes: the file with the secret of this attempt.",
}

#: Names of constants and of the tests' own variables that look like variables.
NO_VARIABLES = {"FLPOC_API", "FLPOC_SUITE_LEAK"}

#: Keys of the user's configuration file.
CONFIGURATION = {
    "version": "Version of this file; 2.",
    "startup_kits.active": "Id of the kit that commands use.",
    "startup_kits.entries": "Folders of registered kits by id. Put ids with dots in quotes.",
    "poc.workspace": "The workspace of the proof of concept.",
    "poc.jobs_dir": "A folder where relative job folders are looked for, too; `flpoc poc prepare-jobs-dir` sets it.",
    "job_template.path": "A folder with job templates; `flpoc job list-templates -d` sets it.",
    "plugins.load": "Modules of private plugins; `flpoc plugins load` and `unload` change it.",
    "plugins.disable": "Names of plugins that are never imported; `flpoc plugins disable` and `enable` change it.",
}

#: Keys of project.yml, for the whole project.
PROJECT = {
    "api_version": "3 or 4.",
    "name": "Name of the project.",
    "description": "One line.",
    "participants": "One server, any number of sites and users; see below.",
    "launcher": "Which launcher starts services and jobs; `local` unless something else is said.",
    "authority": "Which authority issues certificates; `local-ca` unless something else is said.",
    "plugins": "Names of the plugins that server and sites may load; `[local]` unless something else is said.",
    "studies": "With `api_version: 4`: the studies that the server begins with, "
    "`NAME: {site_orgs: {ORG: [SITE]}, admins: [USER]}`; later `flpoc study` changes them.",
}

#: Keys of a participant in project.yml.
PARTICIPANT = {
    "name": "Unique in the project; for users their e-mail address.",
    "type": "`server`, `client` (a site) or `admin` (a user); `site` and `user` are understood, too.",
    "org": "The organisation it belongs to.",
    "role": "Users: `project_admin`, `org_admin`, `lead` or `member`.",
    "fed_learn_port": "Server: the one port that sites and users dial; 8002 unless something else is said.",
    "host_names": "Server: names and addresses that its certificate is valid for, besides its own name.",
    "default_host": "Server: the host that the others dial, if it is not its name.",
    "connect_to": "The address to dial, `host` or `host:port`: for all (server), or for this one (sites, users).",
}

#: Keys of local/policy.json in a site's kit.
POLICY = {
    "format": "Version of this file.",
    "launcher": "Which launcher starts this site's job processes.",
    "launcher_settings": "What `flpoc plugins show` lists for that launcher.",
    "allow_custom_code": "Whether jobs may bring code; false refuses every job that does.",
    "filters": "What every update passes before it leaves, after the filters of the job: a list of names, or of "
    '`{"name": ..., "settings": {...}}`.',
    "images": "For launchers with images: `allowed`, images that jobs may ask for (names, or beginnings that end with"
    " `*`), and `studies`, by name of a study the image of its jobs that ask for none.",
    "environments": "By name of a study what its scripts find in their environment: `env`, values by variable, and"
    " `secrets`, by variable the file that has the value. `flpoc.recipe.secret_ref` names a secret in a job."
    " `secret_files` are files whose text jobs may name themselves, with `flpoc.recipe.secret_file_ref`.",
    "datasets": "Files and folders that every job may use, by name: a path, which jobs may read, or a table of"
    " `source` and `mode`, which is `ro` or `rw`. A launcher that confines jobs grants them nothing else of the site.",
    "python": "The interpreter that runs scripts; empty: the agent's own.",
    "max_jobs": "How many jobs at a time; 0: as many as come. Others wait until one has ended.",
    "resources": "What jobs may have here, all together: `cpus` and `memory_gib`, without which there is no limit, and"
    " `gpus`, a list of ids, without which they are those of `CUDA_VISIBLE_DEVICES`.",
    "studies": "Names of the studies that this site works for; an empty list: all of them.",
    "share_logs": "Whether logs of jobs are sent to the server.",
    "share_metrics": "Whether the metrics and the meta data of updates, and the numbers that scripts log, are sent.",
}

#: Keys of local/policy.json in the server's kit.
SERVER_POLICY = {
    "format": "Version of this file.",
    "checkpoints": "Folders whose files jobs may start from (`initial_checkpoint`); every job may read all in them.",
}

#: Where files are.
FILES = {
    "~/.flpoc/config.conf": "The user's configuration; JSON, which is valid HOCON.",
    "~/.flpoc/console_history": "The lines that the user typed in consoles; private, the newest 1000 to 2000.",
    "WORKSPACE/project.yml": "The project of a proof of concept.",
    "WORKSPACE/PROJECT/prod_NN/NAME/": "The startup kit of a participant.",
    "WORKSPACE/PROJECT/prod_NN/NAME/startup/": "Certificate, key and settings; signed, changed by nobody.",
    "WORKSPACE/PROJECT/prod_NN/NAME/local/": "What the owner of the kit decides: policy, address to dial.",
    "WORKSPACE/PROJECT/prod_NN/SERVER/local/study_registry.json": "The studies with which the server starts for the "
    "first time.",
    "WORKSPACE/PROJECT/prod_NN/NAME/transfer/": "Where relative job folders are looked for, too.",
    "WORKSPACE/PROJECT/prod_NN/NAME/poc_console.log": "The log of a server or site of a proof of concept.",
    "WORKSPACE/PROJECT/ca/": "The project's certificate authority. Whoever reads it can issue kits.",
    "NAME/NAME.key": "The private key of a request (`cert request`); it never leaves its machine.",
    "NAME/NAME.request.zip": "The request, which is sent; `NAME.signed.zip` is its answer (`cert approve`).",
    "CA_DIR/ca.json": "Which project an authority is for, its version and its fingerprint (`cert init`).",
    "WORKSPACE/state/NAME/": "What a server or site keeps: jobs, models, updates, processes.",
    "WORKSPACE/state/NAME/audit/": "The audit log of a server or site; `flpoc audit verify` checks it.",
    "WORKSPACE/state/poc/consoles/": "The consoles that are open, for `flpoc poc stop`.",
    "WORKSPACE/data/": "For the sites' data.",
    "OUTPUT/JOB_ID/FL_global_model.safetensors": "The final model of a downloaded job.",
    "OUTPUT/JOB_ID/best_FL_global_model.safetensors": "The best model, where the workflow keeps one.",
    "OUTPUT/JOB_ID/metrics_summary.json": "The last metrics and how the job ended.",
    "OUTPUT/JOB_ID/round_metrics.jsonl": "The metrics of every round, one JSON object a line.",
    "OUTPUT/JOB_ID/site_metrics.jsonl": "What scripts logged with `flare.log()`, one JSON object a line.",
    "OUTPUT/JOB_ID/ledger.json": "For every round, each site: what it was asked, what it sent, and if nothing, why.",
    "OUTPUT/JOB_ID/artifact_manifest.json": "Every file of the download with size and SHA-256.",
    "OUTPUT/JOB_ID/logs/": "Logs of the server and, where they share them, of the sites.",
}
