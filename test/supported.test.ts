// Which Haraka is refused at the start, and that nothing we rely on in it can go missing unseen.
import './support/haraka-config'
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { assumptions } from '../core/haraka/assumptions'
import type { Assumption } from '../core/haraka/assumptions/presence'
import { requireSupported } from '../core/haraka/supported'
import type { Plugin } from '../core/haraka/types'
import { pluginOf } from './support/connection'

type Part = Record<string, unknown>
/** Puts something else in the place of one of Haraka's files. */
type Replace = (real: Part) => Part

const { version } = pluginOf().plugin.haraka_require('package.json') as { version: string }

/** A plugin in a Haraka of which some files are replaced. */
function pluginIn(files: Record<string, Replace>, more: Part = {}): { plugin: Plugin; log: string[] } {
  const { plugin, log } = pluginOf()
  const haraka_require = (name: string) => {
    if (!Object.hasOwn(files, name)) return plugin.haraka_require(name)
    // address.js is a file of 3.2 alone.
    return files[name]!(name === 'address' ? {} : (plugin.haraka_require(name) as Part))
  }
  return { plugin: { ...plugin, ...more, haraka_require } as Plugin, log }
}

/** What was given, but without what is at `path` in it. The real one is not touched. */
function without<T extends object>(whole: T, path: string): T {
  const [first = '', ...rest] = path.split('.')
  return new Proxy(whole, {
    get(target, key) {
      if (key !== first) return Reflect.get(target, key)
      return rest.length === 0 ? undefined : without(Reflect.get(target, key) as object, rest.join('.'))
    },
  })
}

const replaced = (files: Record<string, Replace>, more?: Part) => () => pluginIn(files, more).plugin
const lacking = (file: string, path: string) => replaced({ [file]: (real) => without(real, path) })

/** Another class in the place of Connection. */
type AnyClass = new (...given: unknown[]) => Part
const connectionClass =
  (extend: (Real: AnyClass) => AnyClass): Replace =>
  (real) => {
    const Connection = extend(real['Connection'] as AnyClass)
    return { ...real, Connection, createConnection: (...given: unknown[]) => new Connection(...given) }
  }

/** Something else in the place of each new connection, or of each new transaction. */
const connections =
  (change: (connection: Part) => Part): Replace =>
  (real) => {
    const create = real['createConnection'] as (...given: unknown[]) => Part
    return { ...real, createConnection: (...given: unknown[]) => change(create(...given)) }
  }
const transactions = (change: (transaction: Part) => Part): Replace =>
  connectionClass(
    (Real) =>
      class extends Real {
        init_transaction(done: () => void) {
          ;(Real.prototype as { init_transaction(done: () => void): void }).init_transaction.call(
            this,
            () => undefined,
          )
          this['transaction'] = change(this['transaction'] as Part)
          done()
        }
      } as AnyClass,
  )

/** Methods of auth_base that do what was there before, and then something else. */
const afterLogin = (change: (notes: Part) => void) =>
  replaced({
    'plugins/auth/auth_base': (real) => ({
      ...real,
      hook_unrecognized_command(this: unknown, next: unknown, connection: { notes: Part }, params: unknown) {
        ;(real['hook_unrecognized_command'] as (...given: unknown[]) => void).call(
          this,
          next,
          connection,
          params,
        )
        change(connection.notes)
      },
    }),
  })

const runner = (change: (deny: (...given: unknown[]) => void) => (...given: unknown[]) => void) =>
  replaced({
    plugins: (real) => ({
      ...real,
      run_next_hook(hook: string, object: Part) {
        const all = real['registered_plugins'] as Record<string, Part>
        const trial = all['relay-guard/trial']!
        trial['overrule'] = change(trial['overrule'] as (...given: unknown[]) => void)
        return (real['run_next_hook'] as (...given: unknown[]) => void)(hook, object)
      },
    }),
  })

