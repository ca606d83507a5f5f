#!/usr/bin/env bash
# Does a real Prometheus read what a wrapper serves, and are rules and metrics those that it knows?
#
# Runs a wrapper of the installed package and Debian's Prometheus, and asks the latter what it has. Installs nothing but
# with --install, which needs root: `tests/operations/prometheus.sh --install`.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [ "${1:-}" = --install ]; then
  apt-get install --yes --no-install-recommends prometheus
fi
for program in prometheus promtool curl; do
  command -v "$program" >/dev/null || {
    echo "$program is missing: run tests/operations/prometheus.sh --install as root" >&2
    exit 1
  }
done
python=.venv/bin/python
[ -x "$python" ] || { echo "there is no .venv: run make build first" >&2; exit 1; }

promtool check rules docs/operations/alerts.yml

work=$(mktemp -d)
pids=()
finish() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait
  rm -rf "$work"
}
trap finish EXIT

port() { "$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
metrics_port=$(port)
prometheus_port=$(port)

"$python" - "$work" "$metrics_port" <<'PYTHON' &
import sys
import threading

import pyarrow

from arrow_zerobus_sdk_wrapper import SyncZerobusWrapper

work, port = sys.argv[1:]
with SyncZerobusWrapper(
    "http://127.0.0.1:9", "main.default.events", wal_dir=work + "/wal", metrics_port=int(port), shutdown_timeout_secs=0
) as wrapper:
    wrapper.send_batch(pyarrow.record_batch({"id": [1, 2, 3]}))
    threading.Event().wait()
PYTHON
pids+=($!)

cat >"$work/prometheus.yml" <<YAML
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: ["$PWD/docs/operations/alerts.yml"]
scrape_configs:
  - job_name: zerobus
    static_configs: [{targets: ["127.0.0.1:$metrics_port"]}]
YAML
prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/data" \
  --web.listen-address="127.0.0.1:$prometheus_port" >"$work/prometheus.log" 2>&1 &
pids+=($!)

deadline=$((SECONDS + 60))
until answer=$(curl -sf "http://127.0.0.1:$prometheus_port/api/v1/query" --data-urlencode 'query=zerobus_rows_stored_total') &&
  grep -q '"value":\[[0-9.]*,"3"\]' <<<"$answer"; do
  if [ $SECONDS -ge $deadline ]; then
    echo "Prometheus has not read the three rows: ${answer:-no answer}" >&2
    cat "$work/prometheus.log" >&2
    exit 1
  fi
  sleep 0.2
done
curl -sf "http://127.0.0.1:$metrics_port/metrics" | promtool check metrics
curl -sf "http://127.0.0.1:$prometheus_port/api/v1/rules" | grep -q '"name":"ZerobusLogFull"'
echo "Prometheus reads the metrics, and knows the rules"
