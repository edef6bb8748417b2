// The PEM files of redis.ini: whom we trust, and who we are.
import { createPrivateKey, X509Certificate } from 'node:crypto'
import type { Fields } from '../ini/fields'
import { readCertificates, readPrivateKey } from '../ini/pem'
import type { Reading } from '../ini/reading'
import type { TlsOptions } from './endpoint'

/** Reads `tls_ca`, `tls_cert` and `tls_key`. Errors go to the reading. */
export function readTlsFiles(fields: Fields, open: Reading['open']): TlsOptions {
  const fileOf = (key: string, read: typeof readCertificates) =>
    fields.read(key, '', (path) => (path === '' ? '' : read(open, path)))
  const ca = fileOf('tls_ca', readCertificates)
  const cert = fileOf('tls_cert', readCertificates)
  const key = fileOf('tls_key', readPrivateKey)
  const isGiven = (name: string) => fields.has(name) && !fields.isEmpty(name)
  for (const [one, other] of [
    ['tls_cert', 'tls_key'],
    ['tls_key', 'tls_cert'],
  ] as const)
    if (isGiven(one) && !isGiven(other)) fields.wrong(one, `has no meaning without ${other}`)
  if (cert && key && !new X509Certificate(cert).checkPrivateKey(createPrivateKey(key)))
    fields.wrong('tls_key', 'does not belong to the certificate of tls_cert')
  return { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) }
}
