// A self-signed certificate, made once a process by openssl.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface Certificate {
  key: string
  cert: string
}

const made = new Map<string, Certificate>()

/** For this name, and for 127.0.0.1 unless told otherwise. Its own authority. */
export function certificate(name = 'mail.example', addresses = ['127.0.0.1']): Certificate {
  const id = [name, ...addresses].join()
  const known = made.get(id)
  if (known) return known
  const folder = mkdtempSync(join(tmpdir(), 'certificate-'))
  const [key, cert] = [join(folder, 'key'), join(folder, 'cert')]
  const names = [`DNS:${name}`, ...addresses.map((address) => `IP:${address}`)].join()
  const options = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2']
  const files = ['-keyout', key, '-out', cert, '-subj', `/CN=${name}`, '-addext', `subjectAltName=${names}`]
  execFileSync('openssl', ['req', '-x509', ...options, ...files], { stdio: 'ignore' })
  const pair = { key: readFileSync(key, 'utf8'), cert: readFileSync(cert, 'utf8') }
  rmSync(folder, { recursive: true })
  made.set(id, pair)
  return pair
}

/** A private authority and a certificate for `name` and 127.0.0.1 that it signed. */
export function privateAuthority(name = 'mail.example'): Certificate & { ca: string } {
  const folder = mkdtempSync(join(tmpdir(), 'authority-'))
  const file = (of: string) => join(folder, of)
  const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: 'ignore' })
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  const ca = [
    '-keyout',
    file('ca.key'),
    '-out',
    file('ca.pem'),
    '-subj',
    '/CN=A private authority',
    '-days',
    '2',
  ]
  openssl('req', '-x509', ...newKey, ...ca)
  openssl('req', ...newKey, '-keyout', file('key'), '-out', file('request'), '-subj', `/CN=${name}`)
  writeFileSync(file('names'), `subjectAltName=DNS:${name},IP:127.0.0.1\n`)
  const by = ['-CA', file('ca.pem'), '-CAkey', file('ca.key'), '-CAcreateserial', '-days', '2']
  openssl('x509', '-req', '-in', file('request'), ...by, '-extfile', file('names'), '-out', file('cert'))
  const read = (of: string) => readFileSync(file(of), 'utf8')
  const made = { key: read('key'), cert: read('cert'), ca: read('ca.pem') }
  rmSync(folder, { recursive: true })
  return made
}
