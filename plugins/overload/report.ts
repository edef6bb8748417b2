// The lines in the log: one for each change of a state.
import { KINDS, type Kind } from './config'
import type { States } from './policy'

/** Who writes the line. */
export interface Reporter {
  /** It takes no mail, and looks at disk and queue for all workers. */
  isMaster: boolean
  isWorker: boolean
}

const isOfHost = (kind: Kind) => kind === 'disk' || kind === 'inodes' || kind === 'queue'

/** `overload: disk 410M free (min 1G): mail is refused with 452 until 1.3G are free`, one for each state that has changed. */
export function changes(before: States, now: States, { isMaster, isWorker }: Reporter): string[] {
  const whose = isWorker ? `worker ${process.pid}: ` : ''
  return KINDS.filter((kind) => (isOfHost(kind) ? !isWorker : !isMaster)).flatMap((kind) => {
    const was = before[kind]?.level ?? 0
    const is = now[kind]?.level ?? 0
    if (was === is) return []
    if (isOfHost(kind) && was > 0 && is > 0) return []
    const figure = now[kind]?.figure ?? `${kind} is not looked at any more`
    return [`${is === 0 ? 'overload over' : 'overload'}: ${whose}${figure}${consequence(kind, was, is)}`]
  })
}

function consequence(kind: Kind, was: number, is: number): string {
  if (is === 0) return ''
  if (isOfHost(kind)) return ': mail is refused with 452'
  if (is === 2) return ': everybody is refused with 421'
  return was === 2 ? ': [relay] clients and users may come again' : ': strangers are refused with 421'
}
