// A real file system that is soon full: a tmpfs of its own, which only root can mount.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'

const mounted = new Set<string>()
const unmount = (path: string) => {
  if (!mounted.delete(path)) return
  execFileSync('umount', ['-l', path])
  rmSync(path, { recursive: true, force: true })
}
process.on('exit', () => mounted.forEach(unmount))

export interface SmallDisk {
  path: string
  /** Bytes and files that may still be written. */
  free(): { bytes: number; files: number }
}

/** Mounts a tmpfs with these options, as `size=8m,nr_inodes=100`. Undefined, and the test is skipped, where that is not permitted. */
export function mountSmallDisk(t: TestContext, options: string): SmallDisk | undefined {
  const path = mkdtempSync(join(tmpdir(), 'relay-guard-disk-'))
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'relay-guard-test', path], { stdio: 'pipe' })
  } catch (error) {
    rmSync(path, { recursive: true })
    t.skip(`a small file system cannot be mounted: ${(error as Error).message.split('\n')[0]}`)
    return undefined
  }
  mounted.add(path)
  t.after(() => unmount(path))
  const free = () => {
    const { bavail, bsize, ffree } = statfsSync(path)
    return { bytes: bavail * bsize, files: ffree }
  }
  return { path, free }
}
