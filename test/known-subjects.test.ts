import assert from 'node:assert/strict'
import { test } from 'node:test'
import { KnownSubjects } from '../core/limiter/known-subjects'

const sender = { scope: 'sender', subject: 'a@sender.test' }

test('a name that was heard of while there was no room for it is asked about', () => {
  const known = new KnownSubjects(() => undefined)
  known.knowBlocks([])
  assert.equal(known.isClear(known.get(sender)), true)
  known.clear()
  for (let i = 0; i < 10_000; i++) known.changed(`{sender:${i}@sender.test}`)
  known.changed('{sender:a@sender.test}')
  known.knowBlocks([])
  assert.equal(known.isClear(known.get(sender)), false)
})
