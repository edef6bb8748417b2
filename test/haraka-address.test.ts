// Haraka 3.2 wraps envelope addresses: their `host` and `address` pass for strings, but are none to `===`.
import './support/haraka-config'
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { plain } from '../core/haraka/address'
import { partyOf } from '../core/haraka/party-of'
import { answer } from '../core/haraka/reply'
import type { Address } from '../core/haraka/types'
import { addressOf, connectionOf, pluginOf } from './support/connection'
import { harakaHome } from './support/install'

const { asLegacy } = createRequire(join(harakaHome, 'haraka.js'))('@haraka/email-address') as {
  asLegacy(address: Address): Address
}
const paths = [
  '<>',
  '<postmaster>',
  '<Ann@Example.org>',
  '<"john.doe"@example.org>',
  '<@a.example:b@c.example>',
]

describe('an envelope address', () => {
  for (const path of paths)
    it(`${path} gives the same strings, wrapped or not`, () => {
      const address = plain(addressOf(path))
      const wrapped = asLegacy(address)
      const values = ({ user, host, original, address }: Address) => ({ user, host, original, address })
      assert.deepEqual(values(plain(wrapped)), values(address))
      for (const value of Object.values(values(plain(wrapped)))) assert.equal(typeof value, 'string')
      assert.equal(plain(wrapped), plain(wrapped))
      assert.equal(plain(plain(wrapped)), plain(wrapped))
    })

  it('that is null is the null sender to our policies and in our log, wrapped or not', () => {
    for (const wrap of [(address: Address) => address, asLegacy]) {
      const connection = connectionOf()
      connection.begin().mail_from = wrap(plain(addressOf('<>')))
      const { sender } = partyOf(connection)
      assert.deepEqual([sender?.user, sender?.host], ['', ''])
      const rule = { file: 'f', section: 's', key: '' }
      const decision = { outcome: 'recipient.no', code: 550, status: '5.7.1', text: 'no', rule }
      assert.equal(answer(pluginOf().plugin, () => undefined, connection, decision).from, '<>')
    }
  })
})
