// A short list of addresses and subnets under one key of an ini file.
import type { Fields } from './ini/fields'
import { PrefixTable } from './net/prefix-table'
import { parseEntry } from './net/range'

/** parseEntry's message without the entry, which a mistake names anyway. Throws Error. */
export function parsePrefix(text: string) {
  try {
    return parseEntry(text)
  } catch (error) {
    const { message } = error as Error
    throw new Error(message.startsWith(`${text}: `) ? message.slice(text.length + 2) : message)
  }
}

export const prefixSet = (fields: Fields, key: string): PrefixTable =>
  PrefixTable.of(fields.list(key, parseEntry))
