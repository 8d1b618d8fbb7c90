#!/usr/bin/env bash
# Process 1 of the cluster's network, mount and process namespaces: starts each component, and again whichever ends.
# Whoever kills it ends them all, pods included, and their mounts and networks go with the namespaces.
#
#   init.sh STATE    with PROGRAMS, NODE, NODE_IP, POD_CIDR and SERVICE_CIDR in the environment
set -u
state=$1
export PATH=$PROGRAMS:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export CONTAINERD_ADDRESS=$state/run/containerd.sock CONTAINERD_NAMESPACE=k8s.io
api=(--kubeconfig "$state/admin.conf" --cache-dir "$state/kubecache")

# Programs keep files at these places, whatever they are told: here they are the cluster's own.
mkdir -p /var/lib/cni
for place in /run /var/log /var/lib/cni; do mount -t tmpfs tmpfs "$place"; done
mkdir -p /run/lock /run/netns
mount --make-rshared / # volumes of pods may propagate mounts
ulimit -n "$(ulimit -Hn)"

ip link set lo up
ip addr add "$NODE_IP/32" dev lo # on `lo`, because not every kernel has links of the type dummy
ip route add "$SERVICE_CIDR" dev lo src "$NODE_IP" # without a default route the node would not find Services
echo 1 >/proc/sys/net/ipv4/ip_forward

keep() { # NAME COMMAND...: run it, for ever
  local name=$1 status
  shift
  while :; do
    "$@" >>"$state/log/$name.log" 2>&1 &
    echo $! >"$state/run/$name"
    status=0
    wait $! || status=$?
    echo "$(date +%T) $name ended with $status, and is started again"
    sleep 0.5
  done
}
# A volume whose claim was deleted is emptied, and can be claimed again: what a provisioner would do elsewhere.
recycle_volumes() {
  kubectl "${api[@]}" get persistentvolumes --watch --output jsonpath='{.metadata.name} {.status.phase}{"\n"}' |
    while read -r volume phase; do
      [ "$phase" = Released ] && [ -d "$state/volumes/$volume" ] || continue
      find "$state/volumes/$volume" -mindepth 1 -delete
      kubectl "${api[@]}" patch persistentvolume "$volume" --type json --patch '[{"op": "remove", "path": "/spec/claimRef"}]'
    done
}
until_it_works() { until "$@" >/dev/null 2>&1; do sleep 0.1; done; }

# Without fsync it is faster; what is written survives kill -9, though not a power cut.
keep etcd hyperkube etcd --name "$NODE" --data-dir "$state/etcd" --unsafe-no-fsync --log-level warn \
  --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
  --listen-peer-urls http://127.0.0.1:2380 &

keep containerd containerd --config "$state/containerd.toml" &

keep kube-apiserver hyperkube kube-apiserver \
  --etcd-servers http://127.0.0.1:2379 \
  --advertise-address "$NODE_IP" --secure-port 6443 --service-cluster-ip-range "$SERVICE_CIDR" \
  --tls-cert-file "$state/pki/apiserver.crt" --tls-private-key-file "$state/pki/apiserver.key" \
  --client-ca-file "$state/pki/ca.crt" \
  --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction --allow-privileged \
  --kubelet-certificate-authority "$state/pki/ca.crt" --kubelet-preferred-address-types InternalIP \
  --kubelet-client-certificate "$state/pki/kubelet-client.crt" --kubelet-client-key "$state/pki/kubelet-client.key" \
  --service-account-issuer https://kubernetes.default.svc.cluster.local \
  --service-account-key-file "$state/pki/sa.pub" --service-account-signing-key-file "$state/pki/sa.key" \
  --requestheader-client-ca-file "$state/pki/front-proxy-ca.crt" \
  --requestheader-allowed-names front-proxy-client \
  --requestheader-username-headers X-Remote-User --requestheader-group-headers X-Remote-Group \
  --requestheader-extra-headers-prefix X-Remote-Extra- \
  --proxy-client-cert-file "$state/pki/front-proxy-client.crt" \
  --proxy-client-key-file "$state/pki/front-proxy-client.key" &

until_it_works ctr version
ctr images import "$PROGRAMS/pause.tar"
until_it_works kubectl "${api[@]}" get --raw /readyz

# At its default rate it would take 5 s to make the service accounts of its controllers. An HPA acts within a second
# here, where it would wait for 15 s to 5 minutes.
keep kube-controller-manager hyperkube kube-controller-manager \
  --kubeconfig "$state/controller-manager.conf" --leader-elect=false --kube-api-qps 200 --kube-api-burst 400 \
  --use-service-account-credentials --root-ca-file "$state/pki/ca.crt" \
  --service-account-private-key-file "$state/pki/sa.key" \
  --cluster-signing-cert-file "$state/pki/ca.crt" --cluster-signing-key-file "$state/pki/ca.key" \
  --horizontal-pod-autoscaler-sync-period 1s --horizontal-pod-autoscaler-downscale-stabilization 5s \
  --horizontal-pod-autoscaler-initial-readiness-delay 1s \
  --horizontal-pod-autoscaler-cpu-initialization-period 1s &

keep kube-scheduler hyperkube kube-scheduler --kubeconfig "$state/scheduler.conf" --leader-elect=false &

keep kubelet hyperkube kubelet --config "$state/kubelet.yaml" --kubeconfig "$state/kubelet.conf" \
  --root-dir "$state/kubelet" --hostname-override "$NODE" --node-ip "$NODE_IP" &

# The limits of connection tracking are the machine's, and stay as they are.
keep kube-proxy hyperkube kube-proxy --kubeconfig "$state/proxy.conf" --hostname-override "$NODE" \
  --proxy-mode nftables --cluster-cidr "$POD_CIDR" --conntrack-max-per-core 0 \
  --conntrack-tcp-timeout-established 0 --conntrack-tcp-timeout-close-wait 0 &

until_it_works kubectl "${api[@]}" apply --server-side -f "$state/base.yaml"
keep volumes recycle_volumes &
keep coredns coredns -conf "$state/Corefile" -quiet &
wait
