// Tries to relay, and what a refusal must read.
import assert from 'node:assert/strict'
import type { Reply, SmtpClient } from './smtp-client'

export const foreign = '<v@victim.example>'

/** `code status` of each reply. */
export const said = (replies: (Reply | undefined)[]) =>
  replies.map((reply) => `${reply?.code} ${reply?.status}`.trim())

/** MAIL and RCPT to a foreign mailbox: what a client that may not relay is refused. The transaction is ended. */
export async function tryRelay(client: SmtpClient, from = '<a@evil.example>'): Promise<Reply> {
  const mail = await client.command(`MAIL FROM:${from}`)
  assert.equal(mail.code, 250, mail.text)
  const reply = await client.command(`RCPT TO:${foreign}`)
  await client.command('RSET')
  return reply
}

export function refused(reply: Reply) {
  assert.deepEqual(said([reply]), ['550 5.7.1'], reply.text)
}
