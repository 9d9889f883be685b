// An authorization server of the npm package oidc-provider, on two ports: HTTP, and HTTPS that asks for a
// client certificate. Everything that changes while it runs (clients, the lifetime of tokens) is in the
// file that is read at each use.
//
// Arguments: the file, the public address (the issuer), the ports, and the folder with the keys.

import { createPrivateKey, createPublicKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { jwtVerify } from 'jose';
import Provider, { errors } from 'oidc-provider';

const [state, issuer, port, tlsPort, keys] = process.argv.slice(2);
const now = () => JSON.parse(readFileSync(state, 'utf8'));
const file = (name) => readFileSync(`${keys}/${name}`);

/** Clients of the file; everything else is in memory, and gone after a restart. */
class Adapter {
  static tokens = new Map();

  constructor(model) { this.model = model; }

  async find(id) {
    if (this.model === 'Client') return now().clients[id];
    return Adapter.tokens.get(`${this.model}:${id}`);
  }

  async upsert(id, payload) { Adapter.tokens.set(`${this.model}:${id}`, payload); }

  async destroy(id) { Adapter.tokens.delete(`${this.model}:${id}`); }
}

const peer = (ctx) => ctx.socket.getPeerCertificate?.();
/** What is to be exchanged lives for an hour: it is none of the sidecar's business to renew it. */
const lifetime = (client) => (client.clientId === 'subject' ? 3600 : now().lifetime);
const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';

const provider = new Provider(issuer, {
  adapter: Adapter,
  jwks: { keys: [{ ...createPrivateKey(file('server-signing.pem')).export({ format: 'jwk' }), use: 'sig', alg: 'RS256' }] },
  clientAuthMethods: [
    'client_secret_basic', 'client_secret_post', 'private_key_jwt', 'tls_client_auth', 'none',
  ],
  scopes: ['metrics'],
  ttl: { ClientCredentials: () => now().lifetime, AccessToken: () => now().lifetime },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true, allowedPolicy: () => true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => undefined,
      useGrantedResource: () => true,
      getResourceServerInfo: (_ctx, resource, client) => {
        if (resource !== 'urn:metrics') throw new errors.InvalidTarget();
        return { scope: 'metrics', audience: resource, accessTokenFormat: 'jwt', accessTokenTTL: lifetime(client) };
      },
    },
    mTLS: {
      enabled: true,
      tlsClientAuth: true,
      getCertificate: (ctx) => {
        const raw = peer(ctx)?.raw;
        return raw && `-----BEGIN CERTIFICATE-----\n${raw.toString('base64')}\n-----END CERTIFICATE-----\n`;
      },
      certificateAuthorized: (ctx) => ctx.socket.authorized,
      certificateSubjectMatches: (ctx, _key, expected) => `CN=${peer(ctx).subject.CN}` === expected,
    },
  },
});

// RFC 8693, with a handler of ours, since the library has none: a token of this server, which was granted to
// one client, for a token of the client that asks.
provider.registerGrantType(EXCHANGE, async (ctx) => {
  const { subject_token: subject, subject_token_type: type } = ctx.oidc.params;
  if (type !== 'urn:ietf:params:oauth:token-type:access_token') {
    throw new errors.InvalidRequest('subject_token_type must be that of an access token');
  }
  try {
    // It is older than this server may be, and of another clock.
    await jwtVerify(subject, createPublicKey(file('server-signing.pem')), { issuer, clockTolerance: 180 });
  } catch {
    throw new errors.InvalidGrant('subject_token is none of ours');
  }
  const token = new provider.ClientCredentials({ client: ctx.oidc.client });
  ctx.oidc.entity('ClientCredentials', token);
  ctx.body = {
    access_token: await token.save(),
    issued_token_type: 'urn:ietf:params:oauth:token-type:access_token',
    expires_in: token.expiration,
    token_type: token.tokenType,
  };
}, ['subject_token', 'subject_token_type', 'requested_token_type', 'audience', 'resource', 'scope']);

provider.on('server_error', (_ctx, error) => console.error('server_error', error));
provider.on('grant.error', (ctx, error) => {
  console.error('grant.error', ctx.oidc?.params?.client_id, error.error, error.error_detail ?? error.cause?.message);
});

http.createServer(provider.callback()).listen(Number(port), '127.0.0.1');
https.createServer({
  key: file('server-key.pem'), cert: file('server.pem'), ca: file('ca.pem'), requestCert: true, rejectUnauthorized: false,
}, provider.callback()).listen(Number(tlsPort), '127.0.0.1', () => console.log('ready'));
