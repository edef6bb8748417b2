// The demo as a person runs it: the story ends well, and what `npm start` prints works when it is pasted into a shell.
import assert from 'node:assert/strict'
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { curl, hints } from '../demo/hints'
import { parseDecision } from '../demo/watch'
import { SmtpClient } from './support/smtp-client'

/** Runs one of the demo's programs with a directory of its own for temporary files. */
function run(program: string) {
  const directory = mkdtempSync(join(tmpdir(), 'relay-guard-test-demo-'))
  const child: ChildProcess = spawn(process.execPath, [join(__dirname, '..', 'demo', `${program}.js`)], {
    env: { ...process.env, TMPDIR: directory },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (part: string) => {
      output += part
    })
  }
  const status = new Promise<number | null>((resolve) => child.once('close', resolve))
  async function shows(pattern: RegExp) {
    for (const end = Date.now() + 120_000; !pattern.test(output); await sleep(50)) {
      assert.ok(Date.now() < end && child.exitCode === null, `no ${pattern} in:\n${output}`)
    }
  }
  const left = () => readdirSync(directory)
  const clean = () => {
    child.kill('SIGKILL')
    rmSync(directory, { recursive: true, force: true })
  }
  return { child, status, shows, left, clean, output: () => output }
}

/** What a shell says to a line that was pasted into it. */
const shell = (line: string): Promise<string> =>
  new Promise((resolve) => {
    execFile('bash', ['-c', line], { timeout: 120_000 }, (_error, stdout, stderr) => resolve(stdout + stderr))
  })

const isOpen = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
    socket.once('connect', () => socket.destroy())
  })

const tooWide = (text: string) => text.split('\n').filter((line) => line.length > 100)

/** What a client from this address is told before it is disconnected. */
async function connectFrom(port: number, from: string): Promise<string> {
  const { greeting } = await SmtpClient.connect({ port, from })
  return greeting.lines.join('\n')
}

// They wait for npm most of the time.
describe('the demo', { concurrency: true }, () => {
  test('the story ends as expected and leaves nothing behind', async (t) => {
    const demo = run('demo')
    t.after(demo.clean)
    assert.equal(await demo.status, 0, demo.output())
    const text = demo.output()
    for (const line of [
      /1 {2}A stranger writes to example\.com\n.*\n.*250 2\.0\.0.*\n.*domains\.ini \[example\.com\] next_hop\n.*arrived at mx1/,
      /2 {2}A stranger writes to example\.org.*\n.*\n.*\n.*\n.*arrived at lmtp/,
      /550 5\.1\.1 <nobody@example\.com>: no such user here/,
      /550 5\.7\.1 Relaying to <friend@elsewhere\.example> denied/,
      /\[example\.com\] routing_characters\n.*went nowhere/,
      /MAIL FROM:<boss@example\.com> 550\n/,
      /AUTH \[user\] alice\n.*arrived at .*Internet/,
      /acl\.ini \[relay\] 127\.0\.10\.0\/24\n.*arrived at Internet/,
      /acl\.ini \[never\] 127\.0\.20\.0\/24.*\n.*went nowhere/,
      /disk of the mail server is nearly full\n.*MAIL FROM:<eve@elsewhere\.example> 452\n.*452 4\.3\.1 Not enough disk space, try again later \(id .*\n.*overload\.ini \[disk\] min_free\n.*went nowhere/,
      /mx1 is down.*\n.*\n.*\n.*\n.*arrived at mx2/,
      /All as expected\./,
    ])
      assert.match(text, line)
    assert.doesNotMatch(text, /\x1b|BUT|NO$/m)
    assert.match(text, /connect 200 times, 30 let in, the last time 421$/m)
    assert.deepEqual(tooWide(text), [])
    assert.deepEqual(demo.left(), [])
  })

  for (const [when, pattern] of [
    ['while npm installs', /Installing/],
    ['in the midst of the story', /^ 3 {2}/m],
  ] as const)
    test(`Ctrl-C ${when} ends the story and leaves nothing behind`, async (t) => {
      const demo = run('demo')
      t.after(demo.clean)
      await demo.shows(pattern)
      demo.child.kill('SIGINT')
      assert.equal(await demo.status, 130, demo.output())
      assert.deepEqual(demo.left(), [])
    })

  test('what start prints works in a shell, it tells what falls, and Ctrl-C leaves nothing behind', async (t) => {
    const start = run('start')
    t.after(start.clean)
    await start.shows(/What happens/)
    const port = Number(/listens on 127\.0\.0\.1:(\d+)/.exec(start.output())?.[1])
    const lines = start.output().match(/(?<=^ {2}# .*\n {2})(?:.*\\\n)*.*/gm) ?? []
    assert.equal(lines.length, hints.length)
    const said = await Promise.all([...lines, ...hints.map((hint) => curl(port, hint))].map(shell))
    for (const [index, { what }] of hints.entries()) {
      const refused = /relayed$|wrapped|our boss|guest network/.test(what)
      for (const text of [said[index] ?? '', said[hints.length + index] ?? ''])
        assert.match(text, refused ? /550 5\.7\.1/ : /250 2\.0\.0 (Message queued|Queued)/, what)
    }
    await start.shows(
      /recipient\.relay-denied {2}127\.0\.20\.1 \(alice\) {2}alice@example\.com -> friend@elsewhere/,
    )
    await start.shows(/by acl\.ini \[relay\] 127\.0\.10\.0\/24\n/)
    await start.shows(/mail at mx1: eve@elsewhere\.example -> anna@example\.com/)
    await start.shows(/mail at Internet: alice@example\.com -> friend@elsewhere\.example/)
    // The second one is refused at accept().
    assert.match(await connectFrom(port, '127.0.30.1'), /^554 /)
    assert.match(await connectFrom(port, '127.0.30.1'), /^554 /)
    await start.shows(/(?:connection\.rejected.*\s[\s\S]*){2}/)
    assert.equal(start.output().match(/connection\.rejected/g)?.length, 2)
    assert.doesNotMatch(start.output(), /decision/)
    assert.deepEqual(tooWide(start.output()), [])
    start.child.kill('SIGINT')
    assert.equal(await start.status, 0, start.output())
    assert.deepEqual(start.left(), [])
    assert.equal(await isOpen(port), false)
  })
})

test('a decision is read from the log whatever the client wrote', () => {
  const line =
    '2026-01-02T03:04:05.678Z [NOTICE] [4F.1] [relay-guard/domains] decision id=4F.1 outcome=recipient.relay-denied ' +
    'rule="domains.ini [b.example] is not there" ip=127.0.0.1 from="a\\" rule=x@b.example" to=c@b.example reply="550 no"'
  assert.deepEqual(parseDecision(line), {
    time: new Date('2026-01-02T03:04:05.678Z'),
    outcome: 'recipient.relay-denied',
    rule: 'domains.ini [b.example] is not there',
    ip: '127.0.0.1',
    user: '',
    from: 'a" rule=x@b.example',
    to: 'c@b.example',
    reply: '550 no',
  })
  assert.equal(parseDecision('2026-01-02T03:04:05.678Z [INFO] [-] [core] loading tls.ini'), undefined)
})
