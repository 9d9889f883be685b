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

{{/* The kind of the credentials: the one that is named, or else what a provider is usually used with. */}}
{{- define "auth-sidecar.kind" -}}
{{- $usual := dict "google" "oauth2-jwt-bearer" "salesforce" "oauth2-jwt-bearer" "github" "github-app"
    "csp" "csp-oauth-app" "tanzu" "csp-oauth-app" "omnissa" "csp-oauth-app" "" "csp-oauth-app" -}}
{{- .Values.auth.type | default (get $usual .Values.auth.provider) | default "oauth2-client-credentials" -}}
{{- end -}}

{{/* Which files of [auth] are which keys of the Secret, as JSON: what auth.files says, or else what the kind
and the way in which the client proves who it is are used with. */}}
{{- define "auth-sidecar.files" -}}
{{- $auth := .Values.auth -}}
{{- $kind := include "auth-sidecar.kind" . -}}
{{- $name := get (dict "csp-oauth-app" "clientSecretFile" "csp-api-token" "apiTokenFile" "static-token" "tokenFile" "github-app" "privateKeyFile") $kind -}}
{{- $files := $auth.files -}}
{{- if $files -}}
{{- else if $name -}}
{{- $files = dict $name $auth.secretKey -}}
{{- else if eq $kind "oauth2-jwt-bearer" -}}
{{- /* A key file names its account; a mere key does not. */ -}}
{{- $files = dict (ternary "privateKeyFile" "serviceAccountFile" (or (ne ($auth.clientId) "") (hasKey $auth "assertionIssuer"))) $auth.secretKey -}}
{{- else -}}
{{- $assertion := and $auth.serviceAccountToken.audience (ne $kind "oauth2-token-exchange") -}}
{{- $method := $auth.clientAuth | default (ternary "client_assertion" "client_secret" (not (empty $assertion))) -}}
{{- if hasPrefix "client_secret" $method -}}
{{- $files = dict "clientSecretFile" $auth.secretKey -}}
{{- else if eq $method "private_key_jwt" -}}
{{- $files = dict "privateKeyFile" $auth.secretKey -}}
{{- else if hasSuffix "tls_client_auth" $method -}}
{{- $files = dict "clientCertFile" "tls.crt" "clientKeyFile" "tls.key" -}}
{{- end -}}
{{- end -}}
{{- $files | default dict | toJson -}}
{{- end -}}

{{/* The configuration by dotted names, as JSON: what the values say in their own words, `own` of a template,
and before all of it `settings`. */}}
{{- define "auth-sidecar.settings" -}}
{{- $values := .Values -}}
{{- $auth := $values.auth -}}
{{- $kind := include "auth-sidecar.kind" . -}}
{{- $all := dict "upstream.url" (required "upstream.url is required: the service behind the sidecar" $values.upstream.url) -}}
{{- range $section, $omitted := dict "auth" (list "type" "secretName" "secretKey" "files" "serviceAccountToken" "refreshTokenClaim") "telemetry" (list "headersSecret") "log" list -}}
{{- range $key, $value := omit (get $values $section) "" -}}
{{- if not (or (has $key $omitted) (empty $value)) -}}
{{- $_ := set $all (printf "%s.%s" $section (snakecase $key)) (kindIs "slice" $value | ternary (join "," $value) $value) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if or $auth.type (not $auth.provider) -}}
{{- $_ := set $all "auth.type" $kind -}}
{{- end -}}
{{- range $key, $file := fromJson (include "auth-sidecar.files" .) -}}
{{- $_ := set $all (printf "auth.%s" (snakecase $key)) (printf "/run/secrets/auth-sidecar/%s" $file) -}}
{{- end -}}
{{- if $auth.serviceAccountToken.audience -}}
{{- $is_subject := and (eq $kind "oauth2-token-exchange") (ne ($auth.clientAuth | default "") "client_assertion") -}}
{{- $_ := set $all (ternary "auth.subject_token_file" "auth.client_assertion_file" $is_subject) "/var/run/secrets/tokens/auth-sidecar/token" -}}
{{- end -}}
{{- if eq $kind "oauth2-refresh-token" -}}
{{- $_ := required "auth.refreshTokenClaim is required: a refresh token is replaced when it is used, so no Secret can hold it" $auth.refreshTokenClaim -}}
{{- $_ := set $all "auth.refresh_token_file" "/var/lib/auth-sidecar/refresh-token" -}}
{{- end -}}
{{- if $values.telemetry.headersSecret -}}
{{- $_ := set $all "telemetry.otlp_headers_file" "/run/secrets/telemetry/headers" -}}
{{- end -}}
{{- if $values.broker.clientsSecret -}}
{{- $_ := set $all "broker.address" "127.0.0.1:9799" -}}
{{- $_ := set $all "broker.client_tokens_file" "/run/secrets/broker/clients" -}}
{{- end -}}
{{- if $values.broker.tokenFile -}}
{{- $_ := set $all "broker.file" "[{path = \"/run/auth-sidecar/token\", mode = \"0640\"}]" -}}
{{- end -}}
{{- mergeOverwrite $all (.own | default dict) $values.settings | toJson -}}
{{- end -}}

