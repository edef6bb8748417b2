// What we rely on in connection.js.
import { DSN } from '../reply'
import type { HarakaInsides } from '../types'
import { type Assumption, hooks, methods, prototype, values } from './presence'
import { isSetThroughPrototype, tryConnection, tryMailPort, tryTransaction } from './trials'

/** See `assumptions`. */
export const connectionAssumptions: Assumption[] = [
  {
    where: 'config/connection.ini',
    fault:
      'there is no section [uuid], which Haraka itself reads at every refusal; add it, with deny_chars = 0',
    holds: (haraka) => {
      try {
        tryConnection(haraka).respond(550, 'no')
        return true
      } catch (error) {
        return !/deny_chars/.test((error as Error).message)
      }
    },
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
  {
    where: 'connection.js',
    fault: 'cmd_mail() on port 587 does not read "relaying" first, to see whether the client has logged in',
    holds: (haraka) => tryMailPort(haraka, true) && !tryMailPort(haraka, false),
  },
  ...methods(
    'connection.js',
    'Connection.prototype',
    prototype,
    'auth_results respond process_line reset_transaction disconnect loginfo lognotice logwarn logerror logcrit',
  ),
  ...hooks,
  {
    where: 'package.json',
    fault: 'haraka-constants has no numbers for the states DATA and DISCONNECTING of a connection',
    holds: (haraka) => {
      const { connection } = haraka.package('haraka-constants') as {
        connection: { state: Record<string, unknown> }
      }
      return ['DATA', 'DISCONNECTING'].every((name) => typeof connection.state[name] === 'number')
    },
  },
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
]
