// Every assumption about Haraka's insides, as one list. None of these is promised by Haraka; each was read in its
// source, and is tried before the first connection. What needs a connection is tried on one without a network socket.

import { Server } from 'node:net'
import { HOOK_ORDER } from '../hook-order'
import { plain } from './address'
import { DSN } from './reply'
import type { Connection, HarakaAddress, HarakaInsides, Transaction } from './types'

export interface Assumption {
  /** Haraka's file that it is about. */
  where: string
  /** What is wrong where it does not hold, as the end of a sentence. */
  fault: string
  /** False, or an Error, where it does not hold. */
  holds(haraka: HarakaInsides): boolean
}

/** A property deep inside of what another program gave; undefined where any step is missing. */
function at(value: unknown, path: string): unknown {
  return path
    .split('.')
    .reduce((inner: unknown, key) => (inner as Record<string, unknown> | null)?.[key], value)
}

type Find = (haraka: HarakaInsides) => unknown
const file =
  (name: string, path?: string): Find =>
  (haraka) =>
    path ? at(haraka.file(name), path) : haraka.file(name)

const prototype = file('connection', 'Connection.prototype')

/** One assumption for each name: `of` has a method of that name. */
const methods = (where: string, what: string, of: Find, names: string[]): Assumption[] =>
  names.map((name) => ({
    where,
    fault: `${what} has no method "${name}"`,
    holds: (haraka) => typeof at(of(haraka), name) === 'function',
  }))

/** Where Haraka runs a hook: all others belong to a connection. */
const HOOKS_ELSEWHERE: Record<string, [where: string, of: Find]> = {
  get_mx: ['outbound/hmail.js', file('outbound', 'HMailItem.prototype')],
  bounce: ['outbound/hmail.js', file('outbound', 'HMailItem.prototype')],
  init_master: ['server.js', file('server')],
  init_child: ['server.js', file('server')],
}

/** One assumption for each hook of ours: Haraka calls `HOOK_respond` after it. `deny` has none, and is tried below. */
const hooks: Assumption[] = [...new Set(HOOK_ORDER.map(({ hook }) => hook))]
  .filter((hook) => hook !== 'deny')
  .map((hook) => {
    const [where, of] = HOOKS_ELSEWHERE[hook] ?? ['connection.js', prototype]
    return {
      where,
      fault: `there is no hook ${hook}`,
      holds: (haraka) => typeof at(of(haraka), `${hook}_respond`) === 'function',
    }
  })

/** One assumption for each path: what stands there is of this type ("array" for arrays). */
const values = (where: string, what: string, of: Find, types: Record<string, string>): Assumption[] =>
  Object.entries(types).map(([path, type]) => ({
    where,
    fault: `${what} has no ${type} "${path}"`,
    holds: (haraka) => {
      const value = at(of(haraka), path)
      return Array.isArray(value) ? type === 'array' : typeof value === type
    },
  }))

const item = file('outbound', 'HMailItem.prototype')

function throws(call: () => void): boolean {
  try {
    call()
    return false
  } catch {
    return true
  }
}

const silent = {
  logdebug: () => undefined,
  logprotocol: () => undefined,
  loginfo: () => undefined,
  lognotice: () => undefined,
  logcrit: () => undefined,
}

type Trial = Connection & {
  init_transaction(done: () => void): void
  rcpt_incr(recipient: unknown, action: string): void
  queue_respond(code: number, message: string): void
  said: string
}

/** A connection that no client made: without an address Haraka runs no hook for it and logs nothing. */
function tryConnection(haraka: HarakaInsides): Trial {
  const { createConnection } = haraka.file('connection') as {
    createConnection(socket: object, server: object, config: object): Trial
  }
  const write = (text: string) => {
    connection.said += text
  }
  const socket = { destroy: () => undefined, pause: () => undefined, resume: () => undefined, write }
  const connection = createConnection(socket, { has_tls: false, address: () => ({}) }, {})
  // Nothing is left to do afterwards: respond() would look for further commands.
  return Object.assign(connection, silent, { said: '', _process_data: () => undefined })
}

