#!/usr/bin/env bash
# Takes Eastwall out of a cluster and leaves no rule behind. AFTERWARDS NOTHING STANDS BEFORE THE PODS.
#
#   deploy/uninstall/uninstall.sh [--with-policies]
#
# The order is what matters: who makes rules goes first, then the rules, then who knows of them.
#   1. the webhooks, so that no new pod gets a sidecar and nothing waits for an answer;
#   2. the proxies of nodes. Their rules stay, and close: a rule outlives the process that made it;
#   3. the CNI plugin and the rules, on every node, in every pod's network namespace (kustomization.yaml beside this file);
#   4. the sidecars, by restarting what has them: a sidecar's rules end with the network namespace of its pod;
#   5. the controller, roles and namespaces; policies and their kinds only with --with-policies, since kubectl cannot bring
#      them back.
# It can be run again after it was interrupted.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
with_policies=
case ${1-} in
'') ;;
--with-policies) with_policies=1 ;;
*) sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
gone() { kubectl delete --ignore-not-found --wait "$@"; }
say() { printf '\n=== %s\n' "$*"; }

say "1. webhooks"
gone mutatingwebhookconfiguration eastwall
gone validatingwebhookconfiguration eastwall

say "2. proxies of nodes"
gone --namespace eastwall-node --cascade=foreground daemonset eastwall-node

say "3. rules"
kubectl apply -k "$here"
kubectl --namespace eastwall-uninstall rollout status daemonset/eastwall-uninstall --timeout=15m
gone -k "$here"

say "4. sidecars"
# What the webhook injected comes without it now.
of_pods='{range .items[?(@.metadata.annotations.eastwall\.dev/injected)]}{.metadata.namespace}{"\n"}{end}'
for namespace in $(kubectl get pods --all-namespaces -o jsonpath="$of_pods" | sort -u); do
    for kind in deployment statefulset daemonset; do
        for name in $(kubectl --namespace "$namespace" get "$kind" -o name); do
            kubectl --namespace "$namespace" rollout restart "$name"
            kubectl --namespace "$namespace" rollout status "$name" --timeout=15m
        done
    done
done
for namespace in $(kubectl get namespaces -l eastwall.dev/inject -o name); do kubectl label "$namespace" eastwall.dev/inject-; done
# A rollout does not wait for pods that end, and those have their grace period.
for _ in $(seq 60); do
    left=$(kubectl get pods --all-namespaces -o jsonpath='{range .items[?(@.metadata.annotations.eastwall\.dev/injected)]}{.metadata.namespace}{"/"}{.metadata.name}{"\n"}{end}')
    [ -n "$left" ] || break
    sleep 1
done
if [ -n "$left" ]; then
    printf 'these pods still have a sidecar: they stand alone, or their own template has it (`eastwall inject`).\n%s\n' "$left" >&2
    echo "delete them, or apply their template as it was before; then run this again" >&2
    exit 1
fi

say "5. the rest"
gone namespace eastwall-node eastwall-system
gone clusterrolebinding -l app.kubernetes.io/part-of=eastwall
gone clusterrole eastwall-controller
if [ -n "$with_policies" ]; then
    gone crd -l app.kubernetes.io/part-of=eastwall
else
    echo "policies and their kinds stay: --with-policies deletes them"
fi
