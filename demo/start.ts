// npm start: runs until Ctrl-C, says what to try, and tells each decision and each mail as it comes.
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { continued, curl, hints, swaks } from './hints'
import { endOnSignals, isInterrupted } from './interrupt'
import { bold, byReply, dim, green, WIDTH, wrapped, yellow } from './paint'
import { type Decision, type News, Watch } from './watch'
import { from, networks, startWorld, user, type World } from './world'

/** Whether the shell would find this command. */
function isInstalled(command: string): boolean {
  return (process.env['PATH'] ?? '').split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, command), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

function introduce({ port, dir, servers }: World) {
  const line = (name: string, what: string) => `  ${name.padEnd(15)} ${what}`
  const next = ({ sink, name, what }: World['servers'][keyof World['servers']]) =>
    `${name} at ${sink.address()}: ${what}`
  const by = isInstalled('swaks') ? swaks : curl
  console.log(`${bold(`Haraka with relay-guard listens on 127.0.0.1:${port}`)}, in
  ${dir}
  Edit config/relay-guard/*.ini there: a change is in force after about 5 seconds.

${bold('Domains')}
${line('example.com', next(servers.first))}
${line('', next(servers.second))}
${line('example.org', next(servers.lmtp))}
${line('any other', next(servers.internet))}

${bold('Clients')}
${line(from.stranger, 'a stranger: may write to our domains')}
${line(networks.branch, 'branch office: may relay')}
${line(networks.guest, 'guest network: may never relay, logged in or not')}
${line(from.spammer, 'known spammer: refused')}
${line('any address', '30 connections a minute, then a flood: refused')}
${line(user.name, `a user, password ${user.password}: may relay as ${user.address}`)}

${bold('Try, in another terminal')}`)
  for (const hint of hints)
    console.log(`${dim(`  # ${hint.what}`)}\n  ${continued(by(port, hint), WIDTH, '    ')}`)
  console.log(`\n${bold('What happens')} ${dim('(Ctrl-C ends all and removes the directory)')}`)
}

const clock = (time: Date) => dim(time.toLocaleTimeString('en-GB'))

const indent = ' '.repeat(10)

function tellDecision({ time, outcome, ip, user: name, from: sender, to, rule, reply }: Decision) {
  const who = name ? `${ip} (${name})` : ip
  const envelope = sender && `  ${sender} -> ${to || '?'}`
  const rest = wrapped(`${who}${envelope}`, indent, indent.length + outcome.length + 2)
  console.log(`${clock(time)}  ${byReply(reply)(outcome)}  ${rest}`)
  console.log(`${indent}${wrapped(`by ${rule}${reply && `: ${reply}`}`, indent)}`)
}

function tell({ decisions, arrivals, notices }: News) {
  decisions.forEach(tellDecision)
  for (const { server, from: sender, to } of arrivals) {
    console.log(
      `${clock(new Date())}  ${green('mail')} at ${server.name}: ${sender || '<>'} -> ${to.join(', ')}`,
    )
  }
  for (const notice of notices) console.log(`${clock(new Date())}  ${yellow(wrapped(notice, indent))}`)
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

async function main() {
  endOnSignals()
  console.log(dim('Installing the package into a fresh Haraka and starting it on loopback ...\n'))
  const world = await startWorld(2525)
  const watch = new Watch(world)
  watch.news()
  if (!isInterrupted()) introduce(world)
  while (!isInterrupted()) {
    tell(watch.news())
    if (!isAlive(world.haraka.pid))
      throw new Error(`Haraka has ended:\n${world.haraka.output().slice(-2000)}`)
    await sleep(100)
  }
  await world.close()
}

main().catch((error: Error) => {
  // Ctrl-C reaches npm and Haraka, too: what they say of it while we start is no error.
  if (isInterrupted()) process.exit(0)
  console.error(error.message)
  process.exit(1)
})
