// Debian's Postfix and Dovecot as next hops: from a directory of their own on loopback ports, stopped by pid, so that no
// service of this machine is touched.
import { type ChildProcess, spawn } from 'node:child_process'
import {
  accessSync,
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const MASTER = '/usr/lib/postfix/sbin/master'
const DOVECOT = '/usr/sbin/dovecot'
const NOBODY = 65_534

export interface MailServer {
  port: number
  /** Of its first process, while it runs. */
  pid(): number
  /** All that it has logged, for the message of a test that fails. */
  log(): string
  /** Ends it, and all its processes, as an operator's restart does. */
  stop(): Promise<void>
  start(): Promise<void>
  /** Ends it and removes its directory. */
  remove(): Promise<void>
}

/** Why these servers cannot be started here; false where they can. */
export function missing(server: 'postfix' | 'dovecot'): string | false {
  try {
    accessSync(server === 'postfix' ? MASTER : DOVECOT)
  } catch {
    return `${server === 'postfix' ? 'postfix' : 'dovecot-lmtpd'} is not installed`
  }
  return process.getuid?.() === 0 ? false : `${server} starts as root only`
}

const uidOf = (user: string): number =>
  Number(new RegExp(`^${user}:[^:]*:(\\d+):`, 'm').exec(readFileSync('/etc/passwd', 'utf8'))?.[1])

function server(folder: string, port: number, log: string, run: () => ChildProcess): MailServer {
  let child: ChildProcess | undefined
  let ended: Promise<unknown> = Promise.resolve()
  const read = () => {
    try {
      return readFileSync(log, 'utf8')
    } catch {
      return ''
    }
  }
  const kill = (signal: NodeJS.Signals) => {
    // The process group that it was given, so that none of its children is left.
    try {
      if (child?.pid) process.kill(-child.pid, signal)
    } catch {
      // It is gone.
    }
  }
  // Before the listeners of other servers, which may throw: no process of it may outlive this one.
  process.prependListener('exit', () => {
    kill('SIGKILL')
    rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
  })
  const stop = async () => {
    kill('SIGTERM')
    const forced = setTimeout(() => kill('SIGKILL'), 30_000)
    await ended
    clearTimeout(forced)
    kill('SIGKILL')
    child = undefined
  }
  return {
    port,
    pid: () => child?.pid ?? 0,
    log: read,
    stop,
    async start() {
      const started = run()
      child = started
      ended = new Promise((resolve) => started.once('close', resolve))
      for (let left = 4500; !(await greets(port)); left--) {
        if (!left || started.exitCode !== null)
          throw new Error(`${started.spawnfile} does not start:\n${read()}`)
        await sleep(20)
      }
    },
    async remove() {
      await stop()
      rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
    },
  }
}

function greets(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.on('error', () => resolve(false))
    socket.on('close', () => resolve(false))
    socket.once('data', () => {
      resolve(true)
      socket.end('QUIT\r\n')
    })
  })
}

/**
 * A Postfix that takes mail for box.test: for these users, of this size at most, over so many connections at once, and
 * hands it on to `sink`. `settings` are further lines of main.cf, or others than these; with `defaultProcesses` it runs
 * as many processes as it would by itself.
 */
