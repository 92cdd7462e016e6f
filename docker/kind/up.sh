#!/usr/bin/env bash
# A cluster on this machine: the gateway, all that steps need, and stores for trying.
#   docker/kind/up.sh                       starts it, or brings it up to date
#   WITH_AIRFLOW=1 docker/kind/up.sh        installs Airflow's chart as well (needs helm)
#   kind delete cluster --name windtunnel   removes it, and all that it holds
# Needs docker, kind and kubectl.
set -euo pipefail
cd "$(dirname "$(realpath "$0")")/../.."
chart=1.22.0

for tool in docker kind kubectl openssl ${WITH_AIRFLOW:+helm}; do
  command -v "$tool" >/dev/null || { echo "up.sh: $tool is not installed" >&2; exit 1; }
done

kind get clusters | grep -qx windtunnel || kind create cluster --config docker/kind/cluster.yaml --wait 120s
kubectl() { command kubectl --context kind-windtunnel "$@"; }

for target in gateway trainer ${WITH_AIRFLOW:+airflow}; do
  docker build -f docker/Dockerfile --target "$target" -t "windtunnel-$target:latest" .
  kind load docker-image --name windtunnel "windtunnel-$target:latest"
done

random() { openssl rand -hex 24; }
kubectl apply -f docker/kubernetes/namespace.yaml
kubectl get namespace stores >/dev/null 2>&1 || kubectl create namespace stores
kubectl get namespace airflow >/dev/null 2>&1 || kubectl create namespace airflow
if ! kubectl get secret -n stores stores >/dev/null 2>&1; then # passwords are made once
  database=$(random)
  store=(--from-literal=AWS_ENDPOINT_URL=http://store.stores.svc:8333 --from-literal=AWS_REGION=us-east-1
    --from-literal=AWS_ACCESS_KEY_ID="$(random)" --from-literal=AWS_SECRET_ACCESS_KEY="$(random)")
  postgres=postgresql+psycopg2://windtunnel:$database@postgres.stores.svc
  environment=(--from-literal=WINDTUNNEL_STORE_URL=s3://windtunnel/store
    --from-literal=WINDTUNNEL_DATABASE_URL="$postgres/ledger" --from-literal=WINDTUNNEL_OPTUNA_URL="$postgres/optuna"
    --from-literal=MLFLOW_TRACKING_URI=http://mlflow.stores.svc:5000
    --from-literal=WINDTUNNEL_GATEWAY_URL=http://windtunnel-gateway.windtunnel.svc:8900
    --from-literal=WINDTUNNEL_GATEWAY_API_KEY="$(random)")
  for namespace in windtunnel airflow; do
    kubectl create secret generic -n "$namespace" windtunnel-env "${environment[@]}" "${store[@]}"
  done
  kubectl create secret generic -n airflow airflow-keys --from-literal=connection="$postgres/airflow" \
    --from-literal=fernet-key="$(openssl rand -base64 32 | tr '+/' '-_')" \
    --from-literal=api-secret-key="$(random)" --from-literal=jwt-secret="$(random)"
  kubectl create secret generic -n stores stores --from-literal=POSTGRES_PASSWORD="$database" "${store[@]}"
fi
kubectl create configmap -n stores databases --from-file=docker/compose/databases.sql --dry-run=client -o yaml |
  kubectl apply -f -
kubectl apply -f docker/kind/stores.yaml
for name in postgres store mlflow; do kubectl rollout status -n stores "deployment/$name" --timeout 300s; done
kubectl apply -k docker/kind
kubectl rollout status -n windtunnel deployment/windtunnel-gateway --timeout 300s

if [[ ${WITH_AIRFLOW:-} ]]; then
  helm upgrade --install airflow airflow --repo https://airflow.apache.org --version "$chart" \
    --kube-context kind-windtunnel -n airflow -f docker/helm/values.yaml -f docker/kind/airflow.yaml --wait --timeout 15m
  echo "Airflow: kubectl port-forward -n airflow service/airflow-api-server 8080:8080"
fi

echo "gateway: http://127.0.0.1:8900, with the key"
kubectl get secret -n windtunnel windtunnel-env -o jsonpath='{.data.WINDTUNNEL_GATEWAY_API_KEY}' | base64 -d && echo
