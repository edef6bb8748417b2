// Files as they are on disk: whole or not at all.
import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  lstatSync,
  openSync,
  readFileSync,
  statSync,
} from 'node:fs'
import { dirname } from 'node:path'

/** Why a file cannot be used, as the end of a config error: `cannot be read: …`. */
export class FileError extends Error {
  constructor(
    message: string,
    /** `missing`: there is none. `unfinished`: somebody seems to be writing it right now. */
    readonly state?: 'missing' | 'unfinished',
  ) {
    super(message)
  }
}

const NOWHERE = 'a link leads nowhere'

const hasName = (path: string): boolean => lstatSync(path, { throwIfNoEntry: false }) !== undefined

/** Of a path at which there is no file: it, or the first directory above it that has a name, is a link to nothing. */
function leadsNowhere(path: string): boolean {
  if (hasName(path)) return !existsSync(path)
  const above = dirname(path)
  return above !== path && leadsNowhere(above)
}

/**
 * True where nothing has this name. A link that leads nowhere, itself or on the way there, is no missing file: what it
 * should lead to may only not be mounted yet.
 */
export function isAbsent(path: string): boolean {
  try {
    return !hasName(path) && !leadsNowhere(path)
  } catch {
    return false
  }
}

/** Differs whenever the file, or what it says, may differ: `missing`, or numbers; otherwise the reason why it is not there. */
export function stampOf(path: string): string {
  try {
    const stat = statSync(path, { throwIfNoEntry: false, bigint: true })
    if (stat) return printStat(stat)
    return leadsNowhere(path) ? NOWHERE : 'missing'
  } catch (error) {
    return String(error)
  }
}

interface Stat {
  ino: bigint
  size: bigint
  mtimeNs: bigint
  ctimeNs: bigint
}

const printStat = ({ ino, size, mtimeNs, ctimeNs }: Stat): string => [ino, size, mtimeNs, ctimeNs].join(':')

/** Of errors of the system. A process that has too many files open may read it a little later. */
const STATES: Record<string, FileError['state']> = {
  ENOENT: 'missing',
  EMFILE: 'unfinished',
  ENFILE: 'unfinished',
}

/** The bytes of a regular file. Throws FileError where it is none, cannot be read, or changes while it is read. */
export function readWhole(path: string): Buffer {
  let fd: number | undefined
  try {
    // Opening a FIFO that nobody writes to would stop the process.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
    const before = fstatSync(fd, { bigint: true })
    if (!before.isFile()) throw new FileError('cannot be read: it is not a regular file')
    const data = readFileSync(fd)
    if (printStat(fstatSync(fd, { bigint: true })) !== printStat(before))
      throw new FileError('cannot be read: it changes while it is read', 'unfinished')
    return data
  } catch (error) {
    if (error instanceof FileError) throw error
    const { code = '', message } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' && stampOf(path) === NOWHERE) throw new FileError(`cannot be read: ${NOWHERE}`)
    // Without the path: whoever reports the error names the file, and it may be a password in the wrong place.
    const reason = /^E[A-Z\d]+: [^,]+/.exec(message)?.[0] ?? code
    throw new FileError(`cannot be read: ${reason}`, STATES[code])
  } finally {
    if (fd !== undefined) closeSync(fd)
  }
}

/** What is remembered of a file in force; its text is not, for a list may be large. */
export interface Shape {
  empty: boolean
  endsInALine: boolean
}

/** Bytes of ASCII that trim() takes away. */
const SPACE = new Set([...'\t\n\v\f\r '].map((char) => char.charCodeAt(0)))

/** True where nothing but white space stands in it, of ASCII or not, as trim() knows it; a comment is something. */
export function isEmpty(data: Buffer): boolean {
  const first = data.find((byte) => !SPACE.has(byte))
  // A list may be large: most need not be decoded.
  return first === undefined || (first >= 0x80 && data.toString('utf8').trim() === '')
}

const LINE_ENDS = [0x0a, 0x0d]

/** Whether it is empty, and whether its last line has an end. */
export const shapeOf = (data: Buffer): Shape => ({
  empty: isEmpty(data),
  endsInALine: LINE_ENDS.includes(data.at(-1) ?? 0),
})
