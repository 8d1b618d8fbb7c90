{{- define "operator.selectorLabels" -}}
app.kubernetes.io/name: trade2026-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "operator.labels" -}}
{{ include "operator.selectorLabels" . }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: trade2026
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "operator.name" -}}
{{ if contains "trade2026-operator" .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-trade2026-operator{{ end }}
{{- end }}

{{/* Names of cluster-wide objects: two operators in two namespaces have two. */}}
{{- define "operator.clusterName" -}}
{{ .Release.Namespace }}-{{ include "operator.name" . }}
{{- end }}

{{- define "operator.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* The namespaces whose stacks are run, as JSON; empty for all. */}}
{{- define "operator.namespaces" -}}
{{- if eq .Values.rbac.scope "namespace" }}
{{- .Values.rbac.namespaces | default (list .Release.Namespace) | uniq | toJson }}
{{- else }}[]{{ end }}
{{- end }}

{{- define "operator.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "operator.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* Whether external metrics are served: their API is the whole cluster's, so it takes rights of the whole cluster. */}}
{{- define "operator.servesMetrics" -}}
{{- if and .Values.metricsServer.enabled (eq .Values.rbac.scope "cluster") }}true{{ end }}
{{- end }}

{{/* Whether KEDA asks for the number. */}}
{{- define "operator.usesKeda" -}}
{{- if .Values.keda.enabled }}
{{- if not (include "operator.servesMetrics" .) }}
{{- fail "keda.enabled: it is the metrics server that KEDA asks: metricsServer.enabled, and rbac.scope: cluster" }}
{{- end }}true{{ end }}
{{- end }}

{{- define "operator.kedaAuthentication" -}}
{{ include "operator.clusterName" . }}-scaler
{{- end }}

{{- define "operator.metricsName" -}}
{{ include "operator.name" . }}-metrics
{{- end }}

{{- define "operator.metricsSelectorLabels" -}}
app.kubernetes.io/name: trade2026-metrics-server
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "operator.metricsLabels" -}}
{{ include "operator.metricsSelectorLabels" . }}
app.kubernetes.io/component: metrics-server
app.kubernetes.io/part-of: trade2026
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Where pods of stacks may run, as JSON; empty: anywhere. */}}
{{- define "operator.stackScheduling" -}}
{{- $found := dict }}
{{- range $name := list "nodeSelector" "tolerations" "priorityClassName" }}
{{- with index $.Values.stacks $name }}
{{- $_ := set $found $name . }}
{{- end }}
{{- end }}
{{- with $found }}
{{- toJson . }}
{{- end }}
{{- end }}