/** What breaks each assumption that is not about a mere presence. */
const broken: Record<string, () => Plugin> = {
  'the deny hook is not given code, reply, plugin, method, parameters and hook': runner(
    (deny) => (next, object, params) => deny(next, object, (params as unknown[]).slice(1)),
  ),
  'STOP in the deny hook does not leave a denial as it was': runner(
    (deny) => (next, object, params) =>
      deny((code: number) => (next as (code: number) => void)(code === STOP ? OK : code), object, params),
  ),
  'OK in the deny hook does not lift a denial': runner(
    (deny) => (next, object, params) =>
      deny((code: number) => (next as (code: number) => void)(code === OK ? CONT : code), object, params),
  ),
  'there is no section [uuid], which Haraka itself reads at every refusal; add it, with deny_chars = 0':
    replaced({
      connection: connectionClass(
        (Real) =>
          class extends Real {
            respond() {
              throw new TypeError("Cannot read properties of undefined (reading 'deny_chars')")
            }
          },
      ),
    }),
  'Connection.prototype has no accessor "relaying"': replaced({
    connection: (real) => ({ ...real, Connection: class Connection {} }),
  }),
  'a Connection has a property "relaying" of its own, which hides ours': replaced({
    connection: connectionClass(
      (Real) =>
        class extends Real {
          relaying = false
        },
    ),
  }),
  'a Connection has a property "errors" of its own, which hides ours': replaced({
    connection: connectionClass(
      (Real) =>
        class extends Real {
          errors = 0
        },
    ),
  }),
  'cmd_mail() on port 587 does not read "relaying" first, to see whether the client has logged in': replaced({
    connection: connectionClass(
      (Real) =>
        class extends Real {
          cmd_mail(this: Part) {
            void this['relaying']
            ;(Real.prototype as { cmd_mail(line: string): void }).cmd_mail.call(this, 'FROM:<@>')
          }
        },
    ),
  }),
  'respond() does not take code and text from an object of a class DSN': replaced({
    connection: connections((connection) =>
      Object.assign(connection, {
        respond: (code: number, text: unknown) => (connection['said'] = `${code} ${text}\r\n`),
      }),
    ),
  }),
  "a transaction's uuid does not begin with its connection's": replaced({
    connection: transactions((transaction) => Object.assign(transaction, { uuid: 'other.1' })),
  }),
  'accepted recipients are not counted in "rcpt_count"': replaced({
    connection: connections((connection) => Object.assign(connection, { rcpt_incr: () => undefined })),
  }),
  'a refused message does not get the "msg_status" rejected': replaced({
    connection: connections((connection) => Object.assign(connection, { queue_respond: () => undefined })),
  }),
  'an answer to get_mx does not reach the "found_mx" of the queued message': replaced({
    outbound: () => ({
      HMailItem: class {
        async get_mx_respond() {}
      },
    }),
  }),
  'createServer() makes no net.Server with a listener for connections': replaced({
    tls_socket: () => ({ createServer: () => ({ listenerCount: () => 1 }) }),
  }),
  'AUTH LOGIN does not leave the notes that we read and clear': afterLogin((notes) => {
    delete notes['auth_login_asked_login']
  }),
  'AUTH PLAIN does not leave the notes that we read and clear': afterLogin((notes) => {
    delete notes['auth_plain_asked_login']
  }),
  'AUTH CRAM-MD5 does not leave the notes that we read and clear': afterLogin((notes) => {
    delete notes['auth_ticket']
  }),
  'a login does not set the note "auth_user", or keeps the password': afterLogin((notes) => {
    notes['auth_passwd'] = 'secret'
  }),
  'the message does not leave with the lines given to add_data': replaced({
    connection: transactions((transaction) => Object.assign(transaction, { add_data: () => undefined })),
  }),
  'an envelope address does not give its values as strings': replaced({
    address: () => ({
      Address: class {
        host = () => 'example.org'
      },
    }),
  }),
  // Of a Haraka whose logger we cannot find among the loaded modules, no package can be found.
  'haraka-constants has no numbers for the states DATA and DISCONNECTING of a connection': replaced({
    logger: () => ({}),
  }),
  '@haraka/email-address gives an Address no string "address", or no parts': replaced({ logger: () => ({}) }),
  '@haraka/email-address does not parse a From: field strictly': replaced({ logger: () => ({}) }),
}

