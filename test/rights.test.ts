import assert from 'node:assert/strict'
import { afterEach, describe, it } from 'node:test'
import {
  classificationOf,
  mayRelay,
  relayRuleOf as relayRule,
  takeOverRelaying,
  userOf,
} from '../core/haraka/relaying'
import { registry } from '../core/registry'
import type { Classification, Client } from '../core/relay-right'
import { connectionOf, pluginOf, type TestConnection } from './support/connection'
import { fc } from './support/random'

takeOverRelaying(pluginOf().plugin)
let generation = 1
const setClassifier = (classify: (client: Client) => Classification) => {
  registry.acl = { classify, generation: () => generation }
}
const rule = { file: 'acl.ini', section: 'relay', key: '192.0.2.1' }

/** A connection from an address that the ACL has put in a class. */
function client(kind: Classification['class'], ip = '192.0.2.1', localPort = 25): TestConnection {
  const state: Classification = kind === 'nobody' ? { class: kind } : { class: kind, rule }
  setClassifier((asked) => (asked.ip === ip ? state : { class: 'nobody' }))
  return connectionOf({ remoteAddress: ip, localPort })
}

function login(connection: TestConnection, user = 'alice') {
  connection.relaying = true
  connection.notes.auth_user = user
}

/** XCLIENT in the order of Haraka's xclient plugin. */
function xclient(connection: TestConnection, ip: string) {
  connection.uuid = `${connection.uuid.slice(0, -1)}X`
  connection.end()
  connection.relaying = false
  connection.remote.ip = ip
}

afterEach(() => setClassifier(() => ({ class: 'nobody' })))

describe('who may relay', () => {
  it('is nobody in particular not, and after a login or by another plugin yes', () => {
    const connection = client('nobody')
    assert.deepEqual([mayRelay(connection), connection.relaying], [false, false])
    connection.relaying = true
    assert.deepEqual([mayRelay(connection), connection.relaying], [true, true])
    connection.relaying = false
    assert.deepEqual([mayRelay(connection), connection.relaying], [false, false])
  })

  it('is a client in [relay], whatever another plugin takes away', () => {
    const connection = client('relay')
    connection.relaying = false
    assert.deepEqual([mayRelay(connection), connection.relaying], [true, true])
    assert.equal(relayRule(connection), rule)
  })

  for (const kind of ['never', 'reject'] as const)
    it(`is a client in [${kind}] at no time: not by another plugin, not after a login, in no transaction`, () => {
      const connection = client(kind)
      const says = () => [mayRelay(connection), connection.relaying]
      connection.relaying = true
      assert.deepEqual(says(), [false, false])
      login(connection)
      connection.begin()
      assert.deepEqual(says(), [false, false])
      connection.relaying = true
      assert.deepEqual(says(), [false, false])
      connection.end()
      connection.begin()
      assert.deepEqual(says(), [false, false])
    })

  it('is told apart by true alone', () => {
    const connection = client('nobody')
    for (const value of [1, 'true', {}, [], NaN]) {
      Object.assign(connection, { relaying: value })
      assert.equal(mayRelay(connection), false)
    }
  })
})

describe('a right set inside a transaction', () => {
  it('does not count, is seen by nobody, and is told once', () => {
    const connection = client('nobody')
    for (let round = 0; round < 2; round++) {
      connection.begin()
      connection.relaying = true
      assert.deepEqual([mayRelay(connection), connection.relaying], [false, false])
      connection.end()
      assert.deepEqual([mayRelay(connection), connection.relaying], [false, false])
    }
    assert.equal(connection.log.filter(([level]) => level === 'notice').length, 1)
  })

  it('before we look is taken away', () => {
    const connection = client('nobody')
    connection.begin()
    connection.relaying = true
    assert.deepEqual([mayRelay(connection), connection.relaying], [false, false])
  })

  it('that is taken away there counts, for this transaction only', () => {
    const connection = client('nobody')
    login(connection)
    connection.begin()
    connection.relaying = false
    connection.relaying = true
    assert.deepEqual([mayRelay(connection), connection.relaying], [false, false])
    connection.end()
    connection.begin()
    assert.deepEqual([mayRelay(connection), connection.relaying], [true, true])
  })

  it('takes nothing from who has the right anyway', () => {
    const connection = client('nobody')
    login(connection)
    connection.begin()
    connection.relaying = true
    assert.deepEqual([mayRelay(connection), connection.relaying], [true, true])
  })
})

