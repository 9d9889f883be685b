//! What `--help` says at length, for someone who reads nothing else.

pub(super) const START: &str = "\
How to start:
  Four environment variables are enough. Clients then use http://127.0.0.1:9797 as their server,
  with any token or none.

    WAVEFRONT_URL=https://example.wavefront.com \\
    CSP_APP_ID=… CSP_APP_SECRET=… CSP_ORG_ID=… \\
    auth-sidecar

  CSP_ORG_ID is optional. Instead of the CSP_APP variables, CSP_API_TOKEN (an API token of a user)
  or WAVEFRONT_TOKEN (a subscription without cloud services) will do. CSP_API_URL names another
  token service. Each name exists with the suffix _FILE too, for the path of a file: secrets in
  files are read each time that they are used.

Everything else:
  is set in a TOML file (--config), or in variables like AUTH_SIDECAR_LISTEN__DRAIN_TIMEOUT for
  the key drain_timeout of the section [listen]. Flags win over the environment, the environment
  over the file. Secrets are never flags: process listings show them.
  `auth-sidecar check` shows every key, its value and where the value came from.
  `auth-sidecar doctor` tries it, and says in words what is wrong.
  `auth-sidecar demo` needs no configuration at all.
";

pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0  stopped as asked (SIGTERM, SIGINT), or the command succeeded
  1  failed at run time
  2  wrong command line or configuration; every problem is on standard error, one a line
";

pub(super) const CHECK: &str = "\
Validates the configuration and connects nowhere. Prints every key with its value and the place
that the value came from; secrets are only said to be set. When something is wrong, prints every
problem instead, one a line: the key, the place, and what would be right.";

pub(super) const DOCTOR: &str = "\
Tries with the configuration what the sidecar would do: gets a token with the credentials, reads its
claims, and calls the service with it. Looks around, too: warnings of the configuration, secret
files that everybody can read, addresses to listen on, names, certificates, clocks, the permission
to send data, the ends of credentials. Prints a line for each: ok, warning or failed, and what to do
about it. Never prints a secret or a token. It gets a token of its own, and does not disturb a
sidecar that is running.

Of a Wavefront instance it asks for one source (GET /api/v2/source?limit=1), of another service for
its root; --path names something else that is harmless to read.

Give it the flags, the environment and the user that the sidecar has:

  auth-sidecar doctor --config /etc/auth-sidecar.toml
  kubectl exec my-pod -c auth-sidecar -- auth-sidecar doctor";

pub(super) const DOCTOR_EXIT_CODES: &str = "\
Exit codes:
  0  nothing failed; there may be warnings
  1  something failed
  2  wrong command line or configuration; every problem is on standard error, one a line
";

pub(super) const DEMO: &str = "\
Runs an embedded token service, an embedded service instance and the sidecar between them, with no
configuration at all, and prints lines to try. Tokens live for seconds, so renewals can be watched.
Nothing leaves this machine. Ctrl-C stops it.";

pub(super) const LOCAL_CA: &str = "\
Makes a certificate for localhost, 127.0.0.1 and ::1 (and further names, when given) and an authority
that vouches for it, for tools that insist on https://. Writes ca.pem, cert.pem and key.pem to a
directory, and prints how the sidecar uses them and how curl, Go programs and Terraform, Java, Python
and Node come to trust them. It needs no connection and no configuration.

The authority can vouch for these names only, and its own key is not kept: nobody can sign anything
more with it. When the certificate nears its end (825 days; metrics and `auth-sidecar doctor` show it) or
another name is needed, --replace makes everything anew, and clients are given the new ca.pem.

With --client NAME a client gets a certificate of its own, for listen.tls_client_ca_file: then nobody
is let in without one.

Example: auth-sidecar local-ca --dir /etc/auth-sidecar/tls --client grafana";

pub(super) const LOCAL_TOKEN: &str = "\
Makes a local token: a random value that means something to this sidecar alone. The client sends it
where its tool wants an API token (\"Authorization: Bearer …\", \"X-AUTH-TOKEN: …\"); the sidecar
knows it by its hash, lets the request in and replaces it by the real token. It needs no connection
and no configuration.

With --file, it is let in at once: the line name:sha256 is added to that file, which
listen.client_tokens_file (AUTH_SIDECAR_LISTEN__CLIENT_TOKENS_FILE) names for the sidecar. From then
on requests without such a token get a 403. The token is shown once and kept nowhere. The file is
replaced whole, which takes a directory that can be written to; when the token cannot be shown, the
line is taken back.

Example: TOKEN=$(auth-sidecar local-token grafana --file /etc/auth-sidecar/clients)";

pub(super) const WAIT: &str = "\
Asks the admin listener of a running sidecar until it holds a usable token, then exits with 0; or
with 1 when that takes too long, with the last reason. For start-up order, and for probes in
containers without a shell. Meanwhile a line on standard error gives each new reason, at most one
in 5 s.

The address is that of the configuration, as the sidecar itself reads it: admin.address of --config
(AUTH_SIDECAR_CONFIG), or AUTH_SIDECAR_ADMIN__ADDRESS. Nothing else of the configuration needs to be
right or even there, so a container without the secrets can wait, too.

Example: auth-sidecar wait --timeout 30s && exec my-program";

pub(super) const STATUS: &str = "\
Asks a running sidecar how it is, and prints it in words: its state and what to do about it, the
token, the service behind it, the ends of credentials, the last calls of the token service. Never a
token or a secret. The address is found as by `auth-sidecar wait`.

With --output json it prints what /status of the admin listener holds, for programs.";

pub(super) const STATUS_EXIT_CODES: &str = "\
Exit codes:
  0  ready
  1  not able to serve (starting, unavailable, stopping), or nothing responds
  2  wrong command line or configuration
  3  degraded: it serves, but something needs attention before that ends
";

pub(super) const SCHEMA: &str = "\
Prints the JSON schema (draft 2020-12) of the configuration file: every key with its kind, its
bounds, its default and what it is for. It comes from the code that reads the file. Editors with a
TOML language server (taplo, Even Better TOML) complete and check by it, where the first line of the
file names it:

  auth-sidecar schema > auth-sidecar.schema.json
  #:schema ./auth-sidecar.schema.json";

pub(super) const COMPLETIONS: &str = "\
Prints a script that has a shell complete commands and options.

  bash:  auth-sidecar completions bash > /etc/bash_completion.d/auth-sidecar
  zsh:   auth-sidecar completions zsh > \"${fpath[1]}/_auth-sidecar\"
  fish:  auth-sidecar completions fish > ~/.config/fish/completions/auth-sidecar.fish";

pub(super) const MAN: &str = "\
Writes a manual page for the program and for each command to a directory, or with no directory
prints that of the program.

  auth-sidecar man | man -l -
  auth-sidecar man /usr/local/share/man/man1";
