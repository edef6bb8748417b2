// How Haraka is tried before the first connection: on objects that no client made, and with nothing left behind.

import type { Connection, HarakaAddress, HarakaInsides, Transaction } from '../types'
import { prototype } from './presence'

/** Whether a call throws. */
export function throws(call: () => void): boolean {
  try {
    call()
    return false
  } catch {
    return true
  }
}

/** Log methods that write nothing. */
export const silent = {
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
export function tryConnection(haraka: HarakaInsides): Trial {
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
export function tryTransaction(haraka: HarakaInsides): { connection: Trial; transaction: Transaction } {
  const connection = tryConnection(haraka)
  connection.init_transaction(() => undefined)
  const transaction = connection.transaction as Transaction & { resetting: boolean }
  transaction.resetting = true
  return { connection, transaction }
}

/** Whether a new Connection sets `name` through an accessor on the prototype, as no class field would. */
export function isSetThroughPrototype(haraka: HarakaInsides, name: string): boolean {
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
export function tryDenial(haraka: HarakaInsides, code: number): { given: unknown[]; replied: unknown[] } {
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
export function addressClass(haraka: HarakaInsides): AddressClass {
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
export function tryLogin(haraka: HarakaInsides, method: string, ...lines: string[][]): Connection['notes'] {
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

/** Whether cmd_mail() on a submission port goes on where its first read of `relaying` says `answer`, and each other one no. */
export function tryMailPort(haraka: HarakaInsides, answer: boolean): boolean {
  const connection = Object.assign(tryConnection(haraka), { hello: { host: 'a.example', verb: 'EHLO' } })
  connection.local.port = 587
  const reads: boolean[] = []
  Object.defineProperty(connection, 'relaying', { get: () => reads.push(answer) === 1 && answer })
  // An address that cannot be read: core answers it with 501 before a transaction begins.
  const { cmd_mail } = prototype(haraka) as { cmd_mail(line: string): void }
  cmd_mail.call(connection, 'FROM:<@>')
  return reads.length > 0 && /^501 /.test(connection.said)
}