{{/* The same as variables, which win over the defaults. */}}
{{- define "auth-sidecar.env" -}}
{{- range $key, $value := fromJson (include "auth-sidecar.settings" .) }}
{{- /* A number of the values has a fraction; a large one would be written with an exponent. */}}
{{- $is_whole := and (kindIs "float64" $value) (eq (floor $value) $value) }}
- name: {{ printf "AUTH_SIDECAR_%s" ($key | replace "." "__" | upper) }}
  value: {{ $is_whole | ternary (int64 $value) $value | toString | quote }}
{{- end }}
{{- with .Values.extraEnv }}
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
{{- /* All containers but native sidecars are asked to stop at the same time, and the tool may have requests left.
Both times together are shorter than the 30 seconds that a pod has if it says nothing. */}}
{{- $delay := printf "%ds" (int .Values.sidecar.drainDelaySeconds) -}}
{{- $own := .Values.sidecar.native | ternary dict (dict "listen.drain_delay" $delay "listen.drain_timeout" "15s") -}}
- name: auth-sidecar
  image: {{ include "auth-sidecar.image" . | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  env:
    {{- include "auth-sidecar.env" (dict "Values" .Values "own" $own) | trim | nindent 4 }}
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
  {{- with include "auth-sidecar.mounts" . | trim }}
  volumeMounts:
    {{- . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "auth-sidecar.mounts" -}}
{{- if ne (include "auth-sidecar.files" .) "{}" }}
- {name: auth-sidecar-secret, mountPath: /run/secrets/auth-sidecar, readOnly: true}
{{- end }}
{{- if .Values.auth.serviceAccountToken.audience }}
- {name: auth-sidecar-account, mountPath: /var/run/secrets/tokens/auth-sidecar, readOnly: true}
{{- end }}
{{- if .Values.auth.refreshTokenClaim }}
- {name: auth-sidecar-refresh-token, mountPath: /var/lib/auth-sidecar}
{{- end }}
{{- if .Values.telemetry.headersSecret }}
- {name: auth-sidecar-telemetry, mountPath: /run/secrets/telemetry, readOnly: true}
{{- end }}
{{- if .Values.broker.clientsSecret }}
- {name: auth-sidecar-broker, mountPath: /run/secrets/broker, readOnly: true}
{{- end }}
{{- if .Values.broker.tokenFile }}
- {name: auth-sidecar-token, mountPath: /run/auth-sidecar}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* For a container that reads the file of broker.tokenFile: never writable, and never by subPath. */}}
{{- define "auth-sidecar.tokenMount" -}}
- {name: auth-sidecar-token, mountPath: /run/auth-sidecar, readOnly: true}
{{- end -}}

{{/* The group of what is mounted is the pod's fsGroup. */}}
{{- define "auth-sidecar.volumes" -}}
{{- if ne (include "auth-sidecar.files" .) "{}" }}
- name: auth-sidecar-secret
  secret: {secretName: {{ .Values.auth.secretName | quote }}, defaultMode: 0440}
{{- end }}
{{- with .Values.auth.serviceAccountToken }}
{{- if .audience }}
- name: auth-sidecar-account
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken: {path: token, audience: {{ .audience | quote }}, expirationSeconds: {{ int64 .expirationSeconds }}}
{{- end }}
{{- end }}
{{- with .Values.auth.refreshTokenClaim }}
- name: auth-sidecar-refresh-token
  persistentVolumeClaim: {claimName: {{ . | quote }}}
{{- end }}
{{- with .Values.telemetry.headersSecret }}
- name: auth-sidecar-telemetry
  secret: {secretName: {{ . | quote }}, defaultMode: 0440}
{{- end }}
{{- with .Values.broker.clientsSecret }}
- name: auth-sidecar-broker
  secret: {secretName: {{ . | quote }}, defaultMode: 0440}
{{- end }}
{{- if .Values.broker.tokenFile }}
- name: auth-sidecar-token
  emptyDir: {medium: Memory, sizeLimit: 1Mi}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
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
