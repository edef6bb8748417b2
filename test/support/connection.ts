// Haraka's own connection and transaction without a socket, and a plugin that keeps what it logs.
import './haraka-config'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import type { Address, Connection, Plugin, Results, Transaction } from '../../core/haraka/types'
import { type HeaderParser, setHeaderParser } from '../../core/header-address'
import { harakaHome } from './install'

const haraka = (file: string): unknown => require(join(harakaHome, file))
/** A package as Haraka itself loads it. */
export const harakaPackage = createRequire(join(harakaHome, 'haraka.js'))

interface Client {
  remoteAddress: string
  remotePort: number
  localAddress: string
  localPort: number
}

const { createConnection } = haraka('connection') as {
  createConnection(client: Client, server: object, cfg: object): TestConnection
}
const { createTransaction } = haraka('transaction') as {
  createTransaction(uuid: string, cfg: object): Transaction
}
const ResultStore = harakaPackage('haraka-results') as new (connection: Connection) => Results
const constants = harakaPackage('haraka-constants') as { import(target: object): void }
const { Address: HarakaAddress, parseHeader } = harakaPackage('@haraka/email-address') as {
  Address: new (path: string) => Address
  parseHeader: HeaderParser
}

constants.import(globalThis)
setHeaderParser(parseHeader)

export interface TestConnection extends Connection {
  /** What was logged: the level, then what was given. */
  log: unknown[][]
  begin(from?: string): Transaction
  end(): void
}

/** `path` as in MAIL and RCPT, with its angle brackets. Throws what Haraka answers 501 to. */
export const addressOf = (path: string): Address => new HarakaAddress(path)

export function connectionOf(client: Partial<Client> = {}): TestConnection {
  const socket = {
    remoteAddress: '203.0.113.9',
    remotePort: 40_000,
    localAddress: '192.0.2.10',
    localPort: 25,
    ...client,
  }
  const connection = createConnection(socket, { address: () => ({}) }, {})
  const log: unknown[][] = []
  const keep =
    (level: string) =>
    (...parts: unknown[]) =>
      void log.push([level, ...parts])
  return Object.assign(connection, {
    log,
    loginfo: keep('info'),
    lognotice: keep('notice'),
    logwarn: keep('warn'),
    logerror: keep('error'),
    logcrit: keep('crit'),
    begin(from = '<>') {
      connection.tran_count++
      const transaction = createTransaction(`${connection.uuid}.${connection.tran_count}`, {})
      transaction.mail_from = addressOf(from)
      connection.transaction = transaction
      transaction.results = new ResultStore(connection)
      return transaction
    },
    end() {
      connection.transaction = null
    },
  })
}

export function pluginOf(name = 'relay-guard/test', config: Record<string, unknown> = {}) {
  const log: string[] = []
  const say = (...parts: unknown[]) => void log.push(parts.join(' '))
  const plugin: Plugin = {
    name,
    timeout: 0,
    config: { get: (file) => config[file] },
    haraka_require: (name) => haraka(name),
    register_hook: () => undefined,
    loginfo: say,
    lognotice: say,
    logwarn: say,
    logerror: say,
    logcrit: say,
  }
  return { plugin, log }
}
