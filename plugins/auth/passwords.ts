// Password hashes: `$scrypt$ln=15,r=8,p=1$SALT$HASH` (the PHC string format), with node's own scrypt (RFC 7914).
import { randomBytes, type ScryptOptions, scrypt, timingSafeEqual } from 'node:crypto'
import { ValueError } from '../../core/text'

/** A password hash and how it was derived. */
export interface PasswordHash {
  options: ScryptOptions
  salt: Buffer
  hash: Buffer
}

/** Turns a password into `length` octets. Rejects where there is no memory for it. */
export type Derive = (
  password: string,
  salt: Buffer,
  length: number,
  options: ScryptOptions,
) => Promise<Buffer>

const LN = 15 // 32 MiB and some 60 ms a try
const MEMORY = 256 * 1024 ** 2

/** Reads the text form. Throws ValueError, which repeats nothing of it. */
export function parseHash(text: string): PasswordHash {
  const [, ln, r, p, salt, hash] =
    /^\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d)\$([A-Za-z0-9+/]{16,})\$([A-Za-z0-9+/]{32,})$/.exec(text) ?? []
  const cost = Number(ln)
  if (!salt || !hash || cost < 10 || cost > 20 || Number(r) < 1 || Number(p) < 1)
    throw new ValueError('is not a line of `relay-guard passwd NAME`')
  if (128 * 2 ** cost * Number(r) > MEMORY)
    throw new ValueError('asks for more memory than a login may have (256 MiB)')
  return {
    options: optionsOf(cost, Number(r), Number(p)),
    salt: Buffer.from(salt, 'base64'),
    hash: Buffer.from(hash, 'base64'),
  }
}

/** The text form for a new password, with a salt of its own. */
export async function makeHash(password: string): Promise<string> {
  const salt = randomBytes(16)
  const hash = await deriveByScrypt(password, salt, 32, optionsOf(LN, 8, 1))
  const plain = (data: Buffer) => data.toString('base64').replace(/=+$/, '')
  return `$scrypt$ln=${LN},r=8,p=1$${plain(salt)}$${plain(hash)}`
}

/**
 * A hash that no password has, to be checked for names that do not exist: of the highest cost among `hashes`, so that
 * the time of an answer does not tell who exists.
 */
export function decoyOf(hashes: Iterable<PasswordHash>): PasswordHash {
  const costs = [...hashes].map(({ options }) => options).sort((a, b) => work(b) - work(a))
  return { options: costs[0] ?? optionsOf(LN, 8, 1), salt: randomBytes(16), hash: randomBytes(32) }
}

const work = ({ N = 0, r = 0, p = 0 }: ScryptOptions): number => N * r * p

/** True where the password is that of the hash. One derivation, whatever it says. */
export async function verify(
  password: string,
  { salt, hash, options }: PasswordHash,
  derive: Derive = deriveByScrypt,
): Promise<boolean> {
  return timingSafeEqual(await derive(password, salt, hash.length, options), hash)
}

/** True where both stand for the same password in the same form. */
export const isSameHash = (a: PasswordHash, b: PasswordHash): boolean =>
  a.salt.equals(b.salt) && a.hash.equals(b.hash) && work(a.options) === work(b.options)

function optionsOf(ln: number, r: number, p: number): ScryptOptions {
  const N = 2 ** ln
  return { N, r, p, maxmem: 128 * N * r * p + 1024 * 1024 }
}

const deriveByScrypt: Derive = (password, salt, length, options) =>
  new Promise((resolve, reject) =>
    scrypt(password.normalize('NFKC'), salt, length, options, (error, key) =>
      error ? reject(error) : resolve(key),
    ),
  )
