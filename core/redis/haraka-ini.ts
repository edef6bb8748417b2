// Haraka's config/redis.ini as Haraka's own reader takes it (haraka-config, lib/readers/ini.js), for the server and the
// command alike: the command runs where there may be no Haraka. It knows no errors: what it cannot read it passes over,
// of two equal keys the last one wins, sections of one name are one, and nothing behind a value is a comment.

import { linesOf } from '../lines'

const COMMENT = /^\s*[;#].*$/
const BLANK = /^\s*$/
const SECTION = /^\s*\[([^\]]*)\]\s*$/
const CONTINUED = /\\[ \t]*$/
const PARAM = /^\s*([\w@:._+\-/[\]]+)\s*(?:=\s*(.*?)\s*)?$/
const LIST = /^(.+)\[\]$/
const UNSAFE = new Set(['__proto__', 'constructor', 'prototype'])

/** The keys of one section. A key without `=` has no value, `key[] =` has a list. */
export type HarakaSection = Record<string, string | string[] | undefined>

/**
 * The sections by name; lines before the first one belong to `main`. The one difference to Haraka: what looks like a
 * number stays as it was written, so that a password `0123` is not 123.
 */
export function parseHarakaIni(text: string): Record<string, HarakaSection> {
  const sections: Record<string, HarakaSection> = { main: Object.create(null) }
  let current = sections['main'] as HarakaSection
  let before = ''
  for (const raw of linesOf(text)) {
    if (COMMENT.test(raw) || BLANK.test(raw)) continue
    const name = SECTION.exec(raw)?.[1]?.trim()
    if (name !== undefined) {
      const known = Object.hasOwn(sections, name) ? sections[name] : undefined
      current = known ?? Object.create(null)
      if (!UNSAFE.has(name)) sections[name] = current
      continue
    }
    if (CONTINUED.test(raw)) {
      before += raw.replace(CONTINUED, '')
      continue
    }
    put(current, before + raw)
    before = ''
  }
  return sections
}

function put(section: HarakaSection, line: string): void {
  const [, name = '', value] = PARAM.exec(line) ?? []
  const key = LIST.test(name) ? name.replace('[]', '') : name
  if (key === '' || UNSAFE.has(key)) return
  if (!LIST.test(name)) section[key] = value
  else {
    const list = section[key]
    if (Array.isArray(list)) list.push(value ?? '')
    else section[key] = [value ?? '']
  }
}