/** A Haraka that lacks what an assumption says is there. */
function lackingFor({ where, fault }: Assumption): () => Plugin {
  const hook = /^there is no hook (\w+)$/.exec(fault)?.[1]
  const [, whole = '', path = ''] = /^(.*) has no \w+ "(.*)"$/.exec(fault) ?? []
  if (hook && where === 'server.js') return lacking('server', `${hook}_respond`)
  if (hook && where === 'connection.js') return lacking('connection', `Connection.prototype.${hook}_respond`)
  if (hook) return lacking('outbound', `HMailItem.prototype.${hook}_respond`)
  const of: Record<string, () => () => Plugin> = {
    'a plugin': () => () => without(pluginIn({}).plugin, path),
    'Connection.prototype': () => lacking('connection', `Connection.prototype.${path}`),
    'HMailItem.prototype': () => lacking('outbound', `HMailItem.prototype.${path}`),
    outbound: () => lacking('outbound', path),
    'the outbound queue': () => lacking('outbound/queue', path),
    'Transaction.prototype': () => lacking('transaction', `Transaction.prototype.${path}`),
    'the server': () => lacking('server', path),
    'a Connection': () => replaced({ connection: connections((connection) => without(connection, path)) }),
    'a Transaction': () =>
      replaced({ connection: transactions((transaction) => without(transaction, path)) }),
  }
  const make = of[whole]?.()
  assert.ok(make, `nothing here breaks: ${where}: ${fault}`)
  return make
}

const escaped = (text: string) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')

describe('a Haraka', () => {
  it('as it is installed here is supported, and nothing is said about it', () => {
    const { plugin, log } = pluginIn({})
    requireSupported(plugin)
    assert.deepEqual(log, [])
  })

  for (const [index, assumption] of assumptions.entries()) {
    const { where, fault } = assumption
    it(`is refused with a sentence where ${where}: ${fault}`, () => {
      const sentence = new RegExp(
        `^relay-guard does not fit this Haraka ${escaped(version)}: ${escaped(`${where}: ${fault}`)}( \\(.*\\))?$`,
      )
      const isGlobal = fault.startsWith('the global object')
      const name = /"(.*)"/.exec(fault)?.[1] ?? ''
      const before = Reflect.get(globalThis, name)
      const plugin = isGlobal ? pluginIn({}).plugin : (broken[fault] ?? lackingFor(assumption))()
      if (isGlobal) Reflect.deleteProperty(globalThis, name)
      try {
        assert.throws(() => requireSupported(plugin, [assumption]), { message: sentence })
        // Whichever of them sees it first, the start is refused.
        assert.throws(() => requireSupported(plugin), /^Error: relay-guard does not fit this Haraka [^\n]*$/)
      } finally {
        if (isGlobal) Reflect.set(globalThis, name, before)
      }
      requireSupported(pluginIn({}).plugin, [assumptions[index]!])
    })
  }

  it('that uses class fields is refused, not misread: a client in [never] would seem to may relay', () => {
    class Connection {
      relaying = false
      errors = 0
    }
    const { plugin } = pluginIn({
      connection: () => ({ Connection, createConnection: () => new Connection() }),
    })
    assert.throws(() => requireSupported(plugin), {
      message: `relay-guard does not fit this Haraka ${version}: connection.js: Connection.prototype has no accessor "relaying"`,
    })
  })

  it('is tried without a trace: no property, hook or plugin of a trial stays', () => {
    const { plugin } = pluginIn({})
    const { Connection } = plugin.haraka_require('connection') as { Connection: { prototype: object } }
    const plugins = plugin.haraka_require('plugins') as {
      registered_hooks: object
      registered_plugins: object
    }
    const seen = () => [
      Object.getOwnPropertyDescriptors(Connection.prototype),
      { ...plugins.registered_hooks },
      { ...plugins.registered_plugins },
    ]
    const before = seen()
    requireSupported(plugin)
    assert.deepEqual(seen(), before)
  })
})

describe('the version of Haraka', () => {
  const withVersion = (text: string) => pluginIn({ 'package.json': (real) => ({ ...real, version: text }) })

  for (const old of ['2.8.28', '3.0.6', '3.1.7', '3.1.99'])
    it(`${old} is refused with a sentence that says what is needed`, () => {
      const sentence = `relay-guard needs Haraka 3.2.0 or later; this is ${old}`
      assert.throws(
        () => requireSupported(withVersion(old).plugin),
        (error: Error) => error.message === sentence && error.stack === sentence,
      )
    })

  for (const tested of ['3.2.0', '3.2.1', '3.3.4', '3.3.99'])
    it(`${tested} starts without a word`, () => {
      const { plugin, log } = withVersion(tested)
      requireSupported(plugin)
      assert.deepEqual(log, [])
    })

  for (const newer of ['3.4.0', '3.10.0', '4.0.0-beta.1'])
    it(`${newer} is newer than what was tested: it starts, with one line in the log`, () => {
      const { plugin, log } = withVersion(newer)
      requireSupported(plugin)
      assert.equal(log.length, 1)
      assert.match(log[0] ?? '', new RegExp(`^Haraka ${escaped(newer)} is newer than 3\\.3`))
    })
})
