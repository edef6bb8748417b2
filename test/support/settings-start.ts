// Run as a process of its own: how plugins start with the files of a directory, and a worker with a broken one.
import cluster from 'node:cluster'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Plugin } from '../../core/haraka/types'
import { Setting } from '../../core/ini/reload'
import { failStartOnErrors } from '../../core/ini/start-errors'
import type { Watch } from '../../core/ini/watch'
import { runAtOnce } from '../../core/time-slices'
import { readAcl } from '../../plugins/acl/config'
import { classify } from '../../plugins/acl/policy'
import { readAuth } from '../../plugins/auth/config'

function pluginOf(name: string): Plugin {
  const silent = () => undefined
  return {
    name,
    timeout: 0,
    config: {
      get: (file) => (file === 'plugins' ? ['relay-guard/acl', 'relay-guard/auth'] : { main: { nodes: 1 } }),
    },
    haraka_require: silent,
    register_hook: silent,
    loginfo: silent,
    lognotice: silent,
    logwarn: silent,
    logerror: (...parts) => console.log(`error: ${parts.join(' ')}`),
    logcrit: (...parts) => console.log(`crit: ${parts.join(' ')}`),
  }
}

/** The file is read once: on a busy machine the master would find the broken one while its workers start, and say so. */
const once: Watch = { now: () => 0, start: () => {} }

const aclOf = (plugin: Plugin) =>
  new Setting(plugin, 'acl.ini', { read: (r) => runAtOnce(readAcl(r)) }, undefined, once)

function twoBrokenFiles(config: string) {
  writeFileSync(join(config, 'acl.ini'), '[realy]\n10.0.0.0/8\n')
  writeFileSync(join(config, 'auth.ini'), '[main]\nsender = all\n')
  const acl = pluginOf('relay-guard/acl')
  aclOf(acl)
  failStartOnErrors(acl)
  console.log('acl registered')
  const auth = pluginOf('relay-guard/auth')
  new Setting(auth, 'auth.ini', { read: readAuth })
  try {
    failStartOnErrors(auth)
  } catch (error) {
    console.log(`refused: ${(error as Error).message}`)
  }
}

/** Two workers, one after the other, with a list of a million entries: more than a pipe or a variable holds. */
function master(config: string, dir: string) {
  const list = Array.from({ length: 1_000_000 }, (_, i) => `203.${i >> 16}.${(i >> 8) & 255}.${i & 255}`)
  writeFileSync(join(dir, 'list.txt'), `198.51.100.1\n${list.join('\n')}\n`)
  writeFileSync(join(config, 'acl.ini'), `[relay]\n192.0.2.1\n[files]\nrelay[] = ${join(dir, 'list.txt')}\n`)
  const { hash } = aclOf(pluginOf('relay-guard/acl'))
  writeFileSync(join(config, 'acl.ini'), '[realy]\n')
  rmSync(join(dir, 'list.txt'))
  const ours = (name: string) => name.startsWith(`relay-guard-${process.pid}-`)
  const left = () =>
    [tmpdir(), '/dev/shm'].filter(existsSync).flatMap((each) => readdirSync(each).filter(ours))
  cluster.fork({ HASH: hash }).once('exit', () =>
    cluster.fork({ HASH: hash }).once('exit', () => {
      console.log(`left in the temp directory: ${left().join() || 'none'}`)
      rmSync(dir, { recursive: true, force: true })
    }),
  )
}

function worker() {
  const plugin = pluginOf('relay-guard/acl')
  const { value, hash } = aclOf(plugin)
  failStartOnErrors(plugin)
  const said = ['192.0.2.1', '198.51.100.1'].map((ip) => {
    const { class: kind } = classify(value, { ip, localIp: '127.0.0.1', localPort: 25 })
    return `${ip} ${kind === 'relay' ? 'may relay' : kind}`
  })
  console.log(`worker: ${said.join(', ')}, same hash: ${hash === process.env['HASH']}`)
  process.disconnect()
}

if (cluster.isWorker) worker()
else {
  const dir = mkdtempSync(join(tmpdir(), 'relay-guard-start-'))
  process.env['HARAKA'] = dir
  const config = join(dir, 'config', 'relay-guard')
  mkdirSync(config, { recursive: true })
  if (process.argv[2] === 'worker') master(config, dir)
  else {
    twoBrokenFiles(config)
    rmSync(dir, { recursive: true, force: true })
  }
}
