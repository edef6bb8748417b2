// What `npm start` and `npm run demo` share: a Haraka with the packed bundle, and the mail servers around it, all on loopback.
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { makeHash } from '../plugins/auth/passwords'
import { type Haraka, installHaraka, startHaraka } from '../test/support/haraka'
import { freePort } from '../test/support/ports'
import { type Sink, type SinkOptions, startSink } from '../test/support/sink'

/** Who connects from which address: all of 127.0.0.0/8 is this machine. */
export const from = {
  stranger: '127.0.0.1',
  branch: '127.0.10.1',
  guest: '127.0.20.1',
  spammer: '127.0.30.1',
  flood: '127.0.40.1',
}
export const networks = { branch: '127.0.10.0/24', guest: '127.0.20.0/24' }
export const user = { name: 'alice', password: 'wonderland', address: 'alice@example.com' }

/** A mail server that is not ours to guard: a next hop, or all the rest of the Internet. */
export interface Server {
  name: string
  what: string
  sink: Sink
}

export interface World {
  port: number
  /** Haraka's directory, as `haraka -i` makes it. */
  dir: string
  haraka: Haraka
  /** The same bundle on a disk with less free than overload.ini asks for; only for the story. */
  full: Haraka | undefined
  servers: { first: Server; second: Server; lmtp: Server; internet: Server }
  /** Ends all and removes what was written. */
  close(): Promise<void>
}

const knows = (...known: string[]): SinkOptions => ({
  respond: (stage, argument) => {
    const address = /<(.*?)>/.exec(argument)?.[1] ?? ''
    const unknown = stage === 'rcpt' && !known.includes(address.toLowerCase())
    return unknown ? `550 5.1.1 <${address}>: no such user here` : undefined
  },
})

async function startServers(): Promise<World['servers']> {
  const office = knows('anna@example.com', 'boss@example.com', user.address, 'postmaster@example.com')
  const club = knows('carol@example.org', 'postmaster@example.org')
  const start = async (name: string, what: string, options: SinkOptions): Promise<Server> => ({
    name,
    what,
    sink: await startSink({ ...options, name: `${name.toLowerCase()}.example` }),
  })
  return {
    first: await start('mx1', 'knows anna, boss and alice', office),
    second: await start('mx2', 'the same, for when mx1 is down', office),
    lmtp: await start('lmtp', 'knows carol', { ...club, lmtp: true }),
    internet: await start('Internet', 'all other domains, knows everybody', {}),
  }
}

async function iniFiles({
  first,
  second,
  lmtp,
  internet,
}: World['servers']): Promise<Record<string, string>> {
  return {
    'relay-guard/acl.ini': `[relay]
${networks.branch} = branch office
${networks.guest} = guest network

[never]
${networks.guest} = guest network

[reject]
${from.spammer} = known spammer
`,
    'relay-guard/auth.ini': `[main]
plaintext_allowed[] = 127.0.0.0/8

[users]
${user.name} = ${await makeHash(user.password)}
`,
    'relay-guard/domains.ini': `[main]
smarthost = ${internet.sink.address()}

[example.com]
next_hop = ${first.sink.address()}, ${second.sink.address()}

[example.org]
next_hop = ${lmtp.sink.address()}
`,
    'relay-guard/limits.ini': `[connections per ip]
limit = 30/1m
`,
    'relay-guard/redis.ini': `[redis]
enabled = false
`,
  }
}

/** A disk that nobody has: what is free is always less. */
const MORE_THAN_ANY = '8000000G'

/** How busy this machine is decides nothing in the demo. */
const overloadIni = (disk: string): string => `[disk]
${disk}

[load]
max_delay = off
max_memory = off
`

/** This port on 127.0.0.1, or the next one that nobody uses. */
async function portFrom(port: number): Promise<number> {
  for (let next = port; next < port + 100; next++) if (await isFree('127.0.0.1', next)) return next
  return freePort()
}

const isFree = (host: string, port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const server = createServer().once('error', () => resolve(false))
    server.listen(port, host, () => server.close(() => resolve(true)))
  })

/** Throws Error where this machine lacks the addresses (macOS gives loopback only one). */
async function needAddresses() {
  for (const address of Object.values(from)) {
    if (!(await isFree(address, 0)))
      throw new Error(`${address} is not an address of this machine: sudo ifconfig lo0 alias ${address}`)
  }
}

/**
 * Starts everything, in one new directory under the system's own for temporary files. Haraka listens on `wanted`, or
 * the next free port. Rejects where something does not start.
 */
export async function startWorld(wanted?: number): Promise<World> {
  await needAddresses()
  const directory = mkdtempSync(join(tmpdir(), 'relay-guard-demo-'))
  // Whatever the pieces write goes there, too, and with it.
  process.env['TMPDIR'] = directory
  const clean = () => rmSync(directory, { recursive: true, force: true, maxRetries: 3 })
  process.once('exit', clean)
  await installHaraka()
  const servers = await startServers()
  const port = wanted === undefined ? await freePort() : await portFrom(wanted)
  const files = { me: 'mx.example.com\n', ...(await iniFiles(servers)) }
  const plugins = ['acl', 'auth', 'domains', 'limits', 'overload'].map((name) => `relay-guard/${name}`)
  const start = (listen: string, disk: string) =>
    startHaraka({ plugins, listen, files: { ...files, 'relay-guard/overload.ini': overloadIni(disk) } })
  const [haraka, full] = await Promise.all([
    start(`127.0.0.1:${port}`, 'min_free = off\nmin_free_inodes = off'),
    wanted === undefined ? start(`127.0.0.1:${await freePort()}`, `min_free = ${MORE_THAN_ANY}`) : undefined,
  ])
  return {
    port,
    dir: haraka.dir,
    haraka,
    full,
    servers,
    close: async () => {
      await Promise.all([haraka.stop(), full?.stop()])
      await Promise.all(Object.values(servers).map(({ sink }) => sink.close()))
      clean()
    },
  }
}
