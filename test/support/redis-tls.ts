// Redis and a sentinel that speak TLS only, with an authority of their own, client certificates and passwords.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort } from './ports'

/** Paths of PEM files: an authority, and what it has signed for a server and for a client; a stranger's authority. */
export interface Certificates {
  folder: string
  ca: string
  server: { cert: string; key: string }
  client: { cert: string; key: string }
  otherCa: string
  remove(): void
}

/** Makes them by openssl, for 127.0.0.1 and localhost. */
export function makeCertificates(): Certificates {
  const folder = mkdtempSync(join(tmpdir(), 'redis-tls-'))
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: folder, stdio: 'ignore' })
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  for (const name of ['ca', 'other'])
    openssl(
      'req',
      '-x509',
      ...key,
      '-days',
      '2',
      '-keyout',
      `${name}.key`,
      '-out',
      `${name}.pem`,
      '-subj',
      `/CN=${name}`,
    )
  writeFileSync(join(folder, 'names'), 'subjectAltName=IP:127.0.0.1,DNS:localhost\n')
  const signed = (name: string) => {
    openssl('req', ...key, '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${name}`)
    const authority = [
      '-CA',
      'ca.pem',
      '-CAkey',
      'ca.key',
      '-CAcreateserial',
      '-days',
      '2',
      '-extfile',
      'names',
    ]
    openssl('x509', '-req', '-in', `${name}.csr`, ...authority, '-out', `${name}.pem`)
    return { cert: join(folder, `${name}.pem`), key: join(folder, `${name}.key`) }
  }
  return {
    folder,
    ca: join(folder, 'ca.pem'),
    otherCa: join(folder, 'other.pem'),
    server: signed('server'),
    client: signed('client'),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  }
}

export const PASSWORD = 'redis secret'
export const SENTINEL_PASSWORD = 'sentinel secret'

export interface TlsServer {
  port: number
  stop(): Promise<void>
}

const running = new Set<ChildProcess>()
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

/** Starts it; it takes a moment until it answers. `master`: the port that a sentinel watches; without one, a Redis. */
export async function startTls(certificates: Certificates, master?: number): Promise<TlsServer> {
  const port = await freePort()
  const { ca, server } = certificates
  const folder = mkdtempSync(join(certificates.folder, 'server-'))
  const lines = [
    'port 0',
    `tls-port ${port}`,
    'bind 127.0.0.1',
    `dir ${folder}`,
    `tls-ca-cert-file ${ca}`,
    `tls-cert-file ${server.cert}`,
    `tls-key-file ${server.key}`,
    'tls-auth-clients yes',
    'tls-replication yes',
    `requirepass "${master ? SENTINEL_PASSWORD : PASSWORD}"`,
    ...(master
      ? [`sentinel monitor mymaster 127.0.0.1 ${master} 1`, `sentinel auth-pass mymaster "${PASSWORD}"`]
      : ['save ""']),
  ]
  const file = join(folder, 'redis.conf')
  writeFileSync(file, `${lines.join('\n')}\n`)
  const args = master ? [file, '--sentinel'] : [file]
  const child = spawn('redis-server', [...args, '--logfile', join(folder, 'log')], { stdio: 'ignore' })
  child.unref()
  running.add(child)
  const stop = async () => {
    child.ref()
    const gone = child.exitCode === null ? once(child, 'exit') : undefined
    child.kill('SIGKILL')
    await gone
    running.delete(child)
  }
  child.once('exit', (code) => {
    if (code !== null) console.error(readFileSync(join(folder, 'log'), 'utf8'))
  })
  return { port, stop }
}
