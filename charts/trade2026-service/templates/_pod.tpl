{{- define "service.pod" -}}
serviceAccountName: {{ .Release.Name }}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .Values.topologySpread.enabled }}
topologySpreadConstraints:
  {{- range .Values.topologySpread.topologyKeys }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: {{ $.Values.topologySpread.whenUnsatisfiable }}
    labelSelector:
      matchLabels: {{- include "service.selectorLabels" $ | nindent 8 }}
  {{- end }}
{{- end }}
containers:
  {{- range .Values.containers }}
  - {{ include "service.container" (list $ .) | nindent 4 | trim }}
  {{- end }}
volumes:
  - name: settings
    configMap: {name: {{ .Release.Name }}}
  - name: state
    {{- if .Values.storage.ephemeral }}
    emptyDir: {}
    {{- else }}
    persistentVolumeClaim: {claimName: {{ include "service.claim" . }}}
    {{- end }}
  - name: tmp
    emptyDir: {}
  - name: keys
    secret:
      secretName: {{ .Values.keysSecret }}
      items: [{key: keys.json, path: keys.json}]
  {{- with .Values.filesSecret }}
  - name: files
    secret: {secretName: {{ . }}}
  {{- end }}
{{- end }}

{{/* One process: (list ROOT CONTAINER) */}}
{{- define "service.container" -}}
{{- $root := index . 0 }}
{{- $own := index . 1 }}
{{- $values := $root.Values }}
{{- $port := (first $own.ports).port }}
{{- $probes := mergeOverwrite (deepCopy $values.probes) ($own.probes | default dict) -}}
name: {{ $own.name }}
image: {{ $values.image.repository }}:{{ $values.image.tag | default $root.Chart.AppVersion }}
imagePullPolicy: {{ $values.image.pullPolicy }}
{{- with $values.command }}
command: {{- toYaml . | nindent 2 }}
{{- end }}
args:
  - serve
  - --settings=/etc/trade2026/settings/{{ $own.name }}.json
  - --host=0.0.0.0
  - --address=$(POD_IP)
  - --state-dir=/var/lib/trade2026
  - --keys-file=/etc/trade2026/keys/keys.json
  {{- if eq $values.peers "services" }}
  - --service-host={{ $values.stack }}-{service}
  {{- end }}
  {{- if eq $values.kind "StatefulSet" }}
  - --replica=$(POD_INDEX)
  {{- end }}
env:
  - name: POD_IP
    valueFrom: {fieldRef: {fieldPath: status.podIP}}
  - name: POD_NAMESPACE
    valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
  {{- if eq $values.kind "StatefulSet" }}
  - name: POD_INDEX
    valueFrom: {fieldRef: {fieldPath: "metadata.labels['apps.kubernetes.io/pod-index']"}}
  {{- end }}
  - name: HOME
    value: /tmp
  - name: TRADE2026_KEY
    valueFrom: {secretKeyRef: {name: {{ $values.keysSecret }}, key: key}}
  {{- range $values.extraEnv }}
  - name: {{ .name }}
    valueFrom: {secretKeyRef: {name: {{ .secret }}, key: {{ .key }}}}
  {{- end }}
  {{- with $own.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $values.envSecrets }}
envFrom:
  {{- range . }}
  - secretRef: {name: {{ . }}}
  {{- end }}
{{- end }}
ports:
  {{- range $own.ports }}
  - {containerPort: {{ .port }}, protocol: TCP}
  {{- end }}
resources: {{- toYaml ($own.resources | default $values.resources) | nindent 2 }}
startupProbe:
  httpGet: {path: "/startupz?of=process", port: {{ $port }}}
  {{- toYaml $probes.startup | nindent 2 }}
readinessProbe:
  httpGet: {path: "/readyz?of=process", port: {{ $port }}}
  {{- toYaml $probes.readiness | nindent 2 }}
livenessProbe:
  httpGet: {path: /livez, port: {{ $port }}}
  {{- toYaml $probes.liveness | nindent 2 }}
{{- if $values.preStopSeconds }}
lifecycle:
  preStop: {sleep: {seconds: {{ $values.preStopSeconds }}}}
{{- end }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- if $values.filesSecret }}
workingDir: /etc/trade2026/files
{{- end }}
volumeMounts:
  - {name: settings, mountPath: /etc/trade2026/settings, readOnly: true}
  - {name: keys, mountPath: /etc/trade2026/keys, readOnly: true}
  - {name: state, mountPath: /var/lib/trade2026}
  - {name: tmp, mountPath: /tmp}
  {{- if $values.filesSecret }}
  - {name: files, mountPath: /etc/trade2026/files, readOnly: true}
  {{- end }}
{{- end }}
