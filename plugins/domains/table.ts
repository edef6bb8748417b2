// Which domains are ours: exact names, and what is under those with `subdomains = true`.
import type { Route } from '../../core/next-hop/route'

type DeliveryWay = 'forward' | 'queue' | 'plugin'

/** One domain of ours. */
export interface Domain {
  name: string
  /** Where it is written: `domains.ini [example.com]` or `config/host_list`. */
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

/** Our domains, in the order of the file. */
export class DomainTable {
  private readonly byName = new Map<string, Domain>()

  /** False where the domain is there already. */
  add(domain: Domain): boolean {
    if (this.byName.has(domain.name)) return false
    this.byName.set(domain.name, domain)
    return true
  }

  get first(): Domain | undefined {
    return this.byName.values().next().value
  }

  all(): Domain[] {
    return [...this.byName.values()]
  }

  /** The domain that a host name in its one form belongs to: itself, or the nearest one above that takes subdomains. */
  find(host: string): Domain | undefined {
    const exact = this.byName.get(host)
    if (exact) return exact
    for (let dot = host.indexOf('.'); dot >= 0; dot = host.indexOf('.', dot + 1)) {
      const above = this.byName.get(host.slice(dot + 1))
      if (above?.subdomains) return above
    }
    return undefined
  }
}
