#!/usr/bin/env bash
# Record both training scripts, replay both in an environment rebuilt from the lock, and write their reports.
# Fails unless both replays match exactly. `make demo` calls it; what it makes is under build/demo.
set -euo pipefail
cd "$(dirname "$0")"
repository=$(cd ../.. && pwd)
build=$repository/build/demo
export REPRO_HOME=$build/home

shown() { # print a command as one would type it, then run it
    printf '\n$ %s\n' "$*"
    "$@"
}

last_run() { # print the id of the newest run
    repro runs --json | python -c 'import json, sys; print(json.load(sys.stdin)[0]["run_id"])'
}

rm -rf "$REPRO_HOME" data runs
if [ ! -e "$build/venv/.ready" ]; then
    echo "Making an environment for the training, which has never heard of repro (once) …"
    rm -rf "$build/venv"
    "$repository/.venv/bin/python" -m venv "$build/venv"
    "$build/venv/bin/python" -m pip install -qq --disable-pip-version-check \
        --requirement "$repository/requirements/torch.txt" --requirement requirements.txt
    touch "$build/venv/.ready"
fi
mkdir -p "$build/bin"
ln -sf "$repository/.venv/bin/repro" "$build/bin/repro"
export PATH=$build/venv/bin:$build/bin:$PATH

shown python prepare.py

verdicts=()
for script in train.py train_unseeded.py; do
    shown repro record -- python "$script"
    shown repro replay "$(last_run)" | tee "$build/verdict.txt"
    grep -q MATCHED-EXACTLY "$build/verdict.txt"
    shown repro report "$(last_run)" | tee "$build/report.txt"
    page=$(grep -o '/[^ ]*report\.html' "$build/report.txt" | head -n 1)
    test -s "$page"
    verdicts+=("$(printf '%-18s MATCHED-EXACTLY   %s' "$script" "$page")")
done

printf '\n'
printf '%s\n' "${verdicts[@]}"
