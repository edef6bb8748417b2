// Marks of overload.ini that this machine does not keep, now or ever.
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { OverloadConfig } from '../../plugins/overload/config'
import { readFileSystem } from '../../plugins/overload/measure'
import { leastOf, printSize } from '../../plugins/overload/policy'

/** Haraka's queue: config/queue_dir, or `queue` in Haraka's directory. */
function queueDir(dir: string): string {
  try {
    return resolve(readFileSync(join(dir, 'config', 'queue_dir'), 'utf8').trim())
  } catch {
    return join(dir, 'queue')
  }
}

/** Warnings: the file system of the queue is too small for a mark, or has less free at the moment. */
export async function overloadWarnings({ disk, inodes }: OverloadConfig, dir: string): Promise<string[]> {
  const path = queueDir(dir)
  const found = await readFileSystem(path).catch(() => undefined)
  if (!found)
    return [`overload.ini [disk]: free space of ${path} cannot be read, so nobody is refused for it`]
  const warnings: string[] = []
  const { free, total } = found.disk
  const line = (key: string, text: string) =>
    `overload.ini [disk] ${key} = ${text}: the file system of ${path}`
  const least = disk && leastOf(disk, found.disk)
  if (disk && least && total < least)
    warnings.push(`${line('min_free', disk.text)} has ${printSize(total)} in all, so no mail is ever taken`)
  else if (disk && least && free < least)
    warnings.push(`${line('min_free', disk.text)} has ${printSize(free)} free, so no mail is taken now`)
  if (inodes && found.inodes && found.inodes.free < leastOf(inodes, found.inodes))
    warnings.push(
      `${line('min_free_inodes', inodes.text)} has room for ${found.inodes.free} files, so no mail is taken now`,
    )
  return warnings
}
