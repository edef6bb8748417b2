// PEM files that an ini file names. They are read with the configuration, so that a new certificate is in force by itself,
// and a broken one is told before it is.
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { ValueError } from '../text'
import type { Reading } from './reading'

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g

/** The certificates in a PEM file, as one text. Throws ValueError where there is none, or one cannot be read. */
export function readCertificates(open: Reading['open'], path: string): string {
  const certificates = read(open, path).match(CERTIFICATE) ?? []
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

/** The private key in a PEM file. Throws ValueError where there is none, or it has a passphrase. */
export function readPrivateKey(open: Reading['open'], path: string): string {
  const pem = read(open, path)
  try {
    createPrivateKey(pem)
    return pem
  } catch {
    throw new ValueError('holds no private key in PEM that can be read without a passphrase')
  }
}

function read(open: Reading['open'], path: string): string {
  try {
    return open(path).toString('latin1')
  } catch (error) {
    throw new ValueError((error as Error).message)
  }
}
