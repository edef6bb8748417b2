// The fields of a domain's hash: as they are changed, written and shown.
import type { Client } from '../../core/redis/connection'

type Fields = Record<string, string>

const plain = (key: string): string => key.replace(/\[\]$/, '')

/**
 * The fields with these words, `KEY=VALUE`, in place of what they say now; `KEY=` takes one out. Throws Error, which
 * repeats no value.
 */
export function changed(before: Fields, words: string[]): Fields {
  const after = new Map(Object.entries(before).map(([key, value]) => [plain(key), value]))
  const given = new Set<string>()
  for (const [at, word] of words.entries()) {
    const [, key = '', value = ''] = /^([\w[\]]+)\s*=(.*)$/s.exec(word) ?? []
    if (key === '') throw new Error(`word ${at + 3} after domain is no KEY=VALUE`)
    if (given.has(plain(key)))
      throw new Error(`${plain(key)} is given twice; write several values with commas`)
    if (value.includes(MASK))
      throw new Error(`${plain(key)}: ${MASK} stands for a password; write the password`)
    given.add(plain(key))
    if (value.trim() === '') after.delete(plain(key))
    else after.set(plain(key), value.trim())
  }
  return Object.fromEntries(after)
}

/** Writes all fields at once; rejects, and nothing is written, where the key has changed since it was watched. */
export async function write(client: Client, key: string, before: Fields, after: Fields): Promise<void> {
  const gone = Object.keys(before).filter((field) => !Object.hasOwn(after, field))
  const step = client.multi()
  if (gone.length > 0) step.hdel(key, ...gone)
  const answers = await step.hset(key, after).exec()
  if (!answers)
    throw new Error('somebody else has changed it at the same time; nothing was written, try again')
  for (const [error] of answers) if (error) throw error
}

const MASK = ':***@'

/** The fields without the passwords of next hops. Of a good hash: a bad one may have a password anywhere. */
export const masked = (fields: Readonly<Fields>): Fields =>
  Object.fromEntries(
    Object.entries(fields).map(([key, value]) => [plain(key), value.replace(/:[^:/@,\s]*@/g, MASK)]),
  )
