#!/usr/bin/env bash
# Runs inside LocalStack once it answers: installs Roost from the mounted repository, and makes
# the stack from the same definition as `roost aws create` and Terraform do.
set -euo pipefail

source_dir="${HOOK_SOURCE:-/opt/roost}"
venv="${HOOK_VENV:-/opt/roost-venv}"

export AWS_ENDPOINT_URL="${AWS_ENDPOINT_URL:-http://127.0.0.1:4566}"
export AWS_ACCESS_KEY_ID=test
export AWS_SECRET_ACCESS_KEY=test
export AWS_REGION="${AWS_REGION:-us-east-1}"
export AWS_DEFAULT_REGION="$AWS_REGION"

if [ ! -x "$venv/bin/roost" ]; then
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "${source_dir}[aws]"
fi
"$venv/bin/roost" aws create
