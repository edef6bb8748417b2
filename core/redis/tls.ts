// The PEM files of redis.ini: whom we trust, and who we are. They are read with the configuration, so that a new
// certificate is in force by itself, and a broken one is told before it is.
import { createPrivateKey, X509Certificate } from 'node:crypto'
import type { Fields } from '../ini/fields'
import type { Reading } from '../ini/reading'
import { ValueError } from '../text'
import type { TlsOptions } from './endpoint'

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g

/** Reads `tls_ca`, `tls_cert` and `tls_key`. Errors go to the reading. */
export function readTlsFiles(fields: Fields, open: Reading['open']): TlsOptions {
  const fileOf = (key: string, check: (pem: string) => string) =>
    fields.read(key, '', (path) => (path === '' ? '' : check(readPem(open, path))))
  const ca = fileOf('tls_ca', checkCertificates)
  const cert = fileOf('tls_cert', checkCertificates)
  const key = fileOf('tls_key', checkKey)
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

function readPem(open: Reading['open'], path: string): string {
  try {
    return open(path).toString('latin1')
  } catch (error) {
    throw new ValueError((error as Error).message)
  }
}

function checkCertificates(pem: string): string {
  const certificates = pem.match(CERTIFICATE) ?? []
  if (!certificates.length) throw new ValueError('holds no certificate in PEM (-----BEGIN CERTIFICATE-----)')
  for (const [index, certificate] of certificates.entries()) {
    try {
      new X509Certificate(certificate)
    } catch {
      throw new ValueError(`certificate ${index + 1} of it cannot be read`)
    }
  }
  return certificates.join('\n')
}

function checkKey(pem: string): string {
  try {
    createPrivateKey(pem)
    return pem
  } catch {
    throw new ValueError('holds no private key in PEM that can be read without a passphrase')
  }
}
