#!/usr/bin/env bash
# Tests `docker compose up` for real: images, a training, devices, the report, a second start, and
# a worker that is killed in the middle of a training. Needs a Docker engine with Compose; where
# none answers, CONTAINER_ENGINE_SCRIPT names a script that brings one (engine_install, engine_up,
# engine_base, engine_down). Removes its containers, networks and volumes; the images stay, as a
# cache, and so does ./report.
#
#   docker/test_compose.sh              # everything
#   KILL=0 docker/test_compose.sh       # without the killed worker
set -euo pipefail
cd "$(dirname "$0")/.."

LIMIT_MB=250          # what the device's image may add to its base
PATIENCE=${PATIENCE:-600}  # seconds for each wait
BASE=python:3.11-slim-bookworm
NAME=device-cloud-recommendation

ours=no
if ! docker info >/dev/null 2>&1; then
  [ -f "${CONTAINER_ENGINE_SCRIPT:-}" ] || {
    echo "no Docker engine answers: start one, or name a script in CONTAINER_ENGINE_SCRIPT" >&2
    exit 2
  }
  # shellcheck disable=SC1090
  . "$CONTAINER_ENGINE_SCRIPT"
  if ! docker info >/dev/null 2>&1; then
    ours=yes
    trap 'set +e; engine_down' EXIT
    if ! { engine_install && engine_up && engine_base; }; then exit 2; fi
  fi
fi

scratch=$(mktemp -d)
export COMPOSE_PROJECT_NAME=recommender-test-$$ REPORT=$scratch/report CLOUD_PORT=0
# Users with long histories only: fewer of them, so that training is short.
export TRAIN_EPOCHS=1 TRAIN_MIN_USER=30 SIMULATE_PROFILES=loopback,4g-5 SIMULATE_REQUESTS=200
unset CLOUD_ADMIN_TOKEN TRAIN_AGAIN TRAIN_DATA TRAIN_ITEMS DATA_FOLDER

cleanup() {
  local code=$?
  set +e
  if [ "$code" -ne 0 ]; then docker compose ps -a; docker compose logs --tail 30; fi
  docker compose down --volumes --remove-orphans --timeout 5 >/dev/null 2>&1
  # The report belongs to the devices' user: whoever runs this may not be allowed to remove it.
  docker run --rm --network none -v "$scratch:/scratch" "$BASE" \
    find /scratch -mindepth 1 -delete >/dev/null 2>&1
  rm -rf "$scratch"
  [ "$ours" = no ] || engine_down >/dev/null 2>&1
  exit "$code"
}
trap cleanup EXIT

say() { printf '\n== %s\n' "$*"; }
fail() { echo "FAILED: $*" >&2; exit 1; }
megabytes() { echo $(($1 / 1000000)); }
size() { docker image inspect --format '{{.Size}}' "$1"; }
exit_code() { docker inspect --format '{{.State.ExitCode}}' "$(docker compose ps -aq "$1")"; }

wait_until() {  # words, command...
  local words=$1 end=$((SECONDS + PATIENCE))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$end" ] || fail "not within $PATIENCE s: $words"
    sleep 1
  done
}
# The log, not the state: after a stop, that is still the one of the last time.
devices_ended() { grep -q 'devices-1 exited with code' "$1" || ! kill -0 "$up" 2>/dev/null; }

# `up --exit-code-from devices` would stop everything as soon as the first one-shot, init, ends.
compose_up() {  # log file; as a person does it, in the foreground, until the devices have ended
  local started=$SECONDS
  docker compose up >"$1" 2>&1 </dev/null &
  up=$!
  wait_until "the devices end" devices_ended "$1"
  kill -0 "$up" 2>/dev/null || fail "up ended by itself: $(tail -5 "$1")"
  grep -aE 'train-1 .*(queued|published|nothing)|devices-1 .*( corrected$|correction|rerank|report)' "$1" || true
  [ "$(exit_code devices)" = 0 ] || fail "devices ended with $(exit_code devices)"
  [ "$(exit_code train)" = 0 ] || fail "train ended with $(exit_code train)"
  echo "from up to report: $((SECONDS - started)) s"
}

check_report() {  # simulations that share it, 1 where it is not said
  [ -s "$REPORT/index.html" ] || fail "no index.html"
  python3 -m json.tool "$REPORT/report.json" >/dev/null || fail "report.json is no JSON"
  docker compose run --rm --no-deps -T devices python -c '
import sys
from pathlib import Path
from experiments.simulation.report import Report
report = Report.model_validate_json(Path("/report/report.json").read_bytes())
networks = (profile.name for profile in report.profiles)
print("report of", report.model.name, report.model.version, "over", *networks)
simulations = report.settings.simulations
sys.exit(simulations != int(sys.argv[1]) and f"of {simulations} simulations, not {sys.argv[1]}")
' "${1:-1}" || fail "report.json does not fit its schema"
}

