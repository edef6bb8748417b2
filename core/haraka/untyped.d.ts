// What we use of packages that ship no types, or none for CommonJS.

declare module 'haraka-net-utils' {
  /** The MX records of a domain, or its own address where it has none (RFC 5321 5.1). Rejects with DNS errors. */
  function get_mx(domain: string): Promise<{ exchange: string; priority: number }[]>
  const netUtils: { get_mx: typeof get_mx }
  export default netUtils
}