/** The same inside a transaction that no reset_transaction hook will see. */
function tryTransaction(haraka: HarakaInsides): { connection: Trial; transaction: Transaction } {
  const connection = tryConnection(haraka)
  connection.init_transaction(() => undefined)
  const transaction = connection.transaction as Transaction & { resetting: boolean }
  transaction.resetting = true
  return { connection, transaction }
}

/** Whether a new Connection sets `name` through an accessor on the prototype, as no class field would. */
function isSetThroughPrototype(haraka: HarakaInsides, name: string): boolean {
  const target = prototype(haraka) as object
  const before = Object.getOwnPropertyDescriptor(target, name)
  Object.defineProperty(target, name, { configurable: true, get: () => false, set: () => undefined })
  try {
    return !Object.hasOwn(tryConnection(haraka), name)
  } finally {
    if (before) Object.defineProperty(target, name, before)
    else Reflect.deleteProperty(target, name)
  }
}

interface HookRunner {
  registered_hooks: Record<string, unknown>
  registered_plugins: Record<string, unknown>
  run_next_hook(hook: string, object: object): void
}

/** Refuses in a hook of no connection, answers the `deny` hook with `code`, and tells what that hook got and what was replied. */
function tryDenial(haraka: HarakaInsides, code: number): { given: unknown[]; replied: unknown[] } {
  const plugins = haraka.file('plugins') as HookRunner
  const name = 'relay-guard/trial'
  let given: unknown[] = []
  let replied: unknown[] = []
  const plugin = {
    name,
    refuse: (next: (code: number, message: string) => void) => next(DENY, 'no'),
    overrule: (next: (code: number) => void, _object: unknown, params: unknown[]) => {
      given = params
      next(code)
    },
  }
  const object = {
    ...silent,
    hooks_to_run: [[plugin, 'refuse']],
    trial_respond: (...reply: unknown[]) => {
      replied = reply
    },
  }
  const { deny } = plugins.registered_hooks
  plugins.registered_hooks['deny'] = [{ plugin: name, method: 'overrule' }]
  plugins.registered_plugins[name] = plugin
  try {
    plugins.run_next_hook('trial', object)
    return { given, replied }
  } finally {
    if (deny) plugins.registered_hooks['deny'] = deny
    else delete plugins.registered_hooks['deny']
    delete plugins.registered_plugins[name]
  }
}

type AddressClass = new (path: string) => HarakaAddress

/** The class of envelope addresses: 3.2 has one of its own, which wraps that of the package. */
function addressClass(haraka: HarakaInsides): AddressClass {
  try {
    return (haraka.file('address') as { Address: AddressClass }).Address
  } catch {
    return (haraka.package('@haraka/email-address') as { Address: AddressClass }).Address
  }
}

interface AuthBase {
  [method: string]: unknown
  hook_unrecognized_command(next: () => void, connection: Connection, params: string[]): void
}

/** The notes after these lines of a client; every password is right. */
function tryLogin(haraka: HarakaInsides, method: string, ...lines: string[][]): Connection['notes'] {
  const base = haraka.file('plugins/auth/auth_base') as AuthBase
  const right = (_connection: unknown, _user: string, _password: string, done: (valid: boolean) => void) =>
    done(true)
  const plugin = { ...base, ...silent, name: 'trial', check_plain_passwd: right, blankout_password: true }
  const connection = tryConnection(haraka)
  connection.notes['allowed_auth_methods'] = [method]
  for (const line of lines)
    base.hook_unrecognized_command.call(plugin as AuthBase, () => undefined, connection, line)
  return connection.notes
}

const alice = Buffer.from('alice').toString('base64')

