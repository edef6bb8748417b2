// CPU time that a process and all it has started have used, from /proc.
import { readdirSync, readFileSync } from 'node:fs'

/** The kernel's clock tick in which /proc counts CPU time, a second's hundredth on every Linux. */
const TICK_MS = 10

/** Of one process: its parent, and its ticks with those of the children that it has waited for. */
interface Usage {
  parent: number
  ticks: number
}

function usageOf(pid: string): Usage | undefined {
  try {
    // Behind the name, which may hold spaces and brackets.
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = text.slice(text.lastIndexOf(') ') + 2).split(' ')
    const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0)
    return { parent: Number(fields[1]), ticks }
  } catch {
    // It ended meanwhile; its parent has its ticks.
    return undefined
  }
}

/**
 * Milliseconds of CPU, user and system, that process `pid` and its descendants have used, those that have ended
 * included. 0 when there is no such process.
 */
export function cpuOf(pid: number): number {
  const processes = new Map<number, Usage>()
  for (const name of readdirSync('/proc')) {
    const usage = /^\d+$/.test(name) ? usageOf(name) : undefined
    if (usage) processes.set(Number(name), usage)
  }
  const isBelow = (at: number): boolean => {
    if (at === pid) return true
    const parent = processes.get(at)?.parent
    return parent !== undefined && parent > 0 && isBelow(parent)
  }
  const below = [...processes].filter(([at]) => isBelow(at))
  return below.reduce((sum, [, { ticks }]) => sum + ticks, 0) * TICK_MS
}
