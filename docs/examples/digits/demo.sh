#!/usr/bin/env bash
# The life of a job: a server and two sites on this machine train on handwritten digits.
# Usage: demo.sh [FOLDER FOR RESULTS]; flpoc and the packages of requirements.txt must be installed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
results=${1:-results}

# everything in a folder of its own: the user's configuration and workspace are not touched
scratch=$(mktemp -d "${TMPDIR:-/tmp}/flpoc-demo.XXXXXX")
export FLPOC_CONFIG="$scratch/config.conf" FLPOC_POC_WORKSPACE="$scratch/poc"
unset FLPOC_STARTUP_KIT_DIR

finish() {
    trap '' INT TERM HUP # what ends the demo must not end its cleaning up
    if [ -e "$FLPOC_POC_WORKSPACE/project.yml" ]; then
        flpoc poc clean --force >/dev/null || true # it says itself what it could not stop
    fi
    rm -rf "$scratch"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

run() {
    printf '\n$ %s\n' "$*"
    "$@"
}

run flpoc poc prepare -n 2
run flpoc poc start
run cp "$here/digits.csv.gz" "$FLPOC_POC_WORKSPACE/data/" # what the sites of this POC have

printf '\n$ flpoc job submit -j %s\n' "$here"
job=$(flpoc job submit -j "$here" --format json | python3 -c 'import json, sys; print(json.load(sys.stdin)["data"]["job_id"])')
echo "Submitted job $job"

run flpoc job monitor "$job" --interval 0.1
run flpoc job download "$job" -o "$results"
run python3 "$here/use_model.py" "$results/$job"

run flpoc poc stop
run flpoc poc clean

printf '\nThe model and the logs are in %s\n' "$(cd "$results/$job" && pwd)"
