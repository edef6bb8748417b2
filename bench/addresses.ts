// The clients' addresses: all of 127/8 is this machine, so each client can have one of its own.

/** Networks (/24) that neighbours are spread over, as a server's clients are. */
export const NETWORKS = 250
/** Addresses used in each network. */
export const HOSTS = 254

/** The address of client `number` (0 and up) in the range that begins at `network`, two octets as `127.21`. */
export function addressAt(network: string, number: number): string {
  const [first, second] = network.split('.').map(Number)
  const row = Math.floor(number / NETWORKS)
  return `${first}.${(second ?? 0) + Math.floor(row / HOSTS)}.${number % NETWORKS}.${(row % HOSTS) + 1}`
}
