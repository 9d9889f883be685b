{{/* What other charts include. Each takes the values of this chart:

  initContainers:
    {{- include "auth-sidecar.container" (index .Subcharts "auth-sidecar") | nindent 4 }}
  volumes:
    {{- include "auth-sidecar.volumes" (index .Subcharts "auth-sidecar") | nindent 4 }}
  securityContext:
    fsGroup: 65532          # so that the user of the sidecar can read the Secret

The chart's own Chart.yaml names it as a dependency, its values say auth-sidecar.gateway.enabled=false.
Before Kubernetes 1.29, with sidecar.native=false, it goes first among `containers` instead.
*/}}

{{- define "auth-sidecar.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* The variable by which the sidecar is told the file of its credential. */}}
{{- define "auth-sidecar.secretVariable" -}}
{{- get (dict
    "csp-oauth-app" "AUTH_SIDECAR_AUTH__CLIENT_SECRET_FILE"
    "csp-api-token" "AUTH_SIDECAR_AUTH__API_TOKEN_FILE"
    "static-token" "AUTH_SIDECAR_AUTH__TOKEN_FILE"
    "oauth2-client-credentials" "AUTH_SIDECAR_AUTH__CLIENT_SECRET_FILE"
  ) .Values.auth.type -}}
{{- end -}}

{{/* Its configuration as variables, which win over the defaults; `own` are those that a template sets. */}}
{{- define "auth-sidecar.env" -}}
{{- $values := .Values -}}
{{- $auth := $values.auth -}}
{{- $own := .own | default dict -}}
- name: AUTH_SIDECAR_UPSTREAM__URL
  value: {{ required "upstream.url is required: the service behind the sidecar" $values.upstream.url | quote }}
- name: AUTH_SIDECAR_AUTH__TYPE
  value: {{ $auth.type | quote }}
{{- with $auth.clientId }}
- name: AUTH_SIDECAR_AUTH__CLIENT_ID
  value: {{ . | quote }}
{{- end }}
{{- with $auth.orgId }}
- name: AUTH_SIDECAR_AUTH__ORG_ID
  value: {{ . | quote }}
{{- end }}
{{- with $auth.tokenUrl }}
- name: AUTH_SIDECAR_AUTH__TOKEN_URL
  value: {{ . | quote }}
{{- end }}
- name: {{ include "auth-sidecar.secretVariable" . }}
  value: {{ printf "/run/secrets/auth-sidecar/%s" $auth.secretKey | quote }}
{{- range $key, $value := merge (deepCopy $values.settings) $own }}
- name: {{ printf "AUTH_SIDECAR_%s" ($key | replace "." "__" | upper) }}
  value: {{ kindIs "float64" $value | ternary (int64 $value) $value | toString | quote }}
{{- end }}
{{- with $values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "auth-sidecar.securityContext" -}}
runAsNonRoot: true
{{- with .Values.runAsUser }}
runAsUser: {{ . }}
{{- end }}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* One container, as an element of a list. */}}
{{- define "auth-sidecar.container" -}}
- name: auth-sidecar
  image: {{ include "auth-sidecar.image" . | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  env:
    {{- include "auth-sidecar.env" . | nindent 4 }}
  {{- if .Values.sidecar.native }}
  restartPolicy: Always
  # The pod's containers start when the first token is there. Within the pod, so that the admin listener
  # stays on loopback.
  startupProbe:
    exec: {command: [/usr/local/bin/auth-sidecar, wait, --timeout, 1s]}
    periodSeconds: 1
    timeoutSeconds: 3
    failureThreshold: 60
  {{- else }}
  lifecycle:
    # The kubelet starts the next container when this has ended.
    postStart:
      exec: {command: [/usr/local/bin/auth-sidecar, wait, --timeout, 60s]}
  {{- end }}
  resources:
    {{- toYaml .Values.resources | nindent 4 }}
  securityContext:
    {{- include "auth-sidecar.securityContext" . | nindent 4 }}
  volumeMounts:
    - {name: auth-sidecar-secret, mountPath: /run/secrets/auth-sidecar, readOnly: true}
{{- end -}}

{{- define "auth-sidecar.volumes" -}}
- name: auth-sidecar-secret
  secret:
    secretName: {{ .Values.auth.secretName | quote }}
    # The group is the pod's fsGroup.
    defaultMode: 0440
{{- end -}}

{{- define "auth-sidecar.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{- define "auth-sidecar.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "auth-sidecar.labels" -}}
{{ include "auth-sidecar.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}
