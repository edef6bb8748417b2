// A self-signed certificate, made once a process by openssl.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
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
