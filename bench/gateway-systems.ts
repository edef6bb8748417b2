// The servers of "beside other servers", each set up as the same gateway: mail for local.test goes on to one next hop.
import { missing, postfix } from '../test/support/mail-servers'
import { freePort } from '../test/support/ports'
import { cpuOf } from './cpu'
import { gatewaySetups } from './gateway-setups'
import { Server } from './server'

/** A mail server that runs. */
export interface System {
  name: string
  about: string
  port: number
  /** CPU that all its processes (without Redis) have used so far, ms. */
  cpu(): number
  /** Why its figures are no good, if they are not. */
  lostRedis(): string[]
  stop(): Promise<void>
}

/** Why this comparison cannot be made here; false where it can. */
export const unavailable = (): string | false => missing('postfix')

/** Out of reach: every client of smtp-source has the same address. */
const limits = {
  smtpd_client_connection_count_limit: '1000',
  smtpd_client_connection_rate_limit: '10000000',
  smtpd_client_message_rate_limit: '10000000',
  smtpd_client_recipient_rate_limit: '10000000',
}

async function startPostfix(sink: number): Promise<System> {
  const server = postfix({
    port: await freePort(),
    sink,
    users: [],
    size: 10_240_000,
    connections: 1000,
    defaultProcesses: true,
    settings: {
      ...limits,
      virtual_mailbox_domains: '',
      virtual_mailbox_maps: '',
      relay_domains: 'local.test',
      relay_transport: `smtp:[127.0.0.1]:${sink}`,
      smtp_connection_cache_on_demand: 'yes',
      in_flow_delay: '0',
    },
  })
  await server.start()
  return {
    name: 'Postfix',
    about:
      'relay_domains and relay_transport, its limits of connections, connection rate, messages and recipients a client (anvil) on, all out of reach; no DNS, no TLS, no milter, log to a file; as it comes (100 processes, connection cache) but `in_flow_delay = 0`, which lets it take mail faster than it delivers',
    port: server.port,
    cpu: () => cpuOf(server.pid()),
    lostRedis: () => [],
    stop: () => server.remove(),
  }
}

async function startHaraka(setup: (typeof gatewaySetups)[number], sink: number): Promise<System> {
  const server = await Server.start(setup, sink)
  return {
    name: setup.name,
    about: setup.about,
    port: server.haraka.port,
    cpu: () => cpuOf(server.haraka.pid),
    lostRedis: () => server.lostRedis(),
    stop: () => server.stop(),
  }
}

/** Starts all of them, Postfix first, with this next hop. When one does not start, those that did are stopped. */
export async function startSystems(sink: number): Promise<System[]> {
  const systems: System[] = []
  try {
    systems.push(await startPostfix(sink))
    for (const setup of gatewaySetups) systems.push(await startHaraka(setup, sink))
    return systems
  } catch (error) {
    await Promise.all(systems.map((system) => system.stop()))
    throw error
  }
}
