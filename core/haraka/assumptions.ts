// Every assumption about Haraka's insides, as one list. None of these is promised by Haraka; each was read in its
// source, and is tried before the first connection. What needs a connection is tried on one without a network socket.

import { Server } from 'node:net'
import { plain } from './address'
import { type Assumption, file, hooks, methods, prototype, values } from './presence'
import { DSN } from './reply'
import {
  addressClass,
  isSetThroughPrototype,
  silent,
  throws,
  tryConnection,
  tryDenial,
  tryLogin,
  tryMailPort,
  tryTransaction,
} from './trials'
import type { HarakaInsides } from './types'

const item = file('outbound', 'HMailItem.prototype')
const CODES = ['CONT', 'STOP', 'OK', 'NEXT_HOOK', 'DENY', 'DENYSOFT', 'DENYDISCONNECT', 'DENYSOFTDISCONNECT']
const alice = Buffer.from('alice').toString('base64')

export const assumptions: Assumption[] = [
  ...CODES.map((code) => ({
    where: 'plugins.js',
    fault: `the global object has no number "${code}"`,
    holds: () => typeof Reflect.get(globalThis, code) === 'number',
  })),
  ...methods('plugins.js', 'a plugin', ({ plugin }) => plugin, 'register_hook'),
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
  {
    where: 'connection.js',
    fault: 'cmd_mail() on port 587 does not read "relaying" first, to see whether the client has logged in',
    holds: (haraka) => tryMailPort(haraka, true) && !tryMailPort(haraka, false),
  },
  ...methods(
    'connection.js',
    'Connection.prototype',
    prototype,
    'auth_results respond reset_transaction disconnect loginfo lognotice logwarn logerror logcrit',
  ),
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
    'rcpt_count.accept': 'number',
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
  ...methods('outbound/index.js', 'outbound', file('outbound'), 'send_trans_email'),
  ...methods(
    'outbound/hmail.js',
    'HMailItem.prototype',
    item,
    'found_mx data_stream split_to_new_recipients delivered temp_fail bounce discard lognotice logerror',
  ),
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
  ...Object.entries({ PLAIN: 'auth_plain_asked_login', 'CRAM-MD5': 'auth_ticket' }).map(([method, note]) => ({
    where: 'plugins/auth/auth_base.js',
    fault: `AUTH ${method} does not leave the notes that we read and clear`,
    holds: (haraka: HarakaInsides) => Boolean(tryLogin(haraka, method, ['AUTH', method])[note]),
  })),
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