check_hardening() {
  local service id
  for service in cloud worker train devices; do
    id=$(docker compose ps -aq "$service")
    [ "$(docker inspect --format '{{.Config.User}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}}' "$id")" \
      = "10001:10001 true [ALL] [no-new-privileges:true]" ] || fail "$service is not hardened"
  done
  for service in cloud worker; do
    docker compose exec -T "$service" sh -c '
      for s in /proc/[0-9]*/status; do awk "/^Uid/ && \$2 != 10001 {exit 1}" "$s" || exit 1; done
      ! touch /probe 2>/dev/null && ! touch /venv/probe 2>/dev/null
      touch /store/.probe && rm /store/.probe
    ' || fail "$service runs as root, or can write its root file system"
    echo "$service: every process has uid 10001, the root file system is read-only"
  done
}

check_images() {
  local image added
  for image in cloud device; do
    docker run --rm --network none "$NAME/$image" python -c '
import importlib.util, sys
sys.exit(any(importlib.util.find_spec(name) for name in ("torch", "nvidia")))
' || fail "there is torch in the image of the $image"
  done
  docker run --rm --network none "$NAME/worker" python -c '
import importlib.util, torch
assert torch.version.cuda is None and importlib.util.find_spec("nvidia") is None
' || fail "the worker has no torch, or one with CUDA"
  docker run --rm --network none "$NAME/device" python -c '
import importlib.util, sys
sys.exit(importlib.util.find_spec("cloud_service") is not None)
' || fail "there is cloud_service in the image of the device"
  docker image ls --filter "reference=$NAME/*" --filter "reference=$BASE"
  for image in cloud worker device; do
    added=$(megabytes $(($(size "$NAME/$image") - $(size "$BASE"))))
    echo "$image: $added MB over its base; du in MiB: $(
      docker run --rm --network none "$NAME/$image" du -sm /venv | tr '\t' ' ')"
  done
  [ "$added" -lt "$LIMIT_MB" ] || fail "the device's image adds $added MB to its base"
}

trains_epoch() { grep -q "epoch $1/" "$scratch/again.log" || ! kill -0 "$again" 2>/dev/null; }

check_killed_worker() {
  local job
  docker compose run --rm -T -e TRAIN_AGAIN=1 -e TRAIN_EPOCHS=3 -e TRAIN_SEED=1 train \
    >"$scratch/again.log" 2>&1 </dev/null &
  again=$!
  wait_until "an epoch" trains_epoch 1
  docker compose exec -T worker sh -c 'kill -9 $(cat /proc/1/task/1/children)'
  echo "killed after an epoch"
  wait "$again" || fail "the training ended with $?: $(tail -3 "$scratch/again.log")"
  tail -1 "$scratch/again.log"
  job=$(grep -oE '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}' "$scratch/again.log" | head -1)
  docker compose exec -T cloud cloud-service jobs log "$job" | tee "$scratch/job.log"
  grep -q "Going on after an interruption" "$scratch/job.log" || fail "nothing was interrupted"
  grep -qi "going on after epoch" "$scratch/job.log" || fail "the training began again"
  [ "$(docker inspect --format '{{.RestartCount}}' "$(docker compose ps -q worker)")" -ge 1 ] \
    || fail "the worker was not restarted"
}

say "build"
started=$SECONDS
docker compose build --quiet
echo "built in $((SECONDS - started)) s"
check_images

say "docker compose up, the first time"
compose_up "$scratch/first.log"
grep -q "published version" "$scratch/first.log" || fail "nothing was trained"
check_report
check_hardening
first=$up

say "docker compose up, the second time: there is a model"
docker compose stop --timeout 10 >/dev/null 2>&1
wait "$first" || true
docker run --rm --network none -v "$scratch:/scratch" "$BASE" rm -r /scratch/report
compose_up "$scratch/second.log"
grep -q "nothing to train" "$scratch/second.log" || fail "the second start does not say it"
if grep -q "is queued" "$scratch/second.log"; then fail "the second start trains again"; fi
check_report

say "three of the devices at once"
docker compose up --no-deps --force-recreate --scale devices=3 devices >"$scratch/scaled.log" 2>&1
[ "$(grep -ac 'Time of a correction' "$scratch/scaled.log")" = 1 ] || fail "not one report of all"
check_report 3

if [ "${KILL:-1}" != 0 ]; then
  say "the worker is killed in the middle of a training"
  check_killed_worker
fi

say "passed in $SECONDS s"