describe('a user', () => {
  it('is who logged in, also in [never]', () => {
    for (const kind of ['nobody', 'relay', 'never'] as const) {
      const connection = client(kind)
      assert.equal(userOf(connection), undefined)
      login(connection)
      assert.equal(userOf(connection), 'alice')
    }
  })

  it('is not who only has the note, without a right', () => {
    const connection = client('nobody')
    connection.notes.auth_user = 'alice'
    assert.equal(userOf(connection), undefined)
  })

  it('is the rule for his right, and another plugin where nobody logged in', () => {
    const connection = client('nobody')
    login(connection)
    assert.deepEqual(relayRule(connection), { file: 'AUTH', section: 'user', key: 'alice' })
    delete connection.notes.auth_user
    assert.equal(relayRule(connection).section, 'another plugin')
  })
})

describe('after XCLIENT', () => {
  it('login and rights of the client before are gone', () => {
    const connection = client('nobody')
    login(connection)
    xclient(connection, '198.51.100.7')
    assert.deepEqual(
      [mayRelay(connection), connection.relaying, userOf(connection)],
      [false, false, undefined],
    )
    assert.equal(connection.notes.auth_user, undefined)
    login(connection, 'bob')
    assert.deepEqual([mayRelay(connection), userOf(connection)], [true, 'bob'])
  })

  it('the new address is looked up, into [never] and out of it', () => {
    const connection = client('never', '198.51.100.7')
    xclient(connection, '192.0.2.2')
    assert.equal(classificationOf(connection).class, 'nobody')
    login(connection)
    xclient(connection, '198.51.100.7')
    assert.equal(classificationOf(connection).class, 'never')
    assert.equal(mayRelay(connection), false)
  })

  it('an address of our own that is not told gives no right, and is no error', () => {
    const connection = client('nobody')
    Object.assign(connection.local, { ip: undefined, port: undefined })
    assert.equal(mayRelay(connection), false)
  })
})

describe('whatever happens in whatever order', () => {
  type Step = 'grant' | 'revoke' | 'login' | 'mail' | 'early grant' | 'end' | 'xclient'
  const steps: Step[] = ['grant', 'revoke', 'login', 'mail', 'early grant', 'end', 'xclient']

  it('a right comes only from outside of transactions, and core sees what we see', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...steps), { maxLength: 30 }), fc.boolean(), (path, never) => {
        setClassifier(() => ({ class: never ? 'never' : 'nobody' }))
        const connection = connectionOf()
        let right = false
        let revoked = false
        for (const [index, step] of path.entries()) {
          const inside = connection.transaction !== null
          if (step === 'grant' || step === 'login') {
            connection.relaying = true
            if (step === 'login') connection.notes.auth_user = 'alice'
            if (!inside) right = true
          }
          if (step === 'revoke') {
            connection.relaying = false
            if (inside) revoked = true
            else right = false
          }
          if ((step === 'mail' || step === 'early grant') && !inside) {
            connection.begin()
            revoked = false
            if (step === 'early grant') connection.relaying = true
          }
          if (step === 'end' || step === 'xclient') revoked = false
          if (step === 'end') connection.end()
          if (step === 'xclient') {
            xclient(connection, `192.0.2.${index + 1}`)
            right = false
          }
          assert.equal(mayRelay(connection), right && !never && !revoked)
          assert.equal(connection.relaying, right && !never && !revoked)
        }
      }),
    )
  })
})

