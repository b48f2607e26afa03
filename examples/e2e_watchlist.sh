#!/usr/bin/env bash
# The whole story from a terminal: watch a URL, stop the worker half-way, start it again,
# and read the report. Everything stays in a temporary directory and on this machine.
set -euo pipefail

work="$(mktemp -d)"
export ROOST_HOME="$work/roost" ROOST_ENGINES__WATCHLIST__ALLOW_PRIVATE=true ROOST_LEASE_SECONDS=2
pids=()
cleanup() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  rm -rf "$work"
}
trap cleanup EXIT

mkdir "$work/site"
echo '<h1>Example Domain</h1>' >"$work/site/index.html"
python3 -u -m http.server --bind 127.0.0.1 --directory "$work/site" 0 >"$work/site.log" 2>&1 &
pids+=($!)
for _ in $(seq 100); do
  port="$(sed -n 's/.*port \([0-9]*\).*/\1/p' "$work/site.log")"
  [ -n "$port" ] && break
  sleep 0.1
done

roost worker --engines watchlist 2>"$work/worker-1.log" &
worker=$!
pids+=("$worker")

WORK_ID=$(roost enqueue \
  --engine watchlist \
  --resource domain:example.com \
  --payload '{"url":"http://127.0.0.1:'"$port"'/","claim":"contains:Example","checks_required":3,"delay_seconds":1}')
echo "enqueued $WORK_ID"

until roost history "$WORK_ID" --json | grep -q '"version": 1'; do sleep 0.1; done
roost status "$WORK_ID"

echo "stopping the worker, as Ctrl-C does"
kill -INT "$worker"
wait "$worker"

echo "starting it again: the same item goes on"
roost worker --engines watchlist 2>"$work/worker-2.log" &
pids+=($!)
roost wait "$WORK_ID" --timeout 60s
roost history "$WORK_ID"
roost artifacts get "$WORK_ID" report.json
echo
echo "done: $WORK_ID"
