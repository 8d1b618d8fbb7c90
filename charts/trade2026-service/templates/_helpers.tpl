{{/* Labels by which pods are found: they never change, nor does a new version of the chart. */}}
{{- define "service.selectorLabels" -}}
app.kubernetes.io/name: trade2026-service
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Labels of pods: nothing here that would start them again when only the chart or the operator is new. */}}
{{- define "service.podLabels" -}}
{{ include "service.selectorLabels" . }}
app.kubernetes.io/component: {{ .Values.component }}
app.kubernetes.io/part-of: trade2026
trade2026.io/stack: {{ .Values.stack }}
{{- end }}

{{- define "service.labels" -}}
{{ include "service.podLabels" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* The name of a service's Service: (list STACK SERVICE) */}}
{{- define "service.name" -}}
{{ printf "%s-%s" (index . 0) (index . 1 | replace "_" "-") }}
{{- end }}

{{- define "service.claim" -}}
{{ .Values.storage.existingClaim | default (printf "%s-state" .Release.Name) }}
{{- end }}

{{/* Whether its autoscaler is KEDA's. */}}
{{- define "service.scaledByKeda" -}}
{{- if and .Values.autoscaling.enabled .Values.autoscaling.keda.scalerAddress }}true{{ end }}
{{- end }}

{{/* How an autoscaler moves, in what the server knows. */}}
{{- define "service.behavior" -}}
{{- $behavior := deepCopy .Values.autoscaling.behavior }}
{{- if and (semverCompare "<1.35.0-0" .Capabilities.KubeVersion.Version) (hasKey $behavior "scaleUp") }}
{{- $_ := set $behavior "scaleUp" (omit $behavior.scaleUp "tolerance") }}
{{- end }}
{{- toYaml $behavior }}
{{- end }}

{{/* What JSON Schema can't say. */}}
{{- define "service.check" -}}
{{- if and (eq .Values.peers "local") (or (gt (int .Values.replicas) 1) .Values.autoscaling.enabled) }}
{{- fail "peers: local is one pod with everything: it can't have replicas. Use peers: services, and a bus that they share" }}
{{- end }}
{{- $ports := dict }}
{{- range .Values.containers }}
{{- $settings := fromJson .settings }}
{{- if hasKey $settings "Error" }}
{{- fail (printf "containers: settings of %s is no JSON document: %s" .name $settings.Error) }}
{{- end }}
{{- if ne $settings.stack $.Values.stack }}
{{- fail (printf "containers: settings of %s are of the stack %s, not %s" .name $settings.stack $.Values.stack) }}
{{- end }}
{{- range .ports }}
{{- $number := toString .port }}
{{- if hasKey $ports $number }}
{{- fail (printf "containers: port %s is both that of %s and of %s" $number (get $ports $number) .name) }}
{{- end }}
{{- $_ := set $ports $number .name }}
{{- end }}
{{- end }}
{{- end }}
