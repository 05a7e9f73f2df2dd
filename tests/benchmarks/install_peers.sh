#!/usr/bin/env bash
# Make a virtual environment for each peer below $PEERS: install_peers.sh [NAME…]; without names, all that the suites use.
# From the distribution, where there is one: git, git-annex (DataLad makes no repository without it), strace, b3sum, openssl.
set -euo pipefail
: "${PEERS:?name a folder for the environments}"
PYTHON=${PYTHON:-python3}

declare -A WANTED=(
  [datalad]="datalad"
  [dvc]="dvc"
  [mlflow]="mlflow"
  [modelsigning]="model-signing pyopenssl" # it does not start without the second
  [reprozip]="reprozip"                    # needs a C compiler
  [sacred]="sacred setuptools<81"
  [tensorboard]="tensorboard"
  [wandb]="wandb"
)

mkdir -p "$PEERS"
for name in ${*:-modelsigning reprozip sacred dvc datalad tensorboard wandb mlflow}; do
  "$PYTHON" -m venv --clear "$PEERS/$name"
  # shellcheck disable=SC2086 # a peer may need several distributions
  if "$PEERS/$name/bin/python" -m pip install --quiet ${WANTED[$name]} >"$PEERS/$name.log" 2>&1; then
    echo "$name: installed"
  else
    echo "$name: failed, see $PEERS/$name.log" >&2
    rm -rf "${PEERS:?}/$name"
  fi
done
