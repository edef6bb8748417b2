// Which domains are ours: exact names, and what is under those with `subdomains = true`. Some may be in Redis.
import type { Route } from '../../core/next-hop/route'

type DeliveryWay = 'forward' | 'queue' | 'plugin'

/** One domain of ours. */
export interface Domain {
  name: string
  /** Where it is written: `domains.ini [example.com]`, `config/host_list` or `Redis [domain:example.com]`. */
  file: string
  section: string
  subdomains: boolean
  delivery: DeliveryWay
  /** Not there when `delivery = plugin`. */
  route?: Route
  verify: 'callout' | 'none'
  routingCharacters: 'reject' | 'allow'
  /** The only addresses of this domain, if they are listed. */
  recipients?: Set<string>
}

/** Redis was not asked, did not answer, or holds what cannot be read: neither a no nor a right. */
export const CANNOT_TELL = 'cannot tell'

/** What is known of a name. Undefined: it is none of ours. */
export type Found = Domain | typeof CANNOT_TELL | undefined

/** How long it counts that Redis has not got a name, where it cannot be asked again. */
export type NoneLasts = 'some seconds' | 'an hour'

/** Domains that are not in a file, as far as they were looked up before. */
export interface MoreDomains {
  /** `below`: the question is about a name below this one, so that only `subdomains = true` matters. */
  get(name: string, below: boolean, lasts: NoneLasts): Found
}

/** In Redis, `subdomains = true` holds for names of up to so many labels: so many questions a host name costs at most. */
export const MOST_LABELS = 10

/** The name itself and those above it, the nearest first; of those above only the ones with up to MOST_LABELS labels. */
export function namesAbove(host: string): string[] {
  const names = [host]
  const dots: number[] = []
  for (let dot = host.indexOf('.'); dot >= 0; dot = host.indexOf('.', dot + 1)) dots.push(dot)
  for (const dot of dots.slice(-MOST_LABELS)) names.push(host.slice(dot + 1))
  return names
}

/** Our domains, in the order of the file; those in Redis have none. */
export class DomainTable {
  private readonly byName = new Map<string, Domain>()

  /** `more`: not given where domains.ini says `redis = false`. */
  constructor(private readonly more?: MoreDomains) {}

  /** False where the domain is there already. */
  add(domain: Domain): boolean {
    if (this.byName.has(domain.name)) return false
    this.byName.set(domain.name, domain)
    return true
  }

  /** The first domain that is in a file. */
  get first(): Domain | undefined {
    return this.byName.values().next().value
  }

  /** The domains that are in a file. */
  all(): Domain[] {
    return [...this.byName.values()]
  }

  /** Whether there are domains in Redis, too. */
  get asksRedis(): boolean {
    return this.more !== undefined
  }

  /**
   * The domain that a host name in its one form belongs to: itself, or the nearest one above that takes subdomains. Files
   * go before Redis: what they answer is not asked there, and a name that is in both is that of the file.
   */
  find(host: string, lasts: NoneLasts = 'some seconds'): Found {
    const listed = this.listed(host)
    if (listed || !this.more) return listed
    for (const name of this.unlisted(host)) {
      const found = this.more.get(name, name !== host, lasts)
      if (found === CANNOT_TELL) return found
      if (found && (name === host || found.subdomains)) return found
    }
    return undefined
  }

  /** The names to look up in Redis before `find` is asked about this host; none where the files have the answer. */
  namesInRedis(host: string): string[] {
    return this.more && host !== '' && !this.listed(host) ? this.unlisted(host) : []
  }

  private unlisted(host: string): string[] {
    return namesAbove(host).filter((name) => !this.byName.has(name))
  }

  private listed(host: string): Domain | undefined {
    const exact = this.byName.get(host)
    if (exact) return exact
    for (let dot = host.indexOf('.'); dot >= 0; dot = host.indexOf('.', dot + 1)) {
      const above = this.byName.get(host.slice(dot + 1))
      if (above?.subdomains) return above
    }
    return undefined
  }
}