export function postfix(options: {
  port: number
  users: string[]
  sink: number
  size: number
  connections: number
  settings?: Record<string, string>
  defaultProcesses?: boolean
}): MailServer {
  const folder = mkdtempSync(join(tmpdir(), 'postfix-'))
  chmodSync(folder, 0o755)
  const at = (name: string) => join(folder, name)
  const main = {
    compatibility_level: '3.6',
    queue_directory: at('queue'),
    data_directory: at('data'),
    maillog_file: at('log'),
    maillog_file_prefixes: folder,
    myhostname: 'hop.test',
    inet_interfaces: '127.0.0.1',
    inet_protocols: 'ipv4',
    mynetworks: '192.0.2.0/24',
    mydestination: '',
    alias_maps: '',
    local_recipient_maps: '',
    virtual_mailbox_domains: 'box.test',
    virtual_mailbox_maps: `texthash:${at('users')}`,
    virtual_transport: `smtp:[127.0.0.1]:${options.sink}`,
    smtpd_peername_lookup: 'no',
    smtpd_recipient_restrictions: 'reject_unauth_destination',
    smtpd_client_connection_count_limit: String(options.connections),
    smtpd_error_sleep_time: '0',
    smtpd_soft_error_limit: '1000',
    smtpd_hard_error_limit: '1000',
    message_size_limit: String(options.size),
    smtp_tls_security_level: 'none',
    smtp_connection_cache_on_demand: 'no',
    ...options.settings,
  }
  const processes = (most: number) => (options.defaultProcesses ? '-' : most)
  const services = [
    `127.0.0.1:${options.port} inet n - n - ${processes(40)} smtpd`,
    'postlog unix-dgram n - n - 1 postlogd',
    'cleanup unix n - n - 0 cleanup',
    'qmgr unix n - n 300 1 qmgr',
    'rewrite unix - - n - - trivial-rewrite',
    ...['bounce', 'defer', 'trace'].map((name) => `${name} unix - - n - 0 bounce`),
    ...['error', 'retry'].map((name) => `${name} unix - - n - - error`),
    `smtp unix - - n - ${processes(20)} smtp`,
    'anvil unix - - n - 1 anvil',
    'scache unix - - n - 1 scache',
  ]
  writeFileSync(
    at('main.cf'),
    Object.entries(main)
      .map(([key, value]) => `${key} = ${value}\n`)
      .join(''),
  )
  writeFileSync(at('master.cf'), `${services.join('\n')}\n`)
  writeFileSync(at('users'), options.users.map((user) => `${user}@box.test x\n`).join(''))
  const owner = uidOf('postfix')
  const queues = [
    'active',
    'bounce',
    'corrupt',
    'defer',
    'deferred',
    'flush',
    'hold',
    'incoming',
    'private',
    'saved',
    'trace',
  ]
  mkdirSync(at('queue/pid'), { recursive: true })
  for (const name of ['data', ...['public', 'maildrop', ...queues].map((queue) => `queue/${queue}`)]) {
    mkdirSync(at(name))
    chownSync(at(name), owner, -1)
  }
  return server(folder, options.port, at('log'), () =>
    spawn(MASTER, ['-c', folder, '-d'], { detached: true, stdio: 'ignore' }),
  )
}

/** A Dovecot whose LMTP takes mail for these users; a user's value is how many octets the mailbox may hold, or nothing. */
export function dovecot(options: { port: number; users: Record<string, number | undefined> }): MailServer {
  const folder = mkdtempSync(join(tmpdir(), 'dovecot-'))
  chmodSync(folder, 0o755)
  const at = (name: string) => join(folder, name)
  mkdirSync(at('mail'))
  chownSync(at('mail'), NOBODY, NOBODY)
  const users = Object.entries(options.users).map(
    ([user, octets]) =>
      `${user}:::::::${octets === undefined ? '' : `userdb_quota_rule=*:bytes=${octets}`}\n`,
  )
  writeFileSync(at('users'), users.join(''))
  writeFileSync(
    at('dovecot.conf'),
    `protocols = lmtp
base_dir = ${at('run')}
state_dir = ${at('state')}
log_path = ${at('log')}
instance_name = ${folder.slice(1).replaceAll('/', '-')}
ssl = no
listen = 127.0.0.1
postmaster_address = postmaster@box.test
hostname = hop.test
mail_location = maildir:${at('mail')}/%u
mail_uid = ${NOBODY}
mail_gid = ${NOBODY}
first_valid_uid = 1
mail_plugins = quota
plugin {
  quota = count:User quota
  quota_vsizes = yes
}
passdb {
  driver = passwd-file
  args = username_format=%u ${at('users')}
}
userdb {
  driver = passwd-file
  args = username_format=%u ${at('users')}
}
service lmtp {
  inet_listener lmtp {
    address = 127.0.0.1
    port = ${options.port}
  }
  unix_listener lmtp {
    mode = 0600
  }
}
`,
  )
  return server(folder, options.port, at('log'), () =>
    spawn(DOVECOT, ['-F', '-c', at('dovecot.conf')], { detached: true, stdio: 'ignore' }),
  )
}
