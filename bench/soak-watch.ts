// Memory and open files of processes, sampled from /proc.
import { readdirSync, readFileSync } from 'node:fs'
import { median } from './figures'

/** What one process held at one moment. */
interface Sample {
  /** Seconds since the watch began. */
  at: number
  /** Resident memory, MiB. */
  memory: number
  files: number
}

/** Of one process over the whole watch. */
export interface Watched {
  name: string
  pid: number
  samples: Sample[]
}

function sampleOf(pid: number, at: number): Sample | undefined {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8')
    const memory = Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]) / 1024
    return { at, memory, files: readdirSync(`/proc/${pid}/fd`).length }
  } catch {
    return undefined
  }
}

/** Begins to sample these processes every so many ms. `stop` takes the last sample; one that has ended has no more of them. */
export function watch(processes: { name: string; pid: number }[], ms: number) {
  const start = performance.now()
  const all: Watched[] = processes.map((each) => ({ ...each, samples: [] }))
  const look = () => {
    const at = (performance.now() - start) / 1000
    for (const { pid, samples } of all) {
      const sample = sampleOf(pid, at)
      if (sample) samples.push(sample)
    }
  }
  look()
  const timer = setInterval(look, ms)
  return {
    stop: (): Watched[] => {
      clearInterval(timer)
      look()
      return all
    },
  }
}

/** Between two moments, seconds: the median of each slice of it, of which there are `slices`. */
export function medians(
  { samples }: Watched,
  { from, until, slices }: { from: number; until: number; slices: number },
): number[] {
  const length = (until - from) / slices
  return Array.from({ length: slices }, (_, slice) =>
    median(
      samples
        .filter(({ at }) => at >= from + slice * length && at < from + (slice + 1) * length)
        .map(({ memory }) => memory),
    ),
  )
}