describe('core asks at MAIL on a submission port whether the client has logged in', () => {
  type Asked = TestConnection & { cmd_mail(line: string): void; respond(code: number, text: unknown): void }
  /** What is answered at MAIL, and what a hook that reads `relaying` in the transaction is told. */
  function mail(connection: TestConnection): [answered: string, inTransaction: boolean[]] {
    const asked = connection as Asked
    const told: boolean[] = []
    let answered = 'a transaction'
    asked.hello.host = 'client.example'
    Object.assign(asked, {
      respond(code: number, text: unknown) {
        answered = `${code} ${text}`
      },
      init_transaction() {
        told.push(asked.relaying)
        asked.begin('<a@b.example>')
        told.push(asked.relaying)
      },
    })
    asked.cmd_mail('FROM:<a@b.example>')
    return [answered, told]
  }

  for (const port of [587, 465]) {
    it(`${port}: a client in [never] that has may hand in mail, and is told at no time that it may relay`, () => {
      const connection = client('never', undefined, port)
      login(connection)
      assert.deepEqual(mail(connection), ['a transaction', [false, false]])
      assert.equal(connection.relaying, false)
      assert.deepEqual(mail(connection), ['a transaction', [false, false]], 'MAIL again, without RSET')
      connection.end()
      assert.deepEqual([mayRelay(connection), connection.relaying], [false, false])
    })

    const refused: [string, Classification['class'], (connection: TestConnection) => unknown][] = [
      ['a client in [never] that has not', 'never', () => undefined],
      [
        'a client in [never] to which another plugin gave the right',
        'never',
        (c) => Object.assign(c, { relaying: true }),
      ],
      [
        'a client in [never] with the note alone',
        'never',
        (c) => Object.assign(c.notes, { auth_user: 'alice' }),
      ],
      ['nobody in particular', 'nobody', () => undefined],
      ['a client in [reject] that has', 'reject', login],
    ]
    for (const [who, kind, prepare] of refused)
      it(`${port}: ${who} may not`, () => {
        const connection = client(kind, undefined, port)
        prepare(connection)
        assert.deepEqual(mail(connection), ['550 Authentication required', []])
        assert.equal(connection.relaying, false)
      })
  }

  it('and the answer is kept for nobody where core did not ask', () => {
    const connection = client('never')
    login(connection)
    assert.deepEqual(mail(connection), ['a transaction', [false, false]])
    connection.end()
    connection.hello.host = null
    ;(connection as Asked).cmd_mail('FROM:<a@b.example>')
    assert.equal(connection.relaying, false)
  })
})

describe('a reload of acl.ini', () => {
  const stages: [Classification['class'], boolean, boolean][] = [
    ['relay', true, true],
    ['never', false, false],
    ['nobody', false, true],
    ['reject', false, false],
    ['relay', true, true],
  ]
  it('holds for an open connection at once, also inside a transaction, and leaves its login alone', () => {
    const anonymous = client('nobody')
    const user = connectionOf({ remoteAddress: '192.0.2.1' })
    login(user)
    anonymous.begin('<a@b.example>')
    user.begin('<a@b.example>')
    for (const [kind, without, withLogin] of stages) {
      generation++
      setClassifier(() => (kind === 'nobody' ? { class: kind } : { class: kind, rule }))
      assert.deepEqual([mayRelay(anonymous), anonymous.relaying], [without, without], kind)
      assert.deepEqual([mayRelay(user), user.relaying, userOf(user)], [withLogin, withLogin, 'alice'], kind)
      assert.equal(classificationOf(anonymous).class, kind)
    }
  })

  it('does not bring back a right that another plugin took away for this transaction', () => {
    const connection = client('nobody')
    login(connection)
    connection.begin('<a@b.example>')
    connection.relaying = false
    generation++
    assert.equal(mayRelay(connection), false)
  })
})
