// Password hashes: `$scrypt$ln=15,r=8,p=1$SALT$HASH` (the PHC string format), with node's own scrypt (RFC 7914).
import { randomBytes, type ScryptOptions, scrypt, timingSafeEqual } from 'node:crypto'
import { ValueError } from '../../core/text'

export interface PasswordHash {
  options: ScryptOptions
  salt: Buffer
  hash: Buffer
}

const LN = 15 // 32 MiB and some 60 ms a try
const MEMORY = 256 * 1024 ** 2
const AT_ONCE = 2 // of libuv's four threads, so that DNS and files go on
const WAITING = 64

/** Reads the text form. Throws ValueError. */
export function parseHash(text: string): PasswordHash {
  const [, ln, r, p, salt, hash] =
    /^\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d)\$([A-Za-z0-9+/]{16,})\$([A-Za-z0-9+/]{32,})$/.exec(text) ?? []
  const cost = Number(ln)
  if (!salt || !hash || cost < 10 || cost > 20 || Number(r) < 1 || Number(p) < 1)
    throw new ValueError('is not a line of `relay-guard passwd NAME`')
  if (128 * 2 ** cost * Number(r) > MEMORY)
    throw new ValueError('asks for more memory than a login may have (256 MiB)')
  return {
    options: options(cost, Number(r), Number(p)),
    salt: Buffer.from(salt, 'base64'),
    hash: Buffer.from(hash, 'base64'),
  }
}

/** The text form for a new password, with a salt of its own. */
export async function makeHash(password: string): Promise<string> {
  const salt = randomBytes(16)
  const hash = await derive(password, salt, 32, options(LN, 8, 1))
  const plain = (data: Buffer) => data.toString('base64').replace(/=+$/, '')
  return `$scrypt$ln=${LN},r=8,p=1$${plain(salt)}$${plain(hash)}`
}

const nobody: PasswordHash = { options: options(LN, 8, 1), salt: randomBytes(16), hash: randomBytes(32) }

let running = 0
const queue: (() => void)[] = []

/**
 * True where the password is right. A name that is not there costs as much time as one that is.
 * Throws Error when more tries wait than can be answered in time.
 */
export async function verify(password: string, expected: PasswordHash = nobody): Promise<boolean> {
  if (running >= AT_ONCE) {
    if (queue.length >= WAITING) throw new Error('too many logins at once')
    await new Promise<void>((resolve) => queue.push(resolve))
  }
  running++
  try {
    const given = await derive(password, expected.salt, expected.hash.length, expected.options)
    return timingSafeEqual(given, expected.hash) && expected !== nobody
  } finally {
    running--
    queue.shift()?.()
  }
}

function options(ln: number, r: number, p: number): ScryptOptions {
  const N = 2 ** ln
  return { N, r, p, maxmem: 128 * N * r * p + 1024 * 1024 }
}

const derive = (password: string, salt: Buffer, length: number, how: ScryptOptions): Promise<Buffer> =>
  new Promise((resolve, reject) =>
    scrypt(password.normalize('NFKC'), salt, length, how, (error, key) =>
      error ? reject(error) : resolve(key),
    ),
  )
