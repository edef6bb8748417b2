// The world of the end-to-end tests: three domains of ours, their next hops, and a smarthost that stands for the
// whole internet, so that whatever relays is seen. Nothing in it needs DNS.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Sink, startSink } from './sink'
import { SmtpClient } from './smtp-client'

/** Who connects, and from where. The ranges are those of `files` below. */
export const kinds = {
  stranger: { ip: '127.10.0.1', mayRelay: false },
  never: { ip: '127.20.0.1', mayRelay: false },
  'never, logged in': { ip: '127.20.0.2', mayRelay: false, login: 'ann@alpha.test' },
  relay: { ip: '127.30.0.1', mayRelay: true },
  user: { ip: '127.40.0.1', mayRelay: true, login: 'ann@alpha.test' },
  'user over TLS': { ip: '127.50.0.1', mayRelay: true, login: 'ann@alpha.test', tls: true },
} satisfies Record<string, { ip: string; mayRelay: boolean; login?: string; tls?: boolean }>

export type Kind = keyof typeof kinds
export const kindNames = Object.keys(kinds) as Kind[]

export const password = 'correct horse'

export interface World {
  /** Next hop of alpha.test and what is under it, beta.test and bücher.test. */
  smtp: Sink
  /** Next hop of gamma.test: LMTP over a Unix socket. */
  lmtp: Sink
  /** The smarthost: all that is relayed arrives here. */
  internet: Sink
  /** Haraka's config files for it. */
  files: Record<string, string>
  close(): Promise<void>
}

/** What the next hops know: every mailbox but this one. */
export const unknownUser = 'nobody'

const acl = `[never]
127.20.0.0/16 = never
[relay]
127.30.0.0/16 = branch
127.20.0.0/15 = wider than the never range, and weaker
`

const auth = `[main]
require_tls = true
plaintext_allowed[] = 127.20.0.0/16
plaintext_allowed[] = 127.40.0.0/16
plaintext_allowed[] = 127.0.0.1
sender = address
[senders]
eve = eve@beta.test, @gamma.test
`

const flatFile = `[core]
methods=PLAIN,LOGIN
[users]
ann@alpha.test=${password}
bob=${password}
eve=${password}
`

function domains(smtp: Sink, lmtp: Sink, internet: Sink): string {
  const section = (name: string, nextHop: string, rest = '') =>
    `[${name}]\nnext_hop = ${nextHop}\ntls = none\ntimeout = 5s\n${rest}`
  return [
    `[main]\nanti_spoof = reject\nanti_spoof_from = off\nsmarthost = ${internet.address()}\n`,
    section('alpha.test', smtp.address(), 'subdomains = true\n'),
    section('beta.test', smtp.address()),
    section('xn--bcher-kva.test', smtp.address()),
    section('gamma.test', `lmtp:unix:${lmtp.path}`),
  ].join('')
}

/** Starts the three next hops. `close` also removes the directory of the socket. */
export async function startWorld(): Promise<World> {
  const directory = mkdtempSync(join(tmpdir(), 'relay-guard-world-'))
  const respond = (stage: string, argument: string) =>
    stage === 'rcpt' && argument.toLowerCase().includes(unknownUser) ? '550 5.1.1 No such mailbox' : undefined
  const smtp = await startSink({ respond })
  const lmtp = await startSink({ lmtp: true, path: join(directory, 'lmtp'), respond })
  const internet = await startSink({})
  return {
    smtp,
    lmtp,
    internet,
    files: {
      'relay-guard/acl.ini': acl,
      'relay-guard/auth.ini': auth,
      'relay-guard/domains.ini': domains(smtp, lmtp, internet),
      'auth_flat_file.ini': flatFile,
      host_list: 'listed.test\n',
      'relay.ini': '[relay]\nacl=false\nforce_routing=false\ndest_domains=true\n',
      'relay_dest_domains.ini': '[domains]\npartner.example={"action":"accept"}\n',
    },
    async close() {
      await Promise.all([smtp.close(), lmtp.close(), internet.close()])
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

/** A session of this kind of client, ready for MAIL. */
export async function connectAs(kind: Kind, port: number): Promise<SmtpClient> {
  const who: { ip: string; login?: string; tls?: boolean } = kinds[kind]
  const client = await SmtpClient.connect({ port, from: who.ip })
  await client.ehlo()
  if (who.tls) await client.startTls()
  if (!who.login) return client
  const reply = await client.authPlain(who.login, password)
  if (reply.code !== 235) throw new Error(`${kind} could not log in: ${reply.lines.join(' ')}`)
  return client
}
