// Whose certificates count: Node's authorities, and the operator's beside them.
import * as tls from 'node:tls'

/** More than this many sets of authorities (one a reload of domains.ini, at most), and the oldest is forgotten. */
const MANY = 4
const contexts = new Map<string, tls.SecureContext>()

/** A TLS context that trusts Node's authorities and those in `pem`. Kept: to read some 150 certificates takes time. */
export function trusting(pem: string): tls.SecureContext {
  const known = contexts.get(pem)
  if (known) return known
  // Newer than Node 20; with it NODE_EXTRA_CA_CERTS and --use-system-ca count, too.
  const { getCACertificates } = tls as { getCACertificates?: (type: 'default') => string[] }
  const nodes = getCACertificates?.('default') ?? tls.rootCertificates
  const context = tls.createSecureContext({ ca: [...nodes, pem] })
  const oldest = contexts.keys().next().value
  if (contexts.size >= MANY && oldest !== undefined) contexts.delete(oldest)
  contexts.set(pem, context)
  return context
}
