import assert from 'node:assert/strict'
import { createReadStream } from 'node:fs'
import { test } from 'node:test'
import type { Address, QueuedMail } from '../core/haraka/types'
import { deliver } from '../plugins/domains/hooks/queued-mail'
import { addressOf } from './support/connection'
import { newClient, routeTo } from './support/next-hop'
import { startSink } from './support/sink'

test('a queue file that cannot be read ends neither the process nor a message, and is tried again', async (t) => {
  const sink = await startSink()
  t.after(() => sink.close())
  const failed: string[] = []
  const mail = {
    todo: {
      domain: 'b.example',
      mail_from: addressOf('<a@a.example>'),
      rcpt_to: [addressOf('<b@b.example>')],
      notes: {},
    },
    refcount: 1,
    data_stream: () => createReadStream('/nowhere/queue-file'),
    split_to_new_recipients(_recipients: Address[], _why: string, done: (part: QueuedMail) => void) {
      done(this as unknown as QueuedMail)
    },
    temp_fail: (why: string) => void failed.push(why),
    discard: () => undefined,
  }
  await deliver(mail as unknown as QueuedMail, routeTo([sink.address()]), newClient())
  assert.match(failed.join(), /^451 4\.3\.0 /)
  assert.equal(sink.messages.length, 0)
})