export const assumptions: Assumption[] = [
  ...values('plugins.js', 'the global object', () => globalThis, {
    CONT: 'number',
    STOP: 'number',
    OK: 'number',
    NEXT_HOOK: 'number',
    DENY: 'number',
    DENYSOFT: 'number',
    DENYDISCONNECT: 'number',
    DENYSOFTDISCONNECT: 'number',
  }),
  ...methods('plugins.js', 'a plugin', ({ plugin }) => plugin, ['register_hook', 'inherits']),
  ...values('plugins.js', 'a plugin', ({ plugin }) => plugin, { name: 'string', 'config.get': 'function' }),
  {
    where: 'plugins.js',
    fault: 'the deny hook is not given code, reply, plugin, method, parameters and hook',
    holds: (haraka) =>
      tryDenial(haraka, CONT).given.slice(0, 4).join() === `${DENY},no,relay-guard/trial,refuse`,
  },
  {
    where: 'plugins.js',
    fault: 'STOP in the deny hook does not leave a denial as it was',
    holds: (haraka) => tryDenial(haraka, STOP).replied[0] === DENY,
  },
  {
    where: 'plugins.js',
    fault: 'OK in the deny hook does not lift a denial',
    holds: (haraka) => tryDenial(haraka, OK).replied[0] === CONT,
  },

  {
    where: 'connection.js',
    fault: 'Connection.prototype has no accessor "relaying"',
    holds: (haraka) => {
      const accessor = Object.getOwnPropertyDescriptor(prototype(haraka), 'relaying')
      return typeof accessor?.get === 'function' && typeof accessor.set === 'function'
    },
  },
  ...['relaying', 'errors'].map((name) => ({
    where: 'connection.js',
    fault: `a Connection has a property "${name}" of its own, which hides ours`,
    holds: (haraka: HarakaInsides) => isSetThroughPrototype(haraka, name),
  })),
  ...methods('connection.js', 'Connection.prototype', prototype, [
    'respond',
    'reset_transaction',
    'disconnect',
    'loginfo',
    'lognotice',
    'logwarn',
    'logerror',
    'logcrit',
  ]),
  ...hooks,
  ...values('connection.js', 'a Connection', tryConnection, {
    uuid: 'string',
    tran_count: 'number',
    errors: 'number',
    'remote.closed': 'boolean',
    'remote.is_private': 'boolean',
    'local.host': 'string',
    hello: 'object',
    'tls.enabled': 'boolean',
    'proxy.allowed': 'boolean',
    notes: 'object',
    'results.add': 'function',
    'results.get': 'function',
  }),
  {
    where: 'connection.js',
    fault: 'respond() does not take code and text from an object of a class DSN',
    holds: (haraka) => {
      const connection = tryConnection(haraka)
      connection.respond(550, new DSN(451, '4.3.0 later'))
      return /^451 .*4\.3\.0 later\r\n$/.test(connection.said)
    },
  },
  {
    where: 'connection.js',
    fault: "a transaction's uuid does not begin with its connection's",
    holds: (haraka) => {
      const { connection, transaction } = tryTransaction(haraka)
      return transaction.uuid.startsWith(`${connection.uuid}.`)
    },
  },
  {
    where: 'connection.js',
    fault: 'accepted recipients are not counted in "rcpt_count"',
    holds: (haraka) => {
      const { connection } = tryTransaction(haraka)
      connection.rcpt_incr({ format: () => '<a@b.example>' }, 'accept')
      const { accept, tempfail, reject } = connection.rcpt_count
      return accept === 1 && tempfail === 0 && reject === 0
    },
  },
  {
    where: 'connection.js',
    fault: 'a refused message does not get the "msg_status" rejected',
    holds: (haraka) => {
      const { connection, transaction } = tryTransaction(haraka)
      connection.queue_respond(DENY, 'no')
      return transaction.msg_status === 'rejected'
    },
  },

  ...values('transaction.js', 'a Transaction', (haraka) => tryTransaction(haraka).transaction, {
    rcpt_to: 'array',
    data_bytes: 'number',
    'notes.skip_plugins': 'array',
    'results.add': 'function',
    'message_stream.pipe': 'function',
    'message_stream.headers': 'array',
    'header.lines': 'function',
    header_lines: 'array',
    header_pos: 'number',
    add_data: 'function',
    end_data: 'function',
    add_header: 'function',
    add_leading_header: 'function',
    remove_header: 'function',
  }),

  {
    where: 'transaction.js',
    fault: 'the message does not leave with the lines given to add_data',
    holds: (haraka) => {
      const { transaction } = tryTransaction(haraka)
      transaction.add_data(Buffer.from('X: ..y\r\n'))
      transaction.add_data(Buffer.from('\r\n'))
      return transaction.header_pos > 0 && transaction.message_stream.headers.join('') === 'X: ..y\n'
    },
  },

  ...methods('outbound/index.js', 'outbound', file('outbound'), ['send_trans_email']),
  ...methods('outbound/hmail.js', 'HMailItem.prototype', item, [
    'found_mx',
    'data_stream',
    'split_to_new_recipients',
    'delivered',
    'temp_fail',
    'bounce',
    'discard',
    'lognotice',
    'logerror',
  ]),
  {
    where: 'outbound/hmail.js',
    fault: 'an answer to get_mx does not reach the "found_mx" of the queued message',
    holds: (haraka) => {
      let hosts: unknown
      const mail = {
        ...silent,
        todo: { domain: 'a.example' },
        found_mx: (found: unknown) => {
          hosts = found
        },
      }
      const { get_mx_respond } = item(haraka) as { get_mx_respond(code: number, mx: object): Promise<void> }
      void get_mx_respond.call(mail, OK, { exchange: 'a.example', priority: 0 })
      return Array.isArray(hosts)
    },
  },

  ...values('server.js', 'the server', file('server'), { listeners: 'array' }),
  {
    where: 'tls_socket.js',
    fault: 'createServer() makes no net.Server with a listener for connections',
    holds: (haraka) => {
      const { createServer } = haraka.file('tls_socket') as { createServer(accept: () => void): Server }
      const server = createServer(() => undefined)
      return server instanceof Server && server.listenerCount('connection') === 1
    },
  },

  {
    where: 'plugins/auth/auth_base.js',
    fault: 'AUTH LOGIN does not leave the notes that we read and clear',
    holds: (haraka) => {
      const notes = tryLogin(haraka, 'LOGIN', ['AUTH', 'LOGIN'], [alice])
      return (
        notes.authenticating === true &&
        notes['auth_method'] === 'LOGIN' &&
        notes['auth_login_asked_login'] === true &&
        notes['auth_login_userlogin'] === 'alice'
      )
    },
  },
  {
    where: 'plugins/auth/auth_base.js',
    fault: 'AUTH PLAIN does not leave the notes that we read and clear',
    holds: (haraka) => tryLogin(haraka, 'PLAIN', ['AUTH', 'PLAIN'])['auth_plain_asked_login'] === true,
  },
  {
    where: 'plugins/auth/auth_base.js',
    fault: 'AUTH CRAM-MD5 does not leave the notes that we read and clear',
    holds: (haraka) => typeof tryLogin(haraka, 'CRAM-MD5', ['AUTH', 'CRAM-MD5'])['auth_ticket'] === 'string',
  },
  {
    where: 'plugins/auth/auth_base.js',
    fault: 'a login does not set the note "auth_user", or keeps the password',
    holds: (haraka) => {
      const words = Buffer.from('\0alice\0secret').toString('base64')
      const notes = tryLogin(haraka, 'PLAIN', ['AUTH', `PLAIN ${words}`])
      return notes.auth_user === 'alice' && notes['auth_passwd'] === undefined
    },
  },

  {
    where: 'address.js',
    fault: 'an envelope address does not give its values as strings',
    holds: (haraka) => {
      const Address = addressClass(haraka)
      const { host, address } = plain(new Address('<Ann@Example.org>'))
      return host === 'example.org' && address === 'Ann@Example.org' && plain(new Address('<>')).host === ''
    },
  },
  {
    where: 'package.json',
    fault: '@haraka/email-address gives an Address no string "address", or no parts',
    holds: (haraka) => {
      const { Address } = haraka.package('@haraka/email-address') as {
        Address: new (...parts: string[]) => Record<string, unknown>
      }
      const given = new Address('<Ann@Example.org>')
      const made = new Address('ann', 'example.org')
      const { user, host, original } = given
      return (
        user === 'Ann' &&
        host === 'example.org' &&
        original === '<Ann@Example.org>' &&
        made['address'] === 'ann@example.org'
      )
    },
  },
  {
    where: 'package.json',
    fault: '@haraka/email-address does not parse a From: field strictly',
    holds: (haraka) => {
      const { parseHeader } = haraka.package('@haraka/email-address') as {
        parseHeader(value: string, options: object): { user?: string; host?: string }[]
      }
      const strict = { startAt: 'from', allowAtInDisplayName: false }
      const [from] = parseHeader('Ann <ann@example.org>', strict)
      return (
        from?.user === 'ann' && from.host === 'example.org' && throws(() => parseHeader('a@b <c@d>', strict))
      )
    },
  },
]
