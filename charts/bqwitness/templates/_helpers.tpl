{{/* An image: by digest where there is one. */}}
{{- define "bqwitness.image" -}}
{{- $image := index .root.Values.images .name -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "bqwitness.labels" -}}
{{ include "bqwitness.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: bqwitness
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "bqwitness.selector" -}}
app.kubernetes.io/name: bqwitness-{{ .name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end -}}

{{- define "bqwitness.recorder.host" -}}
bqwitness-recorder.{{ .Values.recorder.namespace }}.svc
{{- end -}}

{{- define "bqwitness.recorder.url" -}}
{{- if .Values.recorder.enabled -}}
https://{{ include "bqwitness.recorder.host" . }}:8443
{{- else -}}
{{ required "recorder.external.url: without a recorder of its own, the chart must know where yours is" .Values.recorder.external.url }}
{{- end -}}
{{- end -}}

{{/* PodSecurity "restricted", and nothing to write to but what is mounted. */}}
{{- define "bqwitness.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: { drop: [ALL] }
readOnlyRootFilesystem: true
runAsNonRoot: true
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{/* Prints "true" where PodMonitors and rules are to be made. */}}
{{- define "bqwitness.monitoring" -}}
{{- $enabled := .Values.monitoring.enabled | toString -}}
{{- if or (eq $enabled "true") (and (eq $enabled "auto") (.Capabilities.APIVersions.Has "monitoring.coreos.com/v1")) -}}
true
{{- end -}}
{{- end -}}

{{/* Where metrics may be scraped from. */}}
{{- define "bqwitness.scrapers" -}}
{{- with .Values.networkPolicies.monitoringFrom -}}
{{ toYaml . }}
{{- else -}}
- namespaceSelector: {}
{{- end -}}
{{- end -}}

{{/* Name service, wherever it runs. */}}
{{- define "bqwitness.dns" -}}
- ports:
    - { port: 53, protocol: UDP }
    - { port: 53, protocol: TCP }
{{- end -}}
