// haraka-plugin-aliases: where its aliases lead, seen from domains.ini.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { domainOf } from '../../core/mail-address'
import { clean } from '../../core/text'
import type { DomainsConfig } from '../../plugins/domains/config'

interface Alias {
  action?: string
  to?: string | string[]
}

/** The aliases that the plugin reads, by what they stand for; undefined: none, or no JSON. */
export function readAliases(dir: string): Record<string, Alias> | undefined {
  for (const file of ['aliases.json', 'aliases']) {
    try {
      const aliases: unknown = JSON.parse(readFileSync(join(dir, 'config', file), 'utf8'))
      return typeof aliases === 'object' && aliases ? (aliases as Record<string, Alias>) : undefined
    } catch {}
  }
  return undefined
}

/** A sentence for the aliases that lead out of our domains: those are refused for clients that may not relay. */
export function aliasWarnings(aliases: Record<string, Alias>, { domains }: DomainsConfig): string[] {
  const isOutside = (target: string) => {
    const host = target.includes('@') ? domainOf(target.slice(target.lastIndexOf('@') + 1)) : undefined
    return host !== undefined && domains.find(host) === undefined
  }
  const outside = Object.entries(aliases)
    .filter(([, { to = [] }]) => [to].flat().some((target) => isOutside(String(target))))
    .map(([name]) => clean(name, 100))
  if (outside.length === 0) return []
  const shown = outside.slice(0, 5).join(', ') + (outside.length > 5 ? ` and ${outside.length - 5} more` : '')
  return [
    `config/aliases: ${shown} ${outside.length > 1 ? 'stand' : 'stands'} for addresses that are not ours: refused, 550 5.7.1, for clients that may not relay`,
  ]
}
