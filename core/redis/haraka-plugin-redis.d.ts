// The slice of haraka-plugin-redis that we use: what its redis.ini means. Checked against 2.1.0.
declare module 'haraka-plugin-redis' {
  type Section = Record<string, unknown>
  /** Host, port, path, tls and the like in `socket`; the rest beside it. */
  type Endpoint = Section & { socket: Section }

  export function normalize_redis_ini(raw?: Record<string, unknown>): {
    main: Section
    opts: Section
    server: Endpoint
    pubsub: Endpoint
    database?: unknown
  }
  export function normalize_endpoint(section?: Section, opts?: Section): Endpoint
}
